"""What stands in the ledger, and that a chain tells of everything done to it."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from exchanges import FAILED, SERVED, decided, request, settlement, world
from fake_ports import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from small_world import NOW, snapshot

from gateway.core.answer import OVER_RATE
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Ended, Fault, Kept, Needs, Outcome, Recall, Recalled, Scope, Unlike
from gateway.core.live import ALL_WELL, Blocked, LiveState
from gateway.core.pricing import Price, Tariff
from gateway.core.settlement import excluded_words
from gateway.core.view import View
from gateway.ledger.audit import Audit
from gateway.ledger.bases import Bases
from gateway.ledger.decisions import Damaged, Recorded, decisions, find
from gateway.ledger.reading import Broken, Line, Tail, Torn, read
from gateway.ledger.record import Shorthand
from gateway.ledger.replay import Replay, again
from gateway.ledger.segments import Chain


def audit(folder: Path, segment_bytes_max: int = 1_000_000) -> Audit:
    return Audit(folder, "w1", FakeClock(), segment_bytes_max)


def records(folder: Path) -> list[dict[str, Any]]:
    found = list(read(folder))
    assert all(isinstance(entry, Line) for entry in found), found
    return [entry.record for entry in found if isinstance(entry, Line)]


def begin(ledger: Audit, decision: Decision, number: int = 1, **more: Any) -> None:
    ledger.begun(request(decision, **more), decision, Attempt(number, decision.routes[number - 1].deployment))


def test_an_exchange_is_two_lines_and_a_further_attempt_is_one_more(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW))
    begin(ledger, decision)
    begin(ledger, decision, 2)
    ledger.settled(settlement(decision, FAILED, SERVED))
    first, second, end = records(tmp_path)
    assert first["kind"] == "begun" and first["attempt"] == {"number": 1, "route": "one/alpha"}
    assert first["decision"]["routes"] == [route.deployment.id for route in decision.routes]
    assert first["decision"]["excluded"] == excluded_words(decision)
    assert set(second) == {"prev", "kind", "id", "attempt"}
    assert second["attempt"] == {"number": 2, "route": decision.routes[1].deployment.id}
    assert (end["kind"], end["tenant"], end["key"], end["asked"], end["result"]) == ("settled", "clinic", "ward", "auto", "served")
    assert [tried["outcome"] for tried in end["attempts"]] == ["failed", "served"]
    assert end["usage"] == {"uncached": 80, "cached": 20, "cache_write": 0, "output": 7, "reasoning": 0, "reported": True}
    price = decision.routes[1].deployment.tariff.price
    assert price is not None
    assert end["cost_basis"] == "reported" and end["cost_usd"] == f"{price.cost(SERVED.usage):f}"  # type: ignore[arg-type]
    assert "decision" not in end


PASSED_OVER = Outcome(Ended.THROTTLED, Fault.OURS, Scope.DEPLOYMENT, code=OVER_RATE, sent=False)


def test_a_decision_is_kept_where_a_limit_did_not_let_its_first_attempt_begin(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW))
    begin(ledger, decision, 2)
    ledger.settled(settlement(decision, PASSED_OVER, SERVED))
    begun, end = records(tmp_path)
    assert begun["attempt"]["number"] == 2 and begun["decision"]["routes"]
    assert "decision" not in end
    (recorded,) = decisions(tmp_path)
    assert isinstance(recorded, Recorded) and recorded.settled == end
    assert Replay(world()).made(recorded.decision, recorded.text)[1]
    assert find(tmp_path, recorded.id) == recorded


def test_a_decision_is_kept_where_no_attempt_was_let_begin(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW))
    ledger.settled(settlement(decision, PASSED_OVER, PASSED_OVER))
    (end,) = records(tmp_path)
    assert len(end["attempts"]) == 2 and end["decision"]["routes"]
    (recorded,) = decisions(tmp_path)
    assert isinstance(recorded, Recorded) and Replay(world()).made(recorded.decision, recorded.text)[1]


def test_a_side_call_says_whose_it_is_and_its_decision_comes_again(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW))
    side = replace(request(decision), id="rg-1-side", side_of="rg-1")
    ledger.begun(side, decision, Attempt(1, decision.routes[0].deployment))
    ledger.settled(replace(settlement(decision, SERVED), request=side))
    far = replace(settlement(decision, SERVED), recalled=Recalled(Recall.MISS, unlike=Unlike.FAR))
    ledger.settled(far)
    kept, place = Kept("one/alpha", "rg-0", NOW, SERVED.usage, b"the content"), decision.routes[0].deployment
    near = Recalled(Recall.NEAR, kept, place, likeness=0.987654321)
    ledger.settled(replace(settlement(decision), status=200, code="", recalled=near))
    begun, made, miss, given = records(tmp_path)
    assert (begun["side_of"], made["side_of"]) == ("rg-1", "rg-1")
    assert "side_of" not in miss
    assert miss["cache"] == {"how": "miss", "unlike": "far"}
    assert (given["cache"]["how"], given["cache"]["made_by"], given["cache"]["likeness"]) == ("near", "rg-0", 0.9877)
    assert given["cost_usd"] == "0" and float(given["cache"]["avoided_usd"]) > 0
    (recorded,) = [found for found in decisions(tmp_path) if isinstance(found, Recorded) and found.id == "rg-1-side"]
    assert Replay(world()).made(recorded.decision, recorded.text)[1]
    assert find(tmp_path, "rg-1-side") == recorded


def test_what_was_charged_to_books_stands_in_the_line(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW))
    ledger.settled(replace(settlement(decision, SERVED), charged=(("budget/tenant/clinic/usd", 42), ("quota/plan/5h", 3000))))
    ledger.settled(settlement(decision, SERVED))
    first, second = records(tmp_path)
    assert first["charged"] == {"budget/tenant/clinic/usd": 42, "quota/plan/5h": 3000}
    assert "charged" not in second


def test_a_refusal_is_one_line_with_the_decision(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path), decided(View(world(), NOW), asked=frozenset({"nothing"}))
    ledger.settled(settlement(decision))
    (line,) = records(tmp_path)
    assert line["result"] == "refused" and line["attempts"] == [] and line["usage"] is None
    assert (line["cost_usd"], line["cost_basis"]) == ("0", "none")
    assert set(line["decision"]["excluded"]) == {deployment.id for deployment in decision.view.deployments}


def test_nothing_that_a_caller_worded_is_kept(tmp_path: Path) -> None:
    ledger, view = audit(tmp_path), View(world(), NOW)
    secret = "canary4711"
    decision = decided(view)
    begin(ledger, decision, asked=f"claude-{secret}", client_id=secret)
    odd = SERVED.__class__(SERVED.ended, code=f"{secret}!", message=secret, param=secret, finish=secret)
    ledger.settled(settlement(decision, odd, dropped=(secret, "logit_bias")))
    ledger.settled(settlement(decided(view, Needs("chat", tools=frozenset({secret}), prompt_tokens=10))))
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in text
    assert b"the content" not in text
    assert b'"dropped":["other","logit_bias"]' in text


LIVES = (
    ALL_WELL,
    LiveState({"one/alpha": Blocked("throttled", "429", NOW + 5)}, {"one/alpha": 100, "two/alpha": 900}),
    LiveState({"far/alpha": Blocked("breaker", "5 failures in a row", None)}, {"two/alpha": 20}),
    LiveState(warm={"three/alpha": 1_024, "one/alpha": 90_112}),
    LiveState({"one/alpha": Blocked("throttled", "429", NOW + 5)}, {"one/alpha": 100}, {"gone/alpha": 2_048}),
)


CASES = st.lists(
    st.tuples(
        st.sampled_from(LIVES),
        st.sampled_from([frozenset(), frozenset({"function"}), frozenset({"a kind that is nowhere"})]),
        st.sampled_from([0, 99_998, 99_999, 100_000, 400_000]),  # around the window of 100,000
        st.sampled_from([None, 1, 20_000, 49_000, 51_000, 400_000]),  # around the limit of $0.50 at various prices
        st.sampled_from([{"DE"}, {"CN"}, {"DE", "CN"}, {"DE", "FR", "CN", "US"}]),
        st.sampled_from(["auto", "beta", "nothing"]),
        st.sampled_from(["public", "personal"]),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=8,
)


def of(view: View, case: Any) -> Decision:
    live, tools, prompt, output, region, asked, data_class, draw = case
    needs = Needs("chat", tools=tools, prompt_tokens=prompt, output_tokens=output)
    return decided(view, needs, live, draw, region=frozenset(region), asked=frozenset({asked}), data_class=frozenset({data_class}))


@given(CASES)
def test_a_recorded_decision_is_made_again_to_the_byte(cases: list[Any]) -> None:
    """And what is remembered between decisions never changes a record: one shorthand for all, and a fresh one for each, agree."""
    snapshot = world()
    view = View(snapshot, NOW)
    shorthand = Shorthand(view)
    for case in cases:
        decision = of(view, case)
        text = shorthand.decision(decision)
        recorded = orjson.loads(text)
        replayed = again(recorded, snapshot)
        assert recorded["routes"] == [route.deployment.id for route in decision.routes]
        assert recorded["routes"] == [route.deployment.id for route in replayed.routes]
        assert excluded_words(replayed) == recorded["excluded"]
        assert Shorthand(replayed.view).decision(replayed) == text
        if decision.needs.tools <= {"function"}:
            assert recorded["excluded"] == excluded_words(decision)


def test_what_is_warm_stands_in_the_record_where_something_is_and_orders_again() -> None:
    plain, saving = snapshot(), Price(Decimal(3), Decimal(6), Decimal(0), Decimal(3))
    deployments = tuple(
        replace(d, tariff=Tariff(price=saving)) if d.id == "two/alpha" else d for d in plain.policy.deployments
    )  # dearer than `one`, unless most of the prompt is cached there
    policy = replace(plain, policy=replace(plain.policy, deployments=deployments))
    view, needs = View(policy, NOW), Needs("chat", prompt_tokens=90_000, output_tokens=1)
    shorthand = Shorthand(view)
    cold, warm = decided(view, needs), decided(view, needs, LiveState(warm={"two/alpha": 81_920}))
    assert b"warm" not in shorthand.decision(cold)
    text = shorthand.decision(warm)
    assert text.endswith(b',"draw":0,"warm":{"two/alpha":81920}}')
    assert [d.routes[0].deployment.endpoint.id for d in (cold, warm, again(orjson.loads(text), policy))] == ["one", "two", "two"]
    assert Replay(policy).same(orjson.loads(text), text)


@given(CASES, st.sampled_from([1, 3_000, 1_000_000]))
def test_what_a_ledger_holds_is_made_again_to_the_byte(cases: list[Any], segment_bytes_max: int) -> None:
    """Through lines that lean on others, a segment for each, for some or for all; each segment can be read by itself."""
    snapshot = world()
    view = View(snapshot, NOW)
    with TemporaryDirectory() as name:
        ledger, made = audit(Path(name), segment_bytes_max), [of(view, case) for case in cases]
        for n, decision in enumerate(made):
            if decision.routes:
                begin(ledger, decision, name=f"rg-{n}")
            ledger.settled(settlement(decision, *[SERVED] * bool(decision.routes), name=f"rg-{n}"))
        ledger.close()
        replay = Replay(snapshot)
        found = list(decisions(Path(name)))
        assert len(found) == len(made)
        for recorded in found:
            assert isinstance(recorded, Recorded) and recorded.settled is not None
            assert recorded.text == Shorthand(view).decision(made[int(recorded.id.removeprefix("rg-"))])
            assert replay.same(recorded.decision, recorded.text)
            assert find(Path(name), recorded.id) == recorded
        texts = {recorded.text for recorded in found if isinstance(recorded, Recorded)}
        for path in Path(name).iterdir():
            bases = Bases()
            told = {bases.decision(line) for line in path.read_bytes().splitlines() if not bases.met(line)}
            assert told - {None} <= texts


def test_what_decisions_share_stands_once_in_a_segment(tmp_path: Path) -> None:
    ledger, view = audit(tmp_path), View(world(), NOW)
    for n in range(20):
        begin(ledger, decided(view, Needs("chat", prompt_tokens=100 + n), draw=0), name=f"rg-{n}")
    begin(ledger, decided(view, asked=frozenset({"beta"})), name="rg-last")
    lines = ledger._chain.path.read_bytes().splitlines()
    parts = [orjson.loads(line) for line in lines if b'"kind":"basis"' in line]
    assert [part["name"] for part in parts] == list(range(1, len(parts) + 1))
    assert [*parts[0]["is"], *parts[1]["is"]] == ["policy", "access", "instant", "facts"]
    assert len(parts) <= 6 + 3  # other facts, other reasons, other routes
    assert len({orjson.dumps(part["is"]) for part in parts}) == len(parts)
    assert max(map(len, lines[-21:-4])) < 320


def test_a_decision_that_leans_on_nothing_is_told(tmp_path: Path) -> None:
    """Somebody who takes out a part and chains the rest anew is found by what is missing."""
    path = filled(tmp_path)
    lines, prev = path.read_bytes().splitlines(), b"0" * 64
    del lines[2]
    for at, line in enumerate(lines):
        lines[at] = line[:9] + prev + line[73:]
        prev = sha256(lines[at]).hexdigest().encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    last = list(read(tmp_path))[-1]
    assert isinstance(last, Broken) and "leans on" in last.why
    assert all(isinstance(one, Damaged) and "leans on" in one.why for one in decisions(tmp_path))
    one = find(tmp_path, "rg-1")
    assert isinstance(one, Damaged) and "leans on" in one.why


def test_another_format_is_told_and_not_guessed_at(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"format":2', b'"format":1', 1))
    (told,) = read(tmp_path)
    assert isinstance(told, Broken) and told.why == "it has format 1, and this program reads format 2"
    (first, *_) = decisions(tmp_path)
    assert isinstance(first, Damaged) and first.why == told.why


def test_a_part_that_could_not_be_kept_is_written_again(tmp_path: Path) -> None:
    """A disk that is full for one line: nothing leans on what is not there."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    ledger, view = audit(tmp_path), View(world(), NOW)
    other = decided(view, asked=frozenset({"beta"}))
    begin(ledger, decided(view), name="rg-1")
    kept = os.dup(ledger._chain._fd)
    os.dup2(os.open("/dev/full", os.O_WRONLY), ledger._chain._fd)
    with pytest.raises(OSError):
        begin(ledger, other, name="rg-2")
    os.dup2(kept, ledger._chain._fd)
    begin(ledger, other, name="rg-3")
    first, second = records(tmp_path)
    assert (first["decision"]["facts"]["asked"], second["decision"]["facts"]["asked"]) == (["auto"], ["beta"])


