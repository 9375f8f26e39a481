"""Cordoning an endpoint of a running gateway: no request begins there, what is under way ends, and no restart forgets it."""

import asyncio
import json
from pathlib import Path

import pytest
from processes import Gateway, running, until

from gateway.cordons import FILE, Cordons, Unreadable, read_cordoned, write_cordoned
from gateway.ledger.changes import ChangeLog

TOKEN = {"authorization": "Bearer an admin's token"}
ADMIN = ("--admin-token", "env:TEST_ADMIN_TOKEN", "--workers", "2")
HERE = "/admin/v1/endpoints/here"


def test_nothing_begins_there_what_is_under_way_ends_and_a_restart_remembers(tmp_path: Path) -> None:
    with running(tmp_path, *ADMIN) as (gateway, upstream):
        stream = gateway.ask(stream=True)
        assert stream.readline().startswith(b"data:")
        assert gateway.admin("POST", f"{HERE}/cordon", **TOKEN) == (200, {"cordoned": ["here"]})
        for _ in range(8):  # both workers
            refused = gateway.ask()
            assert (refused.status, json.loads(refused.read())["error"]["code"]) == (503, "no_route_available")
        (shown,) = gateway.admin("GET", "/admin/v1/endpoints", **TOKEN)[1]["endpoints"]
        assert shown["cordoned"] is True
        assert {row["word"] for row in shown["live"]} == {"cordoned"}
        upstream.go.set()
        assert b"[DONE]" in stream.read()
        assert gateway.admin("POST", f"{HERE}/cordon", **TOKEN)[0] == 200  # once more changes nothing
        assert gateway.end() == 0

        port = upstream.port
        again = Gateway(tmp_path, port, *ADMIN)
        try:
            again.ready()
            assert again.ask().status == 503
            until("the admin port is open", lambda: again.admin("GET", "/admin/v1/endpoints", **TOKEN)[0] == 200)
            assert again.admin("POST", f"{HERE}/uncordon", **TOKEN) == (200, {"cordoned": []})
            assert all(again.ask().status == 200 for _ in range(8))
        finally:
            again.kill()
    lines = [json.loads(line) for path in (tmp_path / "state" / "ledger").glob("supervisor*") for line in path.open()]
    said = sorted((line["at"], line["how"], line["why"], line["by"]) for line in lines if "cordon" in line.get("how", ""))
    who = "admin policy (env:TEST_ADMIN_TOKEN)"
    assert [line[1:] for line in said] == [("cordon", "endpoint here", who), ("uncordon", "endpoint here", who)]


def test_what_nobody_knows_can_not_be_cordoned_and_who_only_reads_may_not(unharmed: Gateway) -> None:
    status, body = unharmed.admin("POST", "/admin/v1/endpoints/her/cordon", **TOKEN)
    assert (status, body["error"]["code"]) == (404, "unknown_endpoint")
    assert "did you mean `here`?" in body["error"]["message"]
    reader = {"authorization": f"Bearer {Path.home()}"}
    assert unharmed.admin("POST", f"{HERE}/cordon", **reader)[0] == 403
    assert unharmed.ask().status == 200


@pytest.mark.parametrize("text", ["[", '{"here": true}', "[1]"])
def test_a_file_that_says_nothing_clear_keeps_the_gateway_from_starting(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(Unreadable, match="mend the file"):
        read_cordoned(tmp_path)


def test_what_can_not_be_kept_is_not_done(tmp_path: Path) -> None:
    class Fleet:
        cordoned: frozenset[str] = frozenset()

        async def cordon(self, endpoints: frozenset[str]) -> None:
            self.cordoned = endpoints

    fleet, log = Fleet(), ChangeLog(tmp_path / "ledger", Clock())
    with pytest.raises(OSError):
        asyncio.run(Cordons(fleet, tmp_path / "nowhere", log).change("here", "somebody", cordoned=True))
    assert fleet.cordoned == frozenset()
    (tmp_path / "ledger").write_text("a file, where a folder should be")
    with pytest.raises(OSError):
        asyncio.run(Cordons(fleet, tmp_path, log).change("here", "somebody", cordoned=True))
    assert fleet.cordoned == read_cordoned(tmp_path) == frozenset()
    (tmp_path / "ledger").unlink()
    asyncio.run(Cordons(fleet, tmp_path, log).change("here", "somebody", cordoned=True))
    assert fleet.cordoned == read_cordoned(tmp_path) == {"here"}
    write_cordoned(tmp_path, ())
    assert read_cordoned(tmp_path) == frozenset()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [FILE]


class Clock:
    def now(self) -> float:
        return 1_795_000_000.0
