"""A head that is recognised means what the parser would have said of it: two planes hear the same bytes, and one of them forgets.

What each understood, what it answered and how it left the connection must be equal, whatever the pieces; and a mistake in what is
remembered, planted in a copy of the text, is noticed.
"""

import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import uvloop
from conversations import BOUNDS, CHATS, NARROW, conversation, hear
from fake_ports import FakeClock, FakeLedger, FakeLive, FakeMeter, FakeUpstream
from served import post, run, serving
from small_world import NOW, key_text, snapshot

from gateway.core.answer import Answer, Problem
from gateway.pipeline import World
from gateway.ports import Client
from gateway.wire import heads, protocol
from gateway.wire.heads import Head, Heads
from gateway.wire.plane import Incoming, Plane
from gateway.wire.protocol import DataPlane

CONVERSATIONS = 500
RECOGNISED_MIN = 150  # of the heads in them: else the two planes do the same, and agree for that


class Forgetful(Heads):
    """Recognises nothing."""

    __slots__ = ()

    def remember(self, head: Head) -> None:
        head.digest = b""


class Telling(Plane):
    """Tells what it understood of each request, and answers with how many there were."""

    def __init__(self, heads: Heads) -> None:
        world = World(FakeClock(), FakeUpstream(), FakeLedger(), FakeLive(), FakeMeter(), BOUNDS, lambda: 0, self.bug)
        super().__init__(world, snapshot(bounds=BOUNDS), demo=False)
        self.heads = heads
        self.understood: list[object] = []
        self.recognised = 0

    def bug(self, error: BaseException) -> None:
        raise error

    async def handle(self, incoming: Incoming, client: Client) -> Answer:
        head = incoming.head
        declared = [pair for pair in head.headers if pair[0].startswith("x-")]
        asked = map(outcome, (head.shown, head.client_id, head.session, head.wish))
        told = [head.method, head.path, declared, *asked, head.chunked, incoming.body]
        self.understood.append([str(found) if isinstance(found, Problem) else found for found in told])
        self.recognised += not head.digest and head in self.heads.values()
        if head.digest and not any(isinstance(found, Problem) for found in told):
            self.heads.remember(head)
        return Answer(200, body=b"%d" % len(self.understood))


