"""The port Ledger: two kinds of line, `begun` before anything is sent and `settled` when all is over, and what they lean on.

A `begun` line says which route is about to be opened, and the first one of an exchange why:

    prev, kind, id, began, stream, body_bytes, decision: {…}, attempt: {number, route}      the first attempt
    prev, kind, id, attempt: {number, route}                                                the second, third, …

A decision is mostly what other decisions are too: the policy, the reasons against fifty deployments. Each such part is a line of
its own, which stands in the same segment before any line that names it, once (record.py has what is in it):

    prev, kind: "basis", name, is: {…}                          name: a number, good within the segment
    decision: {basis: [name…], prompt_tokens, output_tokens, draw}

So a segment can be read by itself, and a first `begun` line, hashed and written before the call, is 340 bytes in place of 1,950 (50
deployments) and takes 6.5 µs in place of 12.

A `settled` line is the exchange in one: enough for a bill or a report without looking further. An exchange that sent nothing, a
refusal above all, has no `begun` line, so its `settled` line carries the decision.

    prev, kind, id, tenant, group, key, asked, api, stream, began, ended, status, code, result,
    attempts: [{number, route, address, began, first_content, ended, outcome, fault, scope, status, code, finish, retry_after_s,
                permanent, sent, dropped, usage}],
    usage: {uncached, cached, cache_write, output, reasoning, reported} or null, cost_usd: "0.00042", cost_basis,
    charged?: {account: amount}, decision?: {…},
    cache?: {how, and of what was given again: route, made_by (an id), made, usage, avoided_usd, avoided_basis;
             likeness? (a cosine, where that was made for a like request), unlike? (why no such one was given)}

An answer that was kept and given again sent nothing, so it has no `begun` line; what it avoided is no part of its cost, which is 0.
`cache` is there where policy lets the request's answers be kept.

A side call of the gateway's own is an exchange like any other; its first `begun` line and its `settled` line say `side_of`, the id
of the request that it was made for.

Times are UTC seconds; 0: it never came. Money is a decimal number in text. Words that come from outside (a dropped field's name)
are kept only if they look like one.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from orjson import Fragment, dumps

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Outcome, Recalled, Request, Tried
from gateway.core.facts import RequestFacts
from gateway.core.memo import Memo
from gateway.core.settlement import Settlement
from gateway.core.usage import Usage
from gateway.ledger.record import Shorthand, own
from gateway.ledger.segments import SEGMENT_BYTES_MAX, Chain
from gateway.ports import Clock

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_.\[\] -]{0,63}")
"""What a name from outside may look like. Without digits: names of fields have none, keys and tokens nearly always do."""
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FINISHES: Final = frozenset({"", "stop", "length", "tool_calls", "content_filter", "function_call"})
UNSHOWN: Final = "other"
LIKENESS_DECIMALS: Final = 4  # more are not known of a cosine (core.likeness)
_BOOL: Final = (b"false", b"true")


class Audit:
    """One worker's ledger. `begun` and `settled` write at once and raise OSError; `sync` is for another thread."""

    def __init__(self, folder: Path, worker: str, clock: Clock, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        """`folder` is made if need be. `worker` names its files: two of a name can't begin at one instant, or FileExistsError."""
        self._chain = Chain(folder, worker, clock.now, segment_bytes_max)
        self._shorthand: Shorthand | None = None
        self._segment = 0  # of the names below
        self._names: Memo[bytes, int] = Memo()  # of parts that stand in this segment; one that is forgotten is written again
        self._named = 0  # so far, in this segment
        self._references: Memo[Hashable, tuple[Decision, bytes]] = Memo()
        self._who: Memo[Hashable, bytes] = Memo()
        self._how: Memo[Hashable, bytes] = Memo()
        self._decided: set[str] = set()  # exchanges under way whose decision stands in a line

    @property
    def chain(self) -> str:
        """What this worker's files are called, up to their number: no other life of any worker here has the same name."""
        return self._chain.name

    @property
    def trouble(self) -> str:
        """Why the last line could not be kept; "" where it was."""
        return self._chain.trouble

    def begun(self, request: Request, decision: Decision, attempt: Attempt | None) -> None:
        """Keep that `attempt` is about to be opened. Raises OSError, and then nothing may be sent.

        The first line of an exchange has its decision. That need not be its first attempt's: a limit may not have let that begin.
        """
        name = request.id.encode()
        route = b"null" if attempt is None else b'{"number":%d,"route":"%b"}' % (attempt.number, attempt.deployment.id.encode())
        if attempt is not None and attempt.number > 1 and request.id in self._decided:
            self._chain.append(b'{"kind":"begun","id":"%b","attempt":%b}' % (name, route))
            return
        reference = self._reference(decision)
        self._chain.write(
            b'{"kind":"begun","id":"%b","began":%b,"stream":%b,"body_bytes":%d,"decision":%b,"attempt":%b%b}'
            % (name, dumps(request.began), _BOOL[request.stream], request.body_bytes, reference, route, _side(request))
        )
        self._decided.add(request.id)

    def settled(self, settlement: Settlement) -> None:
        """Keep how an exchange ended. Raises OSError."""
        request, usage, cost = settlement.request, settlement.usage, settlement.cost
        used = _usage(usage)
        more = _side(request)
        if settlement.charged:
            more += b',"charged":' + dumps(dict(settlement.charged))
        if settlement.recalled is not None:
            more += b',"cache":' + _recalled(settlement, settlement.recalled)
        attempts = b",".join([self._tried(tried, used if tried.outcome.usage is usage else None) for tried in settlement.tried])
        if request.id in self._decided:
            self._decided.remove(request.id)
            self._chain.segment()
        else:
            more += b',"decision":' + self._reference(settlement.decision)
        self._chain.write(
            b'{"kind":"settled","id":"%b",%b,"stream":%b,"began":%b,"ended":%b,"status":%d,"code":%b,"result":"%b",'
            b'"attempts":[%b],"usage":%b,"cost_usd":"%b","cost_basis":"%b"%b}'
            % (
                request.id.encode(),
                self._who_of(request.facts),
                _BOOL[request.stream],
                dumps(request.began),
                dumps(settlement.ended),
                settlement.status,
                dumps(settlement.code),
                settlement.result.encode(),
                attempts,
                used,
                format(cost.usd, "f").encode(),
                cost.basis.encode(),
                more,
            )
        )

    def sync(self) -> None:
        """Bring what was written to the disk. Blocks: not for an event loop. Raises OSError."""
        self._chain.sync()

    def close(self) -> None:
        """Sync and close. Raises OSError."""
        self._chain.close()

    def _reference(self, decision: Decision) -> bytes:
        """`decision` as its line has it. What it leans on stands in the chain's segment when this returns. Raises OSError."""
        shorthand = self._shorthand
        if shorthand is None or shorthand.view is not decision.view:
            shorthand = self._shorthand = Shorthand(decision.view)
            self._references.clear()
        if self._chain.segment() != self._segment:
            self._segment, self._named = self._chain.segment(), 0
            self._names.clear()
            self._references.clear()
        key = shorthand.key(decision)
        found = self._references.get(key)
        if found is None:
            names = b",".join([b"%d" % self._name(part) for part in shorthand.parts(decision)])
            found = self._references.keep(key, (decision, names))  # the decision is held, so that its key stays its own
        return b'{"basis":[%b],%b}' % (found[1], own(decision))

    def _name(self, part: bytes) -> int:
        """What `part` goes by in this segment, into which it is written if it is not there yet. Raises OSError."""
        name = self._names.get(part)
        if name is None:
            name = self._named = self._named + 1  # if it can't be written, or is forgotten, the next has another name
            self._chain.write(b'{"kind":"basis","name":%d,"is":%b}' % (name, part))
            self._names.keep(part, name)
        return name

    def _who_of(self, facts: RequestFacts) -> bytes:
        key = (facts.tenant, facts.group, facts.key, facts.asked, facts.api)
        found = self._who.get(key)
        if found is None:
            words = [",".join(sorted(values)) for values in key]
            named = dict(zip(("tenant", "group", "key", "asked", "api"), words, strict=True))
            found = self._who.keep(key, dumps(named)[1:-1])
        return found

    def _tried(self, tried: Tried, used: bytes | None) -> bytes:
        outcome = tried.outcome
        key = (
            outcome.ended,
            outcome.fault,
            outcome.scope,
            outcome.status,
            outcome.code,
            outcome.finish,
            outcome.retry_after_s,
            outcome.permanent,
            outcome.sent,
            tried.dropped,
        )
        return b'{"number":%d,"route":"%b","address":%b,"began":%b,"first_content":%b,"ended":%b,%b,"usage":%b}' % (
            tried.attempt.number,
            tried.attempt.deployment.id.encode(),
            dumps(tried.address),
            dumps(tried.began),
            dumps(tried.first_content),
            dumps(tried.ended),
            self._how.get(key) or self._how.keep(key, _how(outcome, tried.dropped)),
            _usage(outcome.usage) if used is None else used,
        )


def _side(request: Request) -> bytes:
    """Whose side call it is, as a member of an object; nothing for one that is a client's own."""
    return b',"side_of":"%b"' % request.side_of.encode() if request.side_of else b""


def _recalled(settlement: Settlement, recalled: Recalled) -> bytes:
    """What the cache did for an exchange."""
    kept = recalled.kept
    if kept is None or recalled.deployment is None:
        return dumps({"how": recalled.how} if recalled.unlike is None else {"how": recalled.how, "unlike": recalled.unlike})
    avoided = settlement.avoided
    made = {"route": recalled.deployment.id, "made_by": kept.made_by, "made": kept.made, "usage": Fragment(_usage(kept.usage))}
    like = {} if recalled.likeness is None else {"likeness": round(recalled.likeness, LIKENESS_DECIMALS)}
    return dumps({"how": recalled.how, **made, "avoided_usd": f"{avoided.usd:f}", "avoided_basis": avoided.basis, **like})


def _how(outcome: Outcome, dropped: tuple[str, ...]) -> bytes:
    """How an attempt ended, as members of an object."""
    said = {
        "outcome": outcome.ended,
        "fault": outcome.fault,
        "scope": outcome.scope,
        "status": outcome.status,
        "code": outcome.code if not outcome.code or _CODE.fullmatch(outcome.code) else UNSHOWN,
        "finish": outcome.finish if outcome.finish in FINISHES else UNSHOWN,
        "retry_after_s": outcome.retry_after_s,
        "permanent": outcome.permanent,
        "sent": outcome.sent,
        "dropped": [name if _NAME.fullmatch(name) else UNSHOWN for name in dropped],
    }
    return dumps(said)[1:-1]


def _usage(usage: Usage | None) -> bytes:
    if usage is None:
        return b"null"
    return b'{"uncached":%d,"cached":%d,"cache_write":%d,"output":%d,"reasoning":%d,"reported":%b}' % (
        usage.uncached,
        usage.cached,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        _BOOL[usage.reported],
    )
