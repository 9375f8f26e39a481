"""The tests of every fault would notice: each bug below, planted in a copy of the pipeline's text, is complained of."""

import sys
import types
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import cast

import pytest
from courses import COURSES, Course, Exchange, Tap, complaints, travel
from small_world import NOW, snapshot

from gateway import pipeline
from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Outcome
from gateway.core.view import View

TEXT = Path(pipeline.__file__).with_name("pipeline.py").read_text()

BUGS = {
    "the route is noted only at its end": (
        "    course.tried.append(Tried(attempt, BROKEN, began, began))",
        "    course.tried.append(None)",
    ),
    "a call is left open": ("        opening.abort()\n", ""),
    "a call is left open when content never came": (
        "        opening.abort()\n",
        "        if course.outcome is not None:\n            opening.abort()\n",
    ),
    "the ledger learns of it afterwards": (
        "                world.ledger.begun(course.request, course.decision, attempt)\n",
        "                late = course.tried[-1].attempt if course.tried else attempt\n"
        "                world.ledger.begun(course.request, course.decision, late)\n",
    ),
    "a failed line is no reason to stop": (
        '            return _said(course, Problem(503, "ledger_unavailable",',
        '            _ = (course, Problem(503, "ledger_unavailable",',
    ),
    "an exchange that was cancelled is not settled": ("        _settled(course, _cut_off(course))\n        raise", "        raise"),
    "what was held stays on hold": ("    course.hold.settle(settlement, now)\n", ""),
    "what was used is given back": ("    course.hold.settle(settlement, now)\n", "    course.hold.settle(None, now)\n"),
    "whoever is over a limit is let in": (
        "return await _remembered(course) if said is None else _said(course, said)",
        "return await _remembered(course)",
    ),
    "the hold is noted when it is granted": (
        "course.hold = course.world.limiter.hold(course.request, course.decision, course.patience)\n    said = course.hold.admit(",
        "hold = course.world.limiter.hold(course.request, course.decision, course.patience)\n    said = hold.admit(",
    ),
    "a store is not waited for": (
        "    if said is not None and not isinstance(said, Problem):\n        said = await said\n",
        "    said = said if isinstance(said, Problem) else None\n",
    ),
    "the cache has a patience of its own": ("course.request, how, course.patience)", "course.request, how, Patience())"),
    "a limit of a place is not asked": ("        if over is not None:  # a limit", "        if False:  # a limit"),
    "what a limit stopped is not in the record": (
        "            course.tried.append(Tried(attempt, over, now, now))\n",
        "            course.tried.append(Tried(attempt, BROKEN, now, now)) if not course.tried else None\n",
    ),
    "a place is held to the end": ("    course.hold.attempted(outcome, ended)\n", ""),
    "what was kept is not authorised again": (
        "    deployment = authorised(course.decision, found.kept.deployment)\n",
        "    deployment = course.decision.routes[0].deployment\n",
    ),
    "a place is never left": ("        _safely(course, place.leave)\n", "        pass\n"),
    "half an answer is kept": ("place is not None and outcome.ended is Ended.SERVED", "place is not None"),
    "a cache that is broken is in the way": (
        "            found = await place.find(patience_s)\n        except Exception as error:",
        "            found = await place.find(patience_s)\n        except ZeroDivisionError as error:",
    ),
    "who wants no look is given it": ("    if not wish.look:\n", "    if False:\n"),
    "who wants no trace leaves one": ("if wish.look or wish.keep else None", ""),
    "only-if-cached is sent all the same": (
        "        return _said(course, UNKEPT) if only else await _serve(course)\n    finally",
        "        return await _serve(course)\n    finally",
    ),
    "settled twice": (
        "        finally:\n            world.meter.settled(settlement)",
        "        finally:\n            world.meter.settled(settlement)\n            world.meter.settled(settlement)",
    ),
    "counted before it is written": (
        "        try:\n            world.ledger.settled(settlement)",
        "        world.meter.settled(settlement)\n        try:\n            world.ledger.settled(settlement)",
    ),
    "what fails while settling becomes a second answer": (
        "    except Exception as error:  # noqa: BLE001\n        world.defect",
        "    except ValueError as error:\n        world.defect",
    ),
    "the stream is ended twice": ("        if self.end is None:\n", "        if True:\n"),
    "the head is sent twice": ("        if not self.streaming:\n", "        if True:\n"),
    "an error event is taken for an answer": (
        "    if course.streaming:\n        return course",
        "    if False:\n        return course",
    ),
    "tried again after content": (
        "        if outcome.ended is Ended.CLIENT_GONE:\n",
        "        if outcome.ended is Ended.CUT_SHORT:\n            course.outcome = SLOW\n            return None\n"
        "        if outcome.ended is Ended.CLIENT_GONE:\n",
    ),
    "the next one serves too": (
        "            if answer is not None:\n                return answer\n",
        "            if answer is not None and len(course.tried) > 1:\n                return answer\n",
    ),
    "what was used before a stop is forgotten": ("    return replace(how, usage=opening.used())", "    return how"),
    "a stop is taken for a client that left": ("gone() if course.client.gone else Answer", "gone() if True else Answer"),
    "the record does not hold the error": (
        "answer.status, answer.code, now,",
        'answer.status, "", now,',
    ),
    "a failover of its own mind": (
        "from gateway.core.failover import failover",
        "from test_planted_bugs import anywhere as failover",
    ),
    "a failover that repeats itself": (
        "from gateway.core.failover import failover",
        "from test_planted_bugs import twice as failover",
    ),
    "a failover that begins at the end": (
        "from gateway.core.failover import failover",
        "from test_planted_bugs import backwards as failover",
    ),
}