def test_all_countries_are_a_star(tmp_path: Path) -> None:
    view = View(world(), NOW)
    everywhere = decided(view, region=view.snapshot.policy.vocabulary.countries)
    assert orjson.loads(Shorthand(view).decision(everywhere))["facts"]["region"] == ["*"]


def test_segments_are_private_and_the_chain_goes_on_from_one_to_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "ledger"
    ledger, decision = audit(folder, segment_bytes_max=2_000), decided(View(world(), NOW))
    for n in range(12):
        begin(ledger, decision, name=f"rg-{n}")
    ledger.sync()
    ledger.close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    segments = list(folder.iterdir())
    assert len(segments) > 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in segments} == {0o600}
    assert [record["id"] for record in records(folder)] == [f"rg-{n}" for n in range(12)]


def filled(folder: Path) -> Path:
    ledger, decision = audit(folder), decided(View(world(), NOW))
    for n in range(3):
        begin(ledger, decision, name=f"rg-{n}")
    ledger.close()
    (path,) = folder.iterdir()
    return path


def test_a_torn_last_line_is_told_and_costs_only_itself(tmp_path: Path) -> None:
    path = filled(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    *whole, torn = read(tmp_path)
    assert [entry.record["id"] for entry in whole if isinstance(entry, Line)] == ["rg-0", "rg-1"]
    assert isinstance(torn, Torn) and torn.number == len(path.read_bytes().splitlines())


def changed(lines: list[bytes]) -> None:
    lines[2] = lines[2].replace(b'"DE"', b'"FR"')


def removed(lines: list[bytes]) -> None:
    del lines[1]


def added(lines: list[bytes]) -> None:
    lines.insert(1, lines[1])


def swapped(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def torn_inside(lines: list[bytes]) -> None:
    lines[1] = lines[1][:50]


@pytest.mark.parametrize("tamper", [changed, removed, added, swapped, torn_inside])
def test_a_line_changed_removed_or_added_breaks_the_chain(tmp_path: Path, tamper: Callable[[list[bytes]], None]) -> None:
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines()
    tamper(lines)
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert isinstance(list(read(tmp_path))[-1], Broken)


def test_a_missing_segment_breaks_the_chain(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path, segment_bytes_max=2_000), decided(View(world(), NOW))
    for n in range(9):
        begin(ledger, decision, name=f"rg-{n}")
    ledger.close()
    sorted(tmp_path.iterdir())[1].unlink()
    assert isinstance(list(read(tmp_path))[-1], Broken)


def test_a_line_that_could_not_be_kept_is_an_error_and_the_chain_goes_on_later(tmp_path: Path) -> None:
    """The folder vanishes and comes back, as a volume does; a segment that can't be opened is tried again for the next line."""
    folder = tmp_path / "ledger"
    chain = Chain(folder, "w1", lambda: NOW, segment_bytes_max=1)
    chain.append(b'{"kind":"begun","id":"kept"}')
    folder.rename(tmp_path / "away")
    with pytest.raises(OSError) as raised:
        chain.append(b'{"kind":"begun","id":"lost"}')
    assert raised.value.errno == errno.ENOENT
    (tmp_path / "away").rename(folder)
    chain.append(b'{"kind":"begun","id":"after"}')
    chain.close()
    assert [record["id"] for record in records(folder)] == ["kept", "after"]


def test_a_full_disk_is_an_error_for_the_line_that_does_not_fit(tmp_path: Path) -> None:
    """/dev/full takes every write as a full disk does; the segment's own name is made to lead there."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    chain = Chain(tmp_path, "w1", lambda: NOW)
    os.dup2(os.open("/dev/full", os.O_WRONLY), chain._fd)
    with pytest.raises(OSError) as raised:
        chain.append(b'{"kind":"begun"}')
    assert raised.value.errno == errno.ENOSPC


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow: what a disk without room for one byte more is like."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_begins_on_a_full_disk_writes_as_soon_as_it_can_and_says_why_it_could_not(tmp_path: Path) -> None:
    decision = decided(View(world(), NOW))
    with no_room():
        ledger = audit(tmp_path)
        assert ledger.trouble == "file too large"
        with pytest.raises(OSError):
            begin(ledger, decision, name="rg-lost")
        assert ledger.trouble == "file too large"
    begin(ledger, decision, name="rg-kept")
    assert ledger.trouble == ""
    assert [record["id"] for record in records(tmp_path)] == ["rg-kept"]
    with no_room(), pytest.raises(OSError):
        begin(ledger, decision, name="rg-lost")
    assert ledger.trouble == "file too large"


def test_a_disk_that_stays_full_is_not_filled_with_segments(tmp_path: Path) -> None:
    """Each refused request tries to begin one, a thousand a second: none may leave a file or an open descriptor behind."""
    ledger, decision = audit(tmp_path, segment_bytes_max=1), decided(View(world(), NOW))
    begin(ledger, decision, name="rg-before")
    files = sorted(tmp_path.iterdir())
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with no_room():
        for n in range(20):
            with pytest.raises(OSError):
                begin(ledger, decision, name=f"rg-{n}")
    assert sorted(tmp_path.iterdir()) == files
    assert not descriptors or len(os.listdir("/proc/self/fd")) <= descriptors + 1
    begin(ledger, decision, name="rg-after")
    ledger.close()
    assert [record["id"] for record in records(tmp_path)] == ["rg-before", "rg-after"]


def test_what_follows_a_torn_line_is_not_taken_for_tampered_with(tmp_path: Path) -> None:
    """The disk fills up within a line, and is emptied: the line is told, and the segments behind it are as they were written."""
    ledger, decision = audit(tmp_path, segment_bytes_max=1), decided(View(world(), NOW))
    for n in range(3):
        begin(ledger, decision, name=f"rg-{n}")
    ledger.close()
    with sorted(tmp_path.iterdir())[1].open("ab") as file:
        file.write(b'{"prev":"half a li')
    (torn,) = [entry for entry in read(tmp_path) if not isinstance(entry, Line)]
    (told,) = [entry for entry in decisions(tmp_path) if not isinstance(entry, Recorded)]
    assert isinstance(torn, Torn)
    assert (torn.path, torn.number) == (told.path, told.number)
    assert "was not written to its end" in told.why


def test_two_chains_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    one, two = Audit(tmp_path, "w1", FakeClock()), Audit(tmp_path, "w2", FakeClock())
    decision = decided(View(world(), NOW))
    begin(one, decision, name="rg-1")
    begin(two, decision, name="rg-2")
    begin(one, decision, name="rg-3")
    assert [record["id"] for record in records(tmp_path)] == ["rg-1", "rg-3", "rg-2"]
    with pytest.raises(FileExistsError):
        Audit(tmp_path, "w1", FakeClock())


def test_a_tail_shows_whole_lines_once(tmp_path: Path) -> None:
    ledger, decision = audit(tmp_path, segment_bytes_max=4_000), decided(View(world(), NOW))
    begin(ledger, decision)
    tail = Tail(tmp_path)
    assert tail.poll() == []
    for n in range(5):
        ledger.settled(settlement(decision, SERVED, name=f"rg-{n}"))
    with ledger._chain.path.open("ab") as file:
        file.write(b'{"half":')
    assert [record["id"] for record in tail.poll()] == [f"rg-{n}" for n in range(5)]
    assert tail.poll() == []
