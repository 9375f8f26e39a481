"""Asking an endpoint how it is: its own address only, past the guard, one GET, no redirect; by what real listeners see."""

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
from loops import Authority, Runner
from raw_peers import Names, Peer, Wire, answering, listening, until
from test_guard import FOREIGN, endpoint, two_places

from gateway.core.bounds import Bounds
from gateway.core.policy import Endpoint, Tls
from gateway.upstream.asking import ANSWER_BYTES_MAX, Answer, Asker, NotAnswered

LOOPBACK = (ip_network("127.0.0.1/32"),)


def at(peer: Peer, **changes: Any) -> Endpoint:
    return endpoint(**{"host": peer.host, "port": peer.port, "resolves_to": LOOPBACK, **changes})


async def ask(place: Endpoint, secret: str | None = None, *, names: Names | None = None, limit_s: float = 10.0) -> Answer:
    asker = Asker(asyncio.get_running_loop(), Bounds(), names)
    try:
        return await asker.get(place, secret, "/health", limit_s)
    finally:
        await asker.close()


def test_it_is_one_get_beside_the_api_on_a_connection_of_its_own(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer:
            assert await ask(at(peer), "s3cret") == Answer(200, b"ok")
            assert await ask(at(peer)) == Answer(200, b"ok")
            first, second = (request.decode().split("\r\n") for request in peer.requests)
            assert first[:3] == ["GET /health HTTP/1.1", f"host: {peer.host}:{peer.port}", "authorization: Bearer s3cret"]
            assert "connection: close" in second and not any(line.startswith("authorization") for line in second)
            assert peer.accepts == 2

    run(main)


@pytest.mark.parametrize("host", [FOREIGN, "foreign.example", "mapped.example"])
def test_a_place_outside_the_networks_is_not_connected_to(run: Runner, host: str) -> None:
    async def main() -> None:
        names = Names(**{"foreign.example": [FOREIGN], "mapped.example": [f"::ffff:{FOREIGN}"]})
        async with two_places() as (_, foreign):
            with pytest.raises(NotAnswered) as refused:
                await ask(at(foreign, host=host), names=names)
            assert refused.value.code == "address_refused"
            assert foreign.accepts == 0

    run(main)


def test_a_name_that_comes_to_lead_elsewhere_is_not_followed_there(run: Runner) -> None:
    async def main() -> None:
        names = Names(**{"engine.example": ["127.0.0.1"]})
        async with two_places() as (ours, foreign):
            asker = Asker(asyncio.get_running_loop(), Bounds(), names)
            place = at(ours, host="engine.example")
            assert (await asker.get(place, None, "/health", 10)).status == 200
            names.answers["engine.example"] = [FOREIGN]
            with pytest.raises(NotAnswered, match="address_refused"):
                await asker.get(place, None, "/health", 10)
            assert (ours.accepts, foreign.accepts) == (1, 0)
            await asker.close()

    run(main)


def test_nobody_follows_a_redirect(run: Runner) -> None:
    async def main() -> None:
        async with listening() as elsewhere:

            async def redirecting(wire: Wire, peer: Peer) -> None:
                head = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:%d/\r\ncontent-length: 0\r\n\r\n"
                await answering(wire, peer, head % elsewhere.port)

            async with listening(redirecting) as peer:
                assert await ask(at(peer)) == Answer(302, b"")
            assert elsewhere.accepts == 0

    run(main)


def test_certificates_count(run: Runner, authority: Authority) -> None:
    async def main() -> None:
        async with listening(tls=authority.server("127.0.0.1")) as peer:
            with pytest.raises(NotAnswered, match="tls"):
                await ask(at(peer, scheme="https"))
            assert (await ask(at(peer, scheme="https", tls=Tls(ca_file=authority.ca_file)))).status == 200
            assert len(peer.requests) == 1

    run(main)


def test_silence_ends_with_the_limit_and_the_connection_with_it(run: Runner) -> None:
    async def main() -> None:
        async def silent(wire: Wire, peer: Peer) -> None:
            await wire.gone()

        async with listening(silent) as peer:
            with pytest.raises(NotAnswered, match=r"within 0\.05 s"):
                await ask(at(peer), limit_s=0.05)
            await until(lambda: peer.wires and peer.wires[0].over.is_set())

    run(main)


def test_an_answer_without_end_is_cut(run: Runner) -> None:
    async def main() -> None:
        async def endless(wire: Wire, peer: Peer) -> None:
            wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * (ANSWER_BYTES_MAX + 1))
            await wire.gone()

        async with listening(endless) as peer:
            with pytest.raises(NotAnswered, match="answer_too_large"):
                await ask(at(peer))

    run(main)


def test_a_path_that_would_end_its_line_is_not_sent(run: Runner) -> None:
    async def main() -> None:
        async with listening() as peer:
            asker = Asker(asyncio.get_running_loop(), Bounds())
            for path in ("/a b", "/a\r\nx: y"):
                with pytest.raises(NotAnswered, match="unusable"):
                    await asker.get(at(peer), None, path, 10)
            await asker.close()
            with pytest.raises(NotAnswered, match="aborted"):
                await asker.get(at(peer), None, "/health", 10)
            assert peer.accepts == 0

    run(main)