def anywhere(decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
    """Every deployment there is, from a policy of its own."""
    for number, deployment in enumerate(View(snapshot(), NOW).deployments, 1):
        yield Attempt(number, deployment)


def twice(decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
    for number in (1, 2):
        outcome = yield Attempt(number, decision.routes[0].deployment)
        if not outcome.tries_next:
            return


def backwards(decision: Decision, attempts_max: int) -> Generator[Attempt, Outcome, None]:
    for number, route in enumerate(reversed(decision.routes), 1):
        outcome = yield Attempt(number, route.deployment)
        if not outcome.tries_next:
            return


@pytest.mark.source_only
@pytest.mark.parametrize("bug", BUGS)
def test_the_bug_is_noticed(bug: str) -> None:
    assert any(True for course in COURSES for _ in complaints_of(planted(*BUGS[bug], bug), course)), "nobody complained"


@pytest.mark.source_only
def test_without_a_bug_the_copy_is_as_good_as_the_original() -> None:
    copy = planted("", "", "copy")
    assert not any(True for course in COURSES for _ in complaints_of(copy, course))


def planted(good: str, bad: str, name: str) -> Exchange:
    """The exchange of a pipeline in which `good` reads `bad`."""
    assert not good or TEXT.count(good) == 1, f"the text to be spoilt stands there {TEXT.count(good)} times"
    module = types.ModuleType(f"pipeline with {name}")
    sys.modules[module.__name__] = module  # dataclasses look themselves up
    try:
        exec(compile(TEXT.replace(good, bad) if good else TEXT, module.__name__, "exec"), module.__dict__)  # noqa: S102
    finally:
        del sys.modules[module.__name__]
    return cast(Exchange, module.exchange)


def complaints_of(exchange: Exchange, course: Course) -> Iterator[str]:
    """What is wrong on `course` with no fault, and with each: a call that fails, a client that leaves, a worker that stops."""
    whole = travel(exchange, course, Tap())
    yield from complaints(whole)
    for at in range(len(whole.tap.calls)):
        for kind in (RuntimeError, OSError):
            if whole.tap.calls[at] != "read":
                yield from complaints(travel(exchange, course, Tap(at, kind=kind)))
    for at in range(1, whole.awaits):
        yield from complaints(travel(exchange, course, Tap(), leave_at=at))
        yield from complaints(travel(exchange, course, Tap(), stop_at=at))
