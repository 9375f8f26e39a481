"""Fault scripts: which requests they are about, and what is said of one that makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from simulator_client import body, run, simulated

from gateway.simulators import ScriptError, Simulator


def user(text: str) -> list[dict[str, Any]]:
    """Messages of one user."""
    return [{"role": "user", "content": text}]


async def statuses(script: list[Any], requests: list[tuple[dict[str, Any], dict[str, str]]]) -> list[int]:
    """The status of each request in turn."""
    async with simulated("openai", script=script) as (_, client):
        return [(await client.ask(fields, headers)).status for fields, headers in requests]


PLAIN: tuple[dict[str, Any], dict[str, str]] = (body(), {})


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ([], [200, 200, 200]),
        ([{"fault": "throttle"}], [429, 429, 429]),
        ([{"times": 2, "fault": "throttle"}], [429, 429, 200]),
        ([{"match": {"nth": 2}, "fault": "throttle"}], [200, 429, 200]),
        ([{"match": {"nth": [1, 3]}, "fault": "throttle"}], [429, 200, 429]),
        ([{"times": 1, "fault": "throttle"}, {"fault": {"kind": "error", "status": 500}}], [429, 500, 500]),
        ([{"match": {"model": "other"}, "fault": "throttle"}], [200, 200, 200]),
        ([{"match": {"model": ["m", "n"]}, "times": 1, "fault": "throttle"}], [429, 200, 200]),
    ],
)
def test_rules_count_and_the_first_that_matches_decides(script: list[Any], wanted: list[int]) -> None:
    assert run(statuses(script, [PLAIN] * 3)) == wanted


def test_a_rule_can_ask_for_header_text_stream_and_path() -> None:
    async def scene() -> None:
        script = [
            {"match": {"header": {"x-tag": "a"}}, "fault": {"kind": "error", "status": 500, "body": 1}},
            {"match": {"contains": "Rechnung"}, "fault": {"kind": "error", "status": 501, "body": 1}},
            {"match": {"stream": True}, "fault": {"kind": "error", "status": 502, "body": 1}},
            {"match": {"path": "/models"}, "fault": {"kind": "error", "status": 503, "body": 1}},
        ]
        async with simulated("openai", script=script) as (_, client):
            assert (await client.ask(body(), {"x-tag": "a"})).status == 500
            assert (await client.ask(body(), {"x-tag": "b"})).status == 200
            assert (await client.ask(body(messages=user("die Rechnung bitte")))).status == 501
            assert (await client.ask(body(stream=True))).status == 502
            await client.send("GET", "/v1/models")
            assert (await client.read()).status == 503

    run(scene())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({}, ["a script is a list of rules, and this is an object"]),
        (["stall"], ["rule 1 is text; a rule is an object with `fault` and perhaps `match` and `times`"]),
        (
            [{"fault": "stal"}, {"fault": "throttle", "tims": 2}],
            [
                "rule 1: there is no fault `stal`; did you mean `stall`?",
                "rule 2: unknown key `tims`; did you mean `times`?",
            ],
        ),
        (
            [{"fault": {"kind": "stall", "aftr": 2}}],
            ["rule 1: fault `stall`: unknown key `aftr`; did you mean `after`?"],
        ),
        (
            [{"match": {"modl": "m"}, "fault": "stall"}],
            ["rule 1: `match`: unknown key `modl`; did you mean `model`?"],
        ),
        (
            [{"fault": {"kind": "cut", "how": "bang"}}],
            ["rule 1: fault `cut`: `how` is 'bang'; it is one of `fin`, `rst`"],
        ),
        ([{"fault": {"kind": "slow", "bytes": "x"}}], ["rule 1: fault `slow`: `bytes` is 'x'; it is a whole number"]),
        (
            [{"fault": {"kind": "error", "code": 1303}}],
            ["rule 1: fault `error`: `1303` is no error of the mistral dialect; did you mean `1300`?"],
        ),
        ([{"times": 0, "fault": "stall"}], ["rule 1: `times` is 0; it counts, from 1"]),
        (
            [{"fault": {"kind": "redirect"}}],
            ["rule 1: fault `redirect`: `to` is missing: the URL to redirect to"],
        ),
        (
            [{"fault": {"kind": "stall", "at": "after_head", "after": 2}}],
            ["rule 1: fault `stall`: `after` counts chunks, and `after_head` is before the first"],
        ),
        (
            [{"match": {"nth": "first"}, "fault": "stall"}],
            ["rule 1: `nth` is 'first'; it is a whole number or a list of them"],
        ),
    ],
)
def test_a_script_that_makes_no_sense_is_refused_with_every_mistake(script: Any, words: list[str]) -> None:
    async def scene() -> list[str]:
        async with simulated("mistral") as (_, client):
            await client.send("PUT", "/_simulator/script", orjson.dumps(script))
            got = await client.read()
            assert got.status == 400
            mistakes: list[str] = got.json["mistakes"]
            return mistakes

    assert run(scene()) == words


def test_a_script_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text('[{"fault": "throttle"}]')
    assert len(Simulator("mistral", script=path).script.rules) == 1
    path.write_text("not json")
    with pytest.raises(ScriptError, match="is no JSON"):
        Simulator("mistral", script=path)


def test_a_bad_script_leaves_the_old_one_in_place() -> None:
    async def scene() -> None:
        async with simulated("mistral", script=[{"fault": "throttle"}]) as (sim, client):
            with pytest.raises(ScriptError):
                sim.set_script([{"fault": "nothing like it"}])
            assert (await client.ask(body())).status == 429

    run(scene())


def test_an_unknown_dialect_is_named_with_the_known() -> None:
    with pytest.raises(
        ValueError, match="there is no dialect `mistrall`; known are mistral, zai, vllm, openai, llamacpp"
    ):
        Simulator("mistrall")
