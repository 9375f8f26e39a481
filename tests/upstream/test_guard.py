"""The egress guard, by what a real foreign listener sees: it counts what it accepts, and what it is sent.

The scenes at the end are run again with a forgetful guard, and with a pool that mixes addresses up, to show that they would notice.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Any

import pytest
from loops import Runner
from raw_peers import Heard, Names, Peer, Wire, answering, listening, post, transport

from gateway.core.exchange import Attempt
from gateway.core.policy import Deployment, Endpoint, Model, Places, Tls
from gateway.core.pricing import Tariff
from gateway.ports import EgressRefused
from gateway.upstream.address import Address
from gateway.upstream.connection import Connection
from gateway.upstream.guard import Guard, pass_for, real_ip
from gateway.upstream.http import Failure, address_of
from gateway.upstream.pool import Pool

# --- the first check: only a route's own address ---


@dataclass(frozen=True)
class Route:
    deployment: Deployment


@dataclass(frozen=True)
class Decision:
    routes: tuple[Route, ...]


NOWHERE = Places(frozenset())
NONE: frozenset[str] = frozenset()


def endpoint(id: str = "ours", **changes: Any) -> Endpoint:
    made = Endpoint(
        id=id,
        provider="ours",
        dialect="vllm",
        scheme="http",
        host="10.2.0.7",
        port=8000,
        path="/v1",
        secret=None,
        resolves_to=(ip_network("10.2.0.0/16"),),
        tls=Tls(),
        processed_in=NOWHERE,
        operated_under=NOWHERE,
        assurances=(),
        apis=NONE,
        tools=NONE,
    )
    return replace(made, **changes)


def deployment(at: Endpoint, model: str = "m", **changes: Any) -> Deployment:
    fields: dict[str, Any] = {
        "id": f"{at.id}/{model}",
        "endpoint": at,
        "model": Model(model, NOWHERE, None, NONE, NONE, {}),
        "upstream_model": model,
        "tariff": Tariff(),
        "processed_in": NOWHERE,
        "operated_under": NOWHERE,
        "assurances": (),
        "context": None,
        "abilities": NONE,
    }
    return Deployment(**(fields | changes))


def addresses(*endpoints: Endpoint) -> dict[str, Address]:
    return {each.id: address_of(each, None) for each in endpoints}


def test_a_route_of_the_decision_passes_with_the_address_of_its_endpoint() -> None:
    here, there = deployment(endpoint("here")), deployment(endpoint("there", host="10.2.0.8"))
    known = addresses(here.endpoint, there.endpoint)
    decision = Decision((Route(here), Route(there)))
    for one in (here, there):
        assert pass_for(decision, Attempt(1, one), known) is known[one.endpoint.id]


def test_an_equal_deployment_is_the_same_route() -> None:
    here = deployment(endpoint())
    assert pass_for(Decision((Route(here),)), Attempt(1, replace(here)), addresses(here.endpoint)).host == "10.2.0.7"


@pytest.mark.parametrize(
    "imposter",
    [
        deployment(endpoint(), "other"),
        deployment(endpoint("elsewhere")),
        deployment(endpoint(host="10.2.0.8")),  # the same name, at another place: from another snapshot, say
        deployment(endpoint(), processed_in=Places(None)),
    ],
    ids=["another model", "another endpoint", "the same id elsewhere", "the same id with other labels"],
)
def test_what_is_no_route_does_not_pass(imposter: Deployment) -> None:
    here = deployment(endpoint())
    with pytest.raises(EgressRefused, match=f"`{imposter.id}` is not a route"):
        pass_for(Decision((Route(here),)), Attempt(1, imposter), addresses(imposter.endpoint))


def test_a_refusal_lets_nothing_pass() -> None:
    here = deployment(endpoint())
    with pytest.raises(EgressRefused):
        pass_for(Decision(()), Attempt(1, here), addresses(here.endpoint))


@pytest.mark.parametrize(
    "off", [deployment(endpoint(enabled=False)), deployment(endpoint(), enabled=False)], ids=["endpoint", "deployment"]
)
def test_what_is_disabled_does_not_pass(off: Deployment) -> None:
    with pytest.raises(EgressRefused, match="disabled"):
        pass_for(Decision((Route(off),)), Attempt(1, off), addresses(off.endpoint))


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "other"},
        {"scheme": "https"},
        {"host": "10.2.0.8"},
        {"port": 8001},
        {"resolves_to": ()},
        {"resolves_to": (ip_network("10.0.0.0/8"),)},
        {"tls": Tls(ca_file="/other.pem")},
    ],
    ids=str,
)
def test_an_address_that_differs_from_its_endpoint_does_not_pass(change: dict[str, Any]) -> None:
    here = deployment(endpoint())
    known = {"ours": replace(address_of(here.endpoint, None), **change)}
    with pytest.raises(EgressRefused, match="`ours`"):
        pass_for(Decision((Route(here),)), Attempt(1, here), known)


def test_an_endpoint_without_address_does_not_pass() -> None:
    here = deployment(endpoint())
    with pytest.raises(EgressRefused, match="no address"):
        pass_for(Decision((Route(here),)), Attempt(1, here), {})


def test_an_address_says_where_and_with_which_credential_and_never_the_credential() -> None:
    here = endpoint(secret="env:KEY", tls=Tls(ca_file="/ca.pem"))
    one, same, rotated, none = (address_of(here, secret) for secret in ("s3cret", "s3cret", "r0tated", None))
    assert one == same and hash(one) == hash(same)
    assert len({one, rotated, none}) == 3
    assert "s3cret" not in repr(one)
    assert (one.endpoint, one.scheme, one.host, one.port, one.resolves_to, one.tls) == (
        "ours",
        "http",
        "10.2.0.7",
        8000,
        (ip_network("10.2.0.0/16"),),
        Tls(ca_file="/ca.pem"),
    )


# --- the second check: where packets really go ---


def within(*networks: str) -> Address:
    return Address("e", "http", "x", 80, tuple(map(ip_network, networks)), Tls(), "")


@pytest.mark.parametrize(
    ("networks", "ip", "admitted"),
    [
        ([], "8.8.8.8", True),
        (["10.2.0.0/16"], "10.2.255.255", True),
        (["10.2.0.0/16"], "10.3.0.0", False),
        (["10.2.0.0/16", "fd00::/8"], "fd12::1", True),
        (["10.2.0.0/16"], "fd12::1", False),
        (["10.2.0.0/16"], "::ffff:10.2.0.7", True),  # is 10.2.0.7, spelt for IPv6
        (["10.2.0.0/16"], "::ffff:10.3.0.7", False),
        (["::/0"], "::ffff:10.2.0.7", False),  # all of IPv6 has no part of IPv4
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_networks(networks: list[str], ip: str, admitted: bool) -> None:
    assert Guard().admits(within(*networks), real_ip(ip)) is admitted


def test_a_connection_is_taken_for_the_address_that_it_was_opened_for() -> None:
    one, other, ip = within("10.2.0.0/16"), within("10.2.0.0/15"), real_ip("10.2.0.7")
    assert Guard().may_take(one, replace(one), ip)
    assert not Guard().may_take(one, other, ip)
    assert not Guard().may_take(one, one, real_ip("10.3.0.7"))


@contextlib.asynccontextmanager
async def two_places() -> AsyncIterator[tuple[Peer, Peer]]:
    """Ours at 127.0.0.1 and a foreign one at 127.0.0.2, at the same port, as one name might lead to either."""
    async with contextlib.AsyncExitStack() as stack:
        places: tuple[Peer, Peer] | None = None
        while places is None:
            ours = await stack.enter_async_context(listening())
            with contextlib.suppress(OSError):  # somebody else has that port there: take another
                places = ours, await stack.enter_async_context(listening(host="127.0.0.2", port=ours.port))
        yield places


OURS, FOREIGN = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("host", [FOREIGN, "foreign.example", "mapped.example"])
def test_an_address_outside_the_networks_is_never_dialled(run: Runner, host: str) -> None:
    async def main() -> None:
        names = Names(**{"foreign.example": [FOREIGN], "mapped.example": [f"::ffff:{FOREIGN}"]})
        async with two_places() as (_, foreign), transport(resolver=names) as http:
            heard = Heard()
            http.start(foreign.address(host=host, resolves_to=["127.0.0.1/32"]), post(), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("address_refused", False)
            assert host in failure.detail and "127.0.0.1/32" in failure.detail
            assert foreign.accepts == 0

    run(main)


def test_of_several_answers_only_those_inside_are_tried(run: Runner) -> None:
    async def main() -> None:
        names = Names(**{"x.example": [FOREIGN, "127.0.0.9", f"::ffff:{OURS}", OURS, "not-an-address"]})
        async with two_places() as (ours, foreign), transport(resolver=names) as http:
            heard = Heard()
            address = ours.address(host="x.example", resolves_to=["127.0.0.1/32", "127.0.0.9/32"])
            call = http.start(address, post(), heard)
            await heard.ok()
            assert call.peer.rpartition(":")[0] in {OURS, f"[::ffff:{OURS}]"}
            assert foreign.accepts == 0

    run(main)


def test_the_peer_that_was_really_reached_is_asked_about_too(run: Runner) -> None:
    """Whoever is taken in by the name's answers still looks at the connection; nothing is written to it."""

    class TakesIn(IPv4Network):
        asked = 0

        def __contains__(self, other: object) -> bool:
            self.asked += 1
            return self.asked == 1 or super().__contains__(other)

    async def main() -> None:
        async with two_places() as (_, foreign), transport() as http:
            heard = Heard()
            network = TakesIn("127.0.0.1/32")
            http.start(replace(foreign.address(), resolves_to=(network,)), post(), heard)
            failure = await heard.failed()
            assert (failure.code, failure.sent) == ("address_refused", False)
            await foreign.accepted()
            await foreign.wires[0].over.wait()
            assert (network.asked, foreign.requests) == (2, [])

    run(main)


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary", b"308 Permanent"])
def test_a_redirect_is_an_answer_and_nobody_follows_it(run: Runner, status: bytes) -> None:
    async def main() -> None:
        async with listening() as foreign:

            async def redirecting(wire: Wire, peer: Peer) -> None:
                location = b"http://127.0.0.1:%d/v1" % foreign.port
                await answering(wire, peer, b"HTTP/1.1 %b\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, location))

            async with listening(redirecting) as peer, transport() as http:
                heard = Heard()
                http.start(peer.address(), post(), heard)
                assert await heard.end() is None
                assert heard.status == int(status[:3])
            assert foreign.accepts == 0

    run(main)


def test_a_name_that_comes_to_lead_elsewhere_while_a_connection_idles(run: Runner) -> None:
    """The idle connection still leads to us and is used; whoever needs a new one is refused; the foreign place sees nobody."""

    async def main() -> None:
        names = Names(**{"engine.example": [OURS]})
        async with two_places() as (ours, foreign), transport(resolver=names) as http:
            address = ours.address(host="engine.example", resolves_to=["127.0.0.1/32"])
            first = Heard()
            http.start(address, post(b"1"), first)
            await first.ok()
            names.answers["engine.example"] = [FOREIGN]
            pooled, new = Heard(), Heard()
            http.start(address, post(b"2"), pooled)
            http.start(address, post(b"3"), new)
            await pooled.ok()
            assert (await new.failed()).code == "address_refused"
            names.answers["engine.example"] = [OURS]
            back = Heard()
            http.start(address, post(b"4"), back)
            await back.ok()
            assert ours.requests == [post(b"1"), post(b"2"), post(b"4")]
            assert foreign.accepts == 0

    run(main)


# --- scenes: what a pooled connection must not be taken for ---


class MixedUp(Pool):
    """The planted bug: a pool that goes by the endpoint's name, as if a name could not come to mean another place."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, list[Connection]] = {}

    def take(self, address: Address) -> Connection | None:
        idle = self.by_name.get(address.endpoint)
        return idle.pop() if idle else None

    def put(self, connection: Connection, now: float, at_most: int) -> list[Connection]:
        connection.idle_since = now
        self.by_name.setdefault(connection.opened_for.endpoint, []).append(connection)
        return []


class AskedOnlyWhenOpening(Guard):
    """The other planted bug: a connection that is open is taken to be right."""

    def may_take(self, address: Address, opened_for: Address, peer: IPv4Address | IPv6Address) -> bool:
        return True


async def base_url_moves(guard: Guard, pool: Pool) -> None:
    """The endpoint moves home from a foreign place, while a connection to that idles. Nobody has called `retire` yet."""
    async with two_places() as (ours, foreign), transport(guard=guard, pool=pool) as http:
        before, after = Heard(), Heard()
        http.start(foreign.address(), post(b"before"), before)
        await before.ok()
        http.start(ours.address(), post(b"after"), after)
        await after.ok()
        assert foreign.requests == [post(b"before")]
        assert foreign.accepts == 1
        assert ours.requests == [post(b"after")]


async def networks_narrow(guard: Guard, pool: Pool) -> None:
    """The endpoint's networks come to exclude the place to which a connection idles."""
    names = Names(**{"engine.example": [FOREIGN]})
    async with two_places() as (ours, foreign), transport(resolver=names, guard=guard, pool=pool) as http:
        before, after = Heard(), Heard()
        http.start(ours.address(host="engine.example", resolves_to=["127.0.0.0/8"]), post(b"before"), before)
        await before.ok()
        http.start(ours.address(host="engine.example", resolves_to=["127.0.0.1/32"]), post(b"after"), after)
        failure: Failure | None = await after.end()
        assert foreign.requests == [post(b"before")]
        assert failure is not None and failure.code == "address_refused"


async def key_rotates(guard: Guard, pool: Pool) -> None:
    """The credential changes: what a server knows of a connection (a session, a quota, a client) belongs to the old one."""
    async with listening() as peer, transport(guard=guard, pool=pool) as http:
        for credential in ("0ld", "fe3"):
            heard = Heard()
            http.start(peer.address(credential=credential), post(credential.encode()), heard)
            await heard.ok()
        assert [wire.requests for wire in peer.wires] == [[post(b"0ld")], [post(b"fe3")]]


SCENES = pytest.mark.parametrize("scene", [base_url_moves, networks_narrow, key_rotates])


@SCENES
def test_scene(run: Runner, scene: Any) -> None:
    run(lambda: scene(Guard(), Pool()))


@pytest.mark.source_only
@SCENES
def test_scene_with_a_mixed_up_pool(run: Runner, scene: Any) -> None:
    """The second of two checks holds when the first one fails: what the pool hands out wrongly is closed, not used."""
    run(lambda: scene(Guard(), MixedUp()))


@pytest.mark.source_only
@SCENES
def test_scene_with_a_forgetful_guard(run: Runner, scene: Any) -> None:
    """And the first when the second one fails."""
    run(lambda: scene(AskedOnlyWhenOpening(), Pool()))


@pytest.mark.source_only
@SCENES
def test_the_scenes_notice_when_both_fail(run: Runner, scene: Any) -> None:
    """So these scenes can tell: with both bugs planted, content reaches the wrong place, and the scene says so."""
    with pytest.raises(AssertionError):
        run(lambda: scene(AskedOnlyWhenOpening(), MixedUp()))


def test_a_reload_that_moves_the_base_url_while_a_pooled_connection_idles(run: Runner) -> None:
    """As the gateway does it, with `retire`: the foreign place loses its connection, and is sent nothing from then on."""

    async def main() -> None:
        async with two_places() as (ours, foreign), transport() as http:
            before, after = Heard(), Heard()
            http.start(foreign.address(), post(b"before"), before)
            await before.ok()
            assert http.retire([ours.address()]) == 1
            await foreign.wires[0].over.wait()
            http.start(ours.address(), post(b"after"), after)
            await after.ok()
            assert (foreign.accepts, foreign.requests) == (1, [post(b"before")])

    run(main)
