"""The port Ledger: two kinds of line, `begun` before anything is sent and `settled` when all is over.

A `begun` line says which route is about to be opened, and the first one of an exchange why (record.py has its fields):

    prev, kind, id, began, stream, body_bytes, decision: {…}, attempt: {number, route}      the first attempt
    prev, kind, id, attempt: {number, route}                                                the second, third, …

A `settled` line is the exchange in one: enough for a bill or a report without looking further. An exchange that sent nothing, a
refusal above all, has no `begun` line, so its `settled` line carries the decision.

    prev, kind, id, tenant, group, key, asked, api, stream, began, ended, status, code, result,
    attempts: [{number, route, address, began, first_content, ended, outcome, fault, scope, status, code, finish, retry_after_s,
                permanent, sent, dropped, usage}],
    usage: {uncached, cached, cache_write, output, reasoning, reported} or null, cost_usd: "0.00042", cost_basis,
    charged?: {account: amount}, decision?: {…}

Times are UTC seconds; 0: it never came. Money is a decimal number in text. Words that come from outside (a dropped field's name)
are kept only if they look like one.
"""

import re
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.core.decide import Decision
from gateway.core.exchange import Attempt, Request, Tried, Usage
from gateway.core.facts import RequestFacts
from gateway.core.memo import Memo
from gateway.core.settlement import Settlement
from gateway.ledger.record import Shorthand
from gateway.ledger.segments import SEGMENT_BYTES_MAX, Chain
from gateway.ports import Clock

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z_.\[\] -]{0,63}")
"""What a name from outside may look like. Without digits: names of fields have none, keys and tokens nearly always do."""
_CODE: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
FINISHES: Final = frozenset({"", "stop", "length", "tool_calls", "content_filter", "function_call"})
UNSHOWN: Final = "other"


class Audit:
    """One worker's ledger. `begun` and `settled` write at once and raise OSError; `sync` is for another thread."""

    def __init__(self, folder: Path, worker: str, clock: Clock, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> None:
        """`folder` is made if need be. `worker` names its files; two of a name can't begin at one instant. Raises OSError."""
        self._chain = Chain(folder, worker, clock.now, segment_bytes_max)
        self._shorthand: Shorthand | None = None
        self._who: Memo[object, bytes] = Memo()

    def begun(self, request: Request, decision: Decision, attempt: Attempt | None) -> None:
        """Keep that `attempt` is about to be opened. Raises OSError, and then nothing may be sent."""
        head = b'{"kind":"begun","id":"%b"' % request.id.encode()
        if attempt is None or attempt.number == 1:
            head = b'%b,"began":%b,"stream":%b,"body_bytes":%d,"decision":%b' % (
                head,
                orjson.dumps(request.began),
                b"true" if request.stream else b"false",
                request.body_bytes,
                self._decision(decision),
            )
        if attempt is None:
            self._chain.append(head + b',"attempt":null}')
        else:
            self._chain.append(b'%b,"attempt":{"number":%d,"route":"%b"}}' % (head, attempt.number, attempt.deployment.id.encode()))

    def settled(self, settlement: Settlement) -> None:
        """Keep how an exchange ended. Raises OSError."""
        request = settlement.request
        line: dict[str, Any] = {
            "stream": request.stream,
            "began": request.began,
            "ended": settlement.ended,
            "status": settlement.status,
            "code": settlement.code,
            "result": settlement.result,
            "attempts": [_tried(tried) for tried in settlement.tried],
            "usage": _usage(settlement.usage),
            "cost_usd": f"{settlement.cost.usd:f}",
            "cost_basis": settlement.cost.basis,
        }
        if settlement.charged:
            line["charged"] = dict(settlement.charged)
        if not settlement.tried:
            line["decision"] = orjson.Fragment(self._decision(settlement.decision))
        head = b'{"kind":"settled","id":"%b",%b,' % (request.id.encode(), self._who_of(request.facts))
        self._chain.append(head + orjson.dumps(line)[1:])

    def sync(self) -> None:
        """Bring what was written to the disk. Blocks: not for an event loop. Raises OSError."""
        self._chain.sync()

    def close(self) -> None:
        """Sync and close. Raises OSError."""
        self._chain.close()

    def _decision(self, decision: Decision) -> bytes:
        shorthand = self._shorthand
        if shorthand is None or shorthand.view is not decision.view:
            shorthand = self._shorthand = Shorthand(decision.view)
        return shorthand.decision(decision)

    def _who_of(self, facts: RequestFacts) -> bytes:
        key = (facts.tenant, facts.group, facts.key, facts.asked, facts.api)
        found = self._who.get(key)
        if found is None:
            words = [",".join(sorted(values)) for values in key]
            named = dict(zip(("tenant", "group", "key", "asked", "api"), words, strict=True))
            found = self._who.keep(key, orjson.dumps(named)[1:-1])
        return found


def _tried(tried: Tried) -> dict[str, Any]:
    outcome = tried.outcome
    return {
        "number": tried.attempt.number,
        "route": tried.attempt.deployment.id,
        "address": tried.address,
        "began": tried.began,
        "first_content": tried.first_content,
        "ended": tried.ended,
        "outcome": outcome.ended,
        "fault": outcome.fault,
        "scope": outcome.scope,
        "status": outcome.status,
        "code": outcome.code if not outcome.code or _CODE.fullmatch(outcome.code) else UNSHOWN,
        "finish": outcome.finish if outcome.finish in FINISHES else UNSHOWN,
        "retry_after_s": outcome.retry_after_s,
        "permanent": outcome.permanent,
        "sent": outcome.sent,
        "dropped": [name if _NAME.fullmatch(name) else UNSHOWN for name in tried.dropped],
        "usage": _usage(outcome.usage),
    }


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "uncached": usage.uncached,
        "cached": usage.cached,
        "cache_write": usage.cache_write,
        "output": usage.output,
        "reasoning": usage.reasoning,
        "reported": usage.reported,
    }
