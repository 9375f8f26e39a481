"""What shuts a place is told once, with what to look at, and so is that it is back."""

import asyncio
from typing import Any

import pytest

from gateway.defects import kept_up, report
from gateway.outages import LOOK_AT, Outages
from gateway.upstream.outcomes import rows


class Fleet:
    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []

    def say(self, *lives: dict[str, Any]) -> None:
        self.reports = [{"live": live} for live in lives]


def row(phase: str, word: str | None = None, detail: str = "") -> dict[str, Any]:
    return {"phase": phase, "failures": 0} | ({} if word is None else {"word": word, "detail": detail, "until": None})


def told(*looks: tuple[dict[str, Any], ...]) -> list[tuple[str, str, str | None]]:
    fleet, found = Fleet(), list[tuple[str, str, str | None]]()
    outages = Outages(fleet, lambda event, **said: found.append((event, said["place"], said.get("why"))))
    for lives in looks:
        fleet.say(*lives)
        outages.look()
    return found


def test_an_endpoint_that_is_shut_is_told_once_for_all_workers_and_deployments() -> None:
    refused = row("open", "breaker", "credentials_refused")
    shut = {"far": refused, "far/m": refused, "far/n": refused}
    assert told(({}, {}), (shut, {}), (shut, shut)) == [("place_shut", "far", "credentials_refused")]


def test_a_place_that_is_tried_now_and_then_is_not_told_of_again_until_it_was_back() -> None:
    shut, half, trying = (
        {"far/m": row("open", "breaker", "upstream_error")},
        {"far/m": row("half open")},
        {"far/m": row("probing", "breaker", "a request is trying whether it works again")},
    )
    first, back = ("place_shut", "far/m", "upstream_error"), ("place_back", "far/m", None)
    assert told((shut,), (half,), (trying,), (shut,)) == [first]
    assert told((shut,), (half,), ({"far/m": row("closed")},), (shut,), ({},)) == [first, back, first, back]


def test_what_is_full_throttled_or_cordoned_is_no_outage() -> None:
    busy = {"a": row("closed", "cordoned"), "b/m": row("open", "throttled", "rate_limited"), "c/m": row("closed", "busy")}
    assert told((busy,)) == []


def test_what_to_look_at_is_said_of_codes_that_there_are() -> None:
    assert LOOK_AT.keys() <= {one.code for one in rows()}


def test_an_odd_report_does_not_end_the_looking(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        fleet, said = Fleet(), asyncio.Event()
        fleet.reports = [{"live": {"far": "no row at all"}}]

        def log(event: str, **fields: Any) -> None:
            said.set()

        looking = asyncio.create_task(kept_up(Outages(fleet, log, look_s=0.01).run, again_s=0.01))
        async with asyncio.timeout(20):
            while "defect: TypeError" not in capsys.readouterr().err:  # noqa: ASYNC110 - of what is printed nobody is told
                await asyncio.sleep(0.01)
            fleet.say({"far": row("open", "breaker", "credentials_refused")})
            await said.wait()
        looking.cancel()

    asyncio.run(main())


def test_of_several_defects_at_once_each_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report(ExceptionGroup("", [ZeroDivisionError(), ExceptionGroup("", [KeyError()])]))
    said = [line.split(" at ")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["defect: ZeroDivisionError", "defect: KeyError"]
