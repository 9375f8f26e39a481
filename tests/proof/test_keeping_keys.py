"""Verdicts that are kept, and keys that come and go: what holds for all requests of some keys holds for those of fewer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asked import CLAIMS, ENDING, Asked, once_more
from stage import AT, DAY_S, snapshot

from gateway.core.facts import FactSpec
from gateway.core.policy import Snapshot
from gateway.proof.judging import proved
from gateway.proof.verdict import Status

HOLDING = """\
  - {id: false, for: {data_class: {at_least: personal}}, never: {processed_in: CN}}
  - {id: lapses, for: {tenant: lab, asked: medium}, some: {processed_in: EEA}}
  - {id: true, for: {categories: [health]}, always: {provider: ours}}
"""


def with_key(of: Snapshot, name: str, **changed: Any) -> Snapshot:
    """A snapshot in which one key is another, or (`gone`) is not."""
    keys = dict(of.access.keys)
    key = keys.pop(name)
    if "gone" not in changed:
        keys[changed.get("id", name)] = replace(key, **changed)
    return replace(of, access=replace(of.access, keys=keys))


NARROW = {"region": FactSpec(within=frozenset({"DE"}))}
FEWER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # how a key was when it was proved, and how it is now
    "rotated": ({}, {"digest": b"another"}),
    "revoked": ({}, {"revoked": True}),
    "removed": ({}, {"gone": True}),
    "ended early": ({}, {"expires": AT + DAY_S}),
    "shortened": ({"expires": AT + 9 * DAY_S}, {"expires": AT + DAY_S}),
}
MORE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "new": ({"gone": True}, {}),
    "allowed again": ({"revoked": True}, {}),
    "by another name": ({}, {"id": "ward-7"}),
    "of another tenant": ({}, {"tenant": "office"}),
    "wider": ({"facts": NARROW}, {}),
    "narrower": ({}, {"facts": NARROW}),  # which may well be fewer requests, and is not looked into
    "lengthened": ({"expires": AT + DAY_S}, {"expires": AT + 9 * DAY_S}),
    "without end": ({"expires": AT + DAY_S}, {}),
}


@pytest.fixture
def holding(tmp_path: Path) -> Snapshot:
    """A policy whose claims all hold, for all requests."""
    return snapshot(tmp_path / "policies", ENDING, claims=HOLDING)


@pytest.fixture
def made(tmp_path: Path) -> Snapshot:
    """A policy of which one claim is false, and one asks nothing."""
    return snapshot(tmp_path / "made", ENDING, claims=CLAIMS)


@pytest.mark.parametrize("key", FEWER.values(), ids=FEWER)
def test_what_holds_for_all_requests_holds_for_fewer(tmp_path: Path, holding: Snapshot, key: Any) -> None:
    before, after = (with_key(holding, "ward", **changed) for changed in key)
    verdicts = proved(before, AT, tmp_path, Asked())
    assert {verdict.status for verdict in verdicts} == {Status.PROVED, Status.LAPSES}
    assert not once_more(after, AT, tmp_path)


@pytest.mark.parametrize("key", MORE.values(), ids=MORE)
def test_a_key_that_may_ask_more_is_a_reason_to_prove_again(tmp_path: Path, holding: Snapshot, key: Any) -> None:
    before, after = (with_key(holding, "ward", **changed) for changed in key)
    proved(before, AT, tmp_path, Asked())
    assert once_more(after, AT, tmp_path)
    assert not once_more(after, AT, tmp_path)


@pytest.mark.parametrize("key", [{"revoked": True}, {"gone": True}, {"expires": AT + DAY_S}], ids=str)
def test_what_is_said_of_one_request_is_asked_again_where_there_are_fewer(tmp_path: Path, made: Snapshot, key: Any) -> None:
    """The counterexample may have been that key's, and without it the claim may be true."""
    false = {v.claim: v.status for v in proved(made, AT, tmp_path, Asked())}["false"]
    assert false is Status.FALSE
    after = with_key(made, "ward", **key)
    assert once_more(after, AT, tmp_path)


def test_without_the_only_key_that_could_break_a_claim_it_is_kept_as_what_it_is_then(tmp_path: Path, made: Snapshot) -> None:
    proved(made, AT, tmp_path, Asked())
    after = with_key(made, "ward", revoked=True)
    found = {verdict.claim: verdict.status for verdict in proved(after, AT, tmp_path, Asked())}
    assert found["false"] is not Status.FALSE
    assert {verdict.claim: verdict.status for verdict in proved(made, AT, tmp_path, Asked())}["false"] is Status.FALSE