def outcome(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except Problem as problem:
        return problem


async def differences(seed: int, of: type[DataPlane], remembering: type[Heads]) -> tuple[int, bool]:
    """How many heads were recognised in a conversation, and whether it went as it does without memory."""
    lessons, pieces = conversation(seed)
    quick, slow = Telling(remembering()), Telling(Forgetful())
    for plane in (quick, slow):
        for lesson in lessons:
            await hear(plane, of, [(lesson, 4)])
        plane.understood.clear()
        if seed % 4 == 0:
            plane.world = replace(plane.world, bounds=NARROW)
    differs = await hear(quick, of, pieces) != await hear(slow, of, pieces) or quick.understood != slow.understood
    return quick.recognised, differs


@pytest.mark.source_only
def test_what_is_recognised_means_what_the_parser_says() -> None:
    async def main() -> None:
        recognised = 0
        for seed in range(CONVERSATIONS):
            found, differs = await differences(seed, DataPlane, Heads)
            assert not differs, f"seed {seed}"
            recognised += found
        assert recognised >= RECOGNISED_MIN

    uvloop.run(main())


async def answers(seed: int, of: type[DataPlane] = DataPlane, *, forgetful: bool) -> tuple[int, list[object]]:
    """What a whole plane makes of a conversation, and how many pieces began with a head that it knew; none if it is `forgetful`."""
    lessons, pieces = conversation(seed, CHATS)
    upstream, ledger, bugs = FakeUpstream(), FakeLedger(), list[BaseException]()
    world = World(FakeClock(), upstream, ledger, FakeLive(), FakeMeter(), BOUNDS, lambda: 0, bugs.append)
    plane = Plane(world, snapshot(bounds=BOUNDS), demo=False)
    known = 0

    def before(piece: bytes) -> None:
        nonlocal known
        if forgetful:
            plane.heads.clear()
        elif (mark := Heads.mark(piece)) is not None:
            known += mark[0] in plane.heads

    for lesson in lessons:
        await hear(plane, of, [(lesson, 12)], before)
    if seed % 4 == 0:
        plane.world = replace(plane.world, bounds=NARROW)
    known = 0
    heard = await hear(plane, of, pieces, before)
    understood = [replace(call.request, id="") for call in upstream.calls]
    ended = [(settlement.status, settlement.result) for settlement in ledger.settlements]
    assert not bugs
    return known, [*map(without_ids, heard), *understood, *ended]


def without_ids(written: object) -> object:
    """Ids are drawn anew each time."""
    return re.sub(rb"rg-[0-9a-f]{32}", b"rg-", written) if isinstance(written, bytes) else written


def test_a_whole_plane_does_the_same_whether_it_recognises_heads_or_not() -> None:
    async def main() -> None:
        recognised = 0
        for seed in range(CONVERSATIONS):
            known, quick = await answers(seed, forgetful=False)
            _, slow = await answers(seed, forgetful=True)
            assert quick == slow, f"seed {seed}"
            recognised += known
        assert recognised >= RECOGNISED_MIN

    uvloop.run(main())


BUGS = {
    "what stands behind the length is not looked at": (heads, "data[:at] + data[after:end]", "data[:at]"),
    "what stands before the length is not looked at": (heads, "data[:at] + data[after:end]", "data[after:end]"),
    "any number is a length": (protocol, "self._length == length and names_a_length(data, at)", "self._length >= 0"),
    "a body without end": (protocol, "length <= self.bounds.body_bytes_max and ", ""),
    "headers without end": (protocol, " and head.size_max <= self.bounds.header_bytes_max", ""),
    "nobody is asked to send the body": (protocol, "if whole and not self._asks_first and ", "if whole and "),
    "whoever wanted to leave is kept": (protocol, 'self._digest if keep_alive else b""', "self._digest"),
    "recognised in the middle": (protocol, "if self._reading is Reading.IDLE and self.keep_alive", "if self.keep_alive"),
    "what comes behind is lost": (protocol, "        return data[lacking:]", '        return b""'),
    "a piece of a body is all of it": (protocol, "        if self._lacking_bytes == 0:", "        if True:"),
    "too many ahead of their turn": (
        protocol,
        "            except Problem as problem:\n                self._refuse(problem)",
        "            except Problem:\n                pass",
    ),
    "what it declares is forgotten": (heads, " or name.startswith(PREFIX)]", "]"),
    "its own id is forgotten": (heads, 'KEPT: Final = frozenset({"x-request-id", ', "KEPT: Final = frozenset({"),
    "its session is forgotten": (heads, '{"x-request-id", SESSION, ', '{"x-request-id", '),
}  # fmt: skip


@pytest.mark.source_only
@pytest.mark.parametrize("bug", BUGS)
def test_a_mistake_in_what_is_remembered_is_noticed(bug: str) -> None:
    module, good, bad = BUGS[bug]
    copy = planted(module, good, bad)
    of, remembering = getattr(copy, "DataPlane", DataPlane), getattr(copy, "Heads", Heads)

    async def main() -> None:
        for seed in range(CONVERSATIONS):
            try:
                if (await differences(seed, of, remembering))[1]:
                    return
            except (Problem, AssertionError):
                return
        raise AssertionError("nobody noticed")

    uvloop.run(main())


def planted(module: types.ModuleType, good: str, bad: str) -> types.ModuleType:
    """`module`, in whose text `good` reads `bad`."""
    text = Path(cast(str, module.__file__)).read_text()
    assert text.count(good) == 1, f"the text to be spoilt stands there {text.count(good)} times"
    copy = types.ModuleType(f"{module.__name__} with a mistake")
    sys.modules[copy.__name__] = copy  # dataclasses look themselves up
    try:
        exec(compile(text.replace(good, bad), copy.__name__, "exec"), copy.__dict__)  # noqa: S102
    finally:
        del sys.modules[copy.__name__]
    return copy


# --- what is kept --------------------------------------------------------------------------------------------------------


def test_no_key_is_kept_and_only_good_ones_are_remembered() -> None:
    async def main() -> None:
        async with serving() as gateway:
            for wrong in (post(key="nobody"), post("x-gateway-region: DE", key=None), post("x-request-id: a", "x-request-id: b")):
                await gateway.ask(wrong)
            assert not gateway.plane.heads
            assert [(await gateway.ask(post("x-request-id: mine"))).header("x-request-id") for _ in range(2)] == ["mine"] * 2
            (head,) = gateway.plane.heads.values()
            assert head.headers == [("x-request-id", "mine")]
            kept = [(name, getattr(head, name)) for name in dir(head) if not name.startswith("__")]
            assert "mine" in repr(kept)
            assert key_text("ward").rpartition("_")[2] not in repr(kept)

    run(main)


def test_a_key_that_is_good_no_more_is_refused_though_its_head_is_recognised() -> None:
    async def main() -> None:
        ward = snapshot().access.keys["ward"]
        for change in ({"revoked": True}, {"digest": b"another".ljust(32)}, {"expires": NOW}, {"demo": True}, None):
            async with serving() as gateway:
                caller, plane, policy = await gateway.connect(), gateway.plane, snapshot()
                caller.send(post())
                assert (await caller.reply()).status == 200
                assert len(plane.heads) == 1
                keys = {**policy.access.keys, "ward": replace(ward, **change)} if change else {}
                other = replace(policy, access=replace(policy.access, keys=keys))
                plane.adopt(plane.prepare(other), plane.world)
                caller.send(post())
                assert (await caller.reply()).told == (401, "invalid_api_key")

    run(main)


def test_there_is_an_end_to_what_is_remembered() -> None:
    known = Heads()
    for number in range(3 * heads.HEADS_MAX):
        known.remember(Head("POST", "/", [("x-request-id", str(number))], digest=b"%d" % number))
        assert len(known) <= heads.HEADS_MAX
    known.clear()
    known.remember(Head("POST", "/", [("x-gateway-region", "x" * heads.KEPT_CHARS_MAX)], digest=b"long"))
    assert not known
    assert Heads.mark(b"POST / HTTP/1.1\r\na: " + b"b" * heads.HEAD_BYTES_MAX + b"\r\ncontent-length: 5\r\n\r\n") is None
