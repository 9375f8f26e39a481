"""What an upstream's refusal means: statuses, codes, types and words of error bodies, by table, to an outcome.

A 429 is throttled, exhausted until some time, or will never mend; HTTP 200 can be a failure. Looked up in this order: the dialect's
code, anybody's code, the dialect's type, anybody's type, words of the message, the status. What no row knows is UNKNOWN, and is
treated as failed. Words of a message can only lead to REJECTED: a client's text may be echoed there, and must not count against
an endpoint. `rows()` lists it all for the README.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from gateway.core.exchange import Ended, Fault, Outcome, Scope
from gateway.upstream.call import Failure
from gateway.upstream.masking import masked

Headers = Sequence[tuple[bytes, bytes]]

RETRY_S_MAX: Final = 31 * 86_400.0
"""Plans run by the month; a longer wait is a mistake of whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `sign` is what is looked for, `dialect` who says it ("": anybody)."""

    dialect: str
    sign: str
    ended: Ended
    fault: Fault
    scope: Scope
    code: str
    permanent: bool = False


_R, _T, _E, _F, _U = Ended.REJECTED, Ended.THROTTLED, Ended.EXHAUSTED, Ended.FAILED, Ended.UNKNOWN
_CLIENT, _OURS, _THEIRS = Fault.CLIENT, Fault.OURS, Fault.UPSTREAM
_REQUEST, _DEPLOYMENT, _ENDPOINT = Scope.REQUEST, Scope.DEPLOYMENT, Scope.ENDPOINT

BY_CODE: Final = (
    # Z.ai; 1308, 1310 and 1315 to 1321 name the time of their end in prose
    *(Row("zai", c, _F, _OURS, _ENDPOINT, "credentials_refused", True) for c in ("1000", "1001", "1002", "1003", "1004", "1005")),
    Row("zai", "1113", _E, _OURS, _ENDPOINT, "no_balance", True),
    *(Row("zai", c, _R, _CLIENT, _REQUEST, "invalid_request") for c in ("1210", "1213", "1214", "1215")),
    Row("zai", "1211", _F, _OURS, _DEPLOYMENT, "model_not_found"),
    *(Row("zai", c, _F, _OURS, _DEPLOYMENT, "not_supported") for c in ("1212", "1221", "1222")),
    Row("zai", "1220", _F, _OURS, _DEPLOYMENT, "not_permitted"),
    Row("zai", "1261", _R, _CLIENT, _REQUEST, "context_length_exceeded"),
    Row("zai", "1301", _R, _CLIENT, _REQUEST, "content_filter"),
    *(Row("zai", c, _T, _OURS, _DEPLOYMENT, "rate_limited") for c in ("1302", "1303")),
    Row("zai", "1305", _T, _THEIRS, _DEPLOYMENT, "overloaded"),
    *(Row("zai", c, _E, _OURS, _ENDPOINT, "quota_used_up") for c in ("1308", "1310", *map(str, range(1315, 1322)))),
    *(Row("zai", c, _E, _OURS, _ENDPOINT, "plan_expired", True) for c in ("1309", "1314")),
    Row("zai", "1311", _E, _OURS, _DEPLOYMENT, "model_not_in_plan", True),
    Row("zai", "1313", _T, _OURS, _ENDPOINT, "fair_use"),
    # Mistral
    Row("mistral", "1300", _T, _OURS, _DEPLOYMENT, "rate_limited"),
    Row("mistral", "1500", _F, _OURS, _DEPLOYMENT, "model_not_found"),
    Row("mistral", "1913", _F, _OURS, _DEPLOYMENT, "not_permitted"),
    Row("mistral", "3230", _R, _CLIENT, _REQUEST, "invalid_message_order"),
    Row("mistral", "3280", _F, _OURS, _REQUEST, "tool_call_id_refused"),  # we map them, so it is our defect
    Row("mistral", "3505", _T, _THEIRS, _DEPLOYMENT, "overloaded"),
    # OpenAI, and who copies it
    Row("", "insufficient_quota", _E, _OURS, _ENDPOINT, "no_balance", True),
    Row("", "billing_hard_limit_reached", _E, _OURS, _ENDPOINT, "no_balance", True),
    Row("", "billing_not_active", _E, _OURS, _ENDPOINT, "no_balance", True),
    Row("", "rate_limit_exceeded", _T, _OURS, _DEPLOYMENT, "rate_limited"),
    Row("", "invalid_api_key", _F, _OURS, _ENDPOINT, "credentials_refused", True),
    Row("", "account_deactivated", _F, _OURS, _ENDPOINT, "credentials_refused", True),
    Row("", "unsupported_country_region_territory", _F, _OURS, _ENDPOINT, "not_permitted", True),
    Row("", "model_not_found", _F, _OURS, _DEPLOYMENT, "model_not_found"),
    Row("", "DeploymentNotFound", _F, _OURS, _DEPLOYMENT, "model_not_found"),
    Row("", "context_length_exceeded", _R, _CLIENT, _REQUEST, "context_length_exceeded"),
    Row("", "content_filter", _R, _CLIENT, _REQUEST, "content_filter"),
    Row("", "content_policy_violation", _R, _CLIENT, _REQUEST, "content_filter"),
)

BY_TYPE: Final = (
    Row("mistral", "extra_forbidden", _F, _OURS, _REQUEST, "field_refused"),  # our table let through what they don't know
    Row("mistral", "rate_limited", _T, _OURS, _DEPLOYMENT, "rate_limited"),
    Row("mistral", "service_tier_capacity_exceeded", _T, _THEIRS, _DEPLOYMENT, "overloaded"),
    Row("mistral", "backend_out_of_capacity", _T, _THEIRS, _DEPLOYMENT, "overloaded"),
    Row("mistral", "invalid_model", _F, _OURS, _DEPLOYMENT, "model_not_found"),
    Row("mistral", "invalid_request_message_order", _R, _CLIENT, _REQUEST, "invalid_message_order"),
    Row("mistral", "invalid_function_call", _F, _OURS, _REQUEST, "tool_call_id_refused"),
    Row("", "insufficient_quota", _E, _OURS, _ENDPOINT, "no_balance", True),
    Row("", "exceed_context_size_error", _R, _CLIENT, _REQUEST, "context_length_exceeded"),  # llama.cpp
    Row("", "authentication_error", _F, _OURS, _ENDPOINT, "credentials_refused", True),  # llama.cpp
    Row("", "unavailable_error", _F, _THEIRS, _ENDPOINT, "loading"),  # llama.cpp, while it loads the model
    Row("", "not_supported_error", _F, _OURS, _DEPLOYMENT, "not_supported"),  # llama.cpp, 501
    Row("", "ServiceUnavailableError", _T, _THEIRS, _DEPLOYMENT, "overloaded"),  # vLLM and SGLang: the queue is full
    Row("", "NotFoundError", _F, _OURS, _DEPLOYMENT, "model_not_found"),  # vLLM
    Row("", "overloaded", _T, _THEIRS, _DEPLOYMENT, "overloaded"),  # TGI
    Row("", "generation", _F, _THEIRS, _DEPLOYMENT, "upstream_error"),  # TGI, 424
    Row("", "incomplete_generation", _F, _THEIRS, _DEPLOYMENT, "upstream_error"),  # TGI, 500
)

BY_WORDS: Final = (
    (
        re.compile(
            r"(?i)maximum context length|context (?:length|window|size)|exceeds? max(?:imum)? length|prompt is too long"
            r"|too (?:many tokens|large for model)|longer than the model|max_new_tokens` must be"
        ),
        frozenset({400, 413, 422}),
        Row("", "words on the context's length", _R, _CLIENT, _REQUEST, "context_length_exceeded"),
    ),
    (
        re.compile(r"(?i)guardrail|moderation|content (?:policy|filter)"),
        frozenset({400, 403}),
        Row("", "words on guardrails or moderation", _R, _CLIENT, _REQUEST, "content_filter"),
    ),
)

BY_STATUS: Final[Mapping[int, Row]] = {
    400: Row("", "400", _R, _CLIENT, _REQUEST, "invalid_request"),
    401: Row("", "401", _F, _OURS, _ENDPOINT, "credentials_refused", True),
    402: Row("", "402", _E, _OURS, _ENDPOINT, "no_balance", True),
    403: Row("", "403", _F, _OURS, _ENDPOINT, "credentials_refused"),  # a firewall's may mend
    404: Row("", "404", _F, _OURS, _DEPLOYMENT, "model_not_found"),  # path and model are ours, never the client's
    405: Row("", "405", _F, _OURS, _ENDPOINT, "not_supported"),
    408: Row("", "408", _F, _THEIRS, _DEPLOYMENT, "upstream_timeout"),
    413: Row("", "413", _R, _CLIENT, _REQUEST, "request_too_large"),
    422: Row("", "422", _R, _CLIENT, _REQUEST, "invalid_request"),
    424: Row("", "424", _F, _THEIRS, _DEPLOYMENT, "upstream_error"),
    429: Row("", "429", _T, _OURS, _DEPLOYMENT, "rate_limited"),
    434: Row("zai", "434", _F, _OURS, _DEPLOYMENT, "not_permitted"),
    435: Row("zai", "435", _R, _CLIENT, _REQUEST, "request_too_large"),
    500: Row("", "500", _F, _THEIRS, _DEPLOYMENT, "upstream_error"),
    501: Row("", "501", _F, _OURS, _DEPLOYMENT, "not_supported"),
}

BY_CLASS: Final[Mapping[int, Row]] = {
    2: Row("", "2xx with an error in it", _F, _THEIRS, _DEPLOYMENT, "error_in_answer"),
    3: Row("", "3xx", _F, _THEIRS, _ENDPOINT, "redirect"),  # never followed
    5: Row("", "5xx", _F, _THEIRS, _ENDPOINT, "upstream_error"),
}

ANYTHING_ELSE: Final = Row("", "anything else", _U, _THEIRS, _DEPLOYMENT, "unknown_error")

ZERO_LIMIT: Final = Row("mistral", "1300 with a limit of 0", _E, _OURS, _DEPLOYMENT, "model_not_in_plan", True)
NAMES_MODEL: Final = Row("zai", "1214, naming the model", _F, _OURS, _DEPLOYMENT, "model_not_found")

BY_FAILURE: Final[Mapping[str, Row]] = {
    "connect_refused": Row("", "connect_refused", _F, _THEIRS, _ENDPOINT, "connect_refused"),
    "no_socket": Row("", "no_socket", _F, _OURS, _REQUEST, "no_socket"),
    "connect_timeout": Row("", "connect_timeout", _F, _THEIRS, _ENDPOINT, "connect_timeout"),
    "dns": Row("", "dns", _F, _THEIRS, _ENDPOINT, "dns"),
    "address_refused": Row("", "address_refused", _F, _OURS, _ENDPOINT, "address_refused"),  # the name left its networks
    "tls": Row("", "tls", _F, _THEIRS, _ENDPOINT, "tls"),
    "write_failed": Row("", "write_failed", _F, _THEIRS, _ENDPOINT, "write_failed"),
    "first_byte_timeout": Row("", "first_byte_timeout", _F, _THEIRS, _DEPLOYMENT, "first_byte_timeout"),
    "silence_timeout": Row("", "silence_timeout", _F, _THEIRS, _DEPLOYMENT, "silence_timeout"),
    "total_timeout": Row("", "total_timeout", _F, _THEIRS, _DEPLOYMENT, "total_timeout"),
    "closed_early": Row("", "closed_early", _F, _THEIRS, _ENDPOINT, "closed_early"),
    "protocol_error": Row("", "protocol_error", _F, _THEIRS, _ENDPOINT, "protocol_error"),
    "head_too_large": Row("", "head_too_large", _F, _THEIRS, _ENDPOINT, "head_too_large"),
    "aborted": Row("", "aborted", _F, Fault.NOBODY, _REQUEST, "aborted"),
}
"""How a call fails before there is an answer."""

BY_ANSWER: Final[Mapping[str, Row]] = {
    "bad_answer": Row("", "an answer that is no chat completion", _F, _THEIRS, _DEPLOYMENT, "bad_answer"),
    "bad_vectors": Row("", "embeddings, but not a finite vector for each text", _F, _THEIRS, _DEPLOYMENT, "bad_vectors"),
    "empty_answer": Row("", "an answer that says nothing", _F, _THEIRS, _DEPLOYMENT, "empty_answer"),
    "ended_early": Row("", "a stream without an end", _F, _THEIRS, _DEPLOYMENT, "ended_early"),
    "answer_too_large": Row("", "an answer beyond the limit", _F, _THEIRS, _DEPLOYMENT, "answer_too_large"),
    "stream_too_large": Row("", "a stream beyond the limit", _F, _THEIRS, _DEPLOYMENT, "stream_too_large"),
    "held_too_large": Row("", "too much before the first content", _F, _THEIRS, _DEPLOYMENT, "held_too_large"),
    "event_too_large": Row("", "an event beyond the limit", _F, _THEIRS, _DEPLOYMENT, "event_too_large"),
    "upstream_network_error": Row("zai", "finish_reason network_error", _F, _THEIRS, _DEPLOYMENT, "upstream_network_error"),
    "upstream_error": Row("", "finish_reason error", _F, _THEIRS, _DEPLOYMENT, "upstream_error"),
    "upstream_aborted": Row("", "finish_reason abort", _F, _THEIRS, _DEPLOYMENT, "upstream_aborted"),
}
"""How an answer with HTTP 200 fails."""

FINISHES: Final[Mapping[str, str]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
    "sensitive": "content_filter",  # Z.ai
    "model_context_window_exceeded": "length",  # Z.ai
    "model_length": "length",  # Mistral
    "repetition": "stop",  # vLLM
    "eos_token": "stop",  # TGI
    "stop_sequence": "stop",  # TGI
}
"""Every finish_reason to one that OpenAI's clients know; another than these is `stop`."""

BAD_FINISHES: Final[Mapping[str, str]] = {
    "network_error": "upstream_network_error",
    "error": "upstream_error",
    "abort": "upstream_aborted",
}
"""Each finish_reason that is a failure, and its key in BY_ANSWER."""

_CODES: Final = {(row.dialect, row.sign): row for row in BY_CODE}
_TYPES: Final = {(row.dialect, row.sign): row for row in BY_TYPE}


def rows() -> Iterator[Row]:
    """The whole table, in the order of its lookup."""
    yield from (ZERO_LIMIT, NAMES_MODEL)
    yield from BY_CODE
    yield from BY_TYPE
    yield from (row for _, _, row in BY_WORDS)
    yield from BY_STATUS.values()
    yield from BY_CLASS.values()
    yield ANYTHING_ELSE
    yield from BY_FAILURE.values()
    yield from BY_ANSWER.values()


# --- what an error body says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """An error, out of whatever shape it came in. Texts, "" where nothing is said."""

    code: str = ""
    type: str = ""
    message: str = ""
    param: str | None = None


def said(body: Any) -> Said:
    """What a parsed error body says; never raises.

    Shapes: {"error": {…}} (OpenAI, vLLM, llama.cpp, Z.ai), {"error": "text", "error_type"?} (vLLM's 401, TGI), flat (Mistral,
    SGLang), {"message": {"detail": […]}} and {"detail": […] or "text"} (Mistral), {"code", "msg"} (Zhipu).
    """
    if not isinstance(body, dict):
        return Said()
    inner = body.get("error")
    if isinstance(inner, str):
        return Said(type=_text(body.get("error_type") or body.get("type")), message=inner)
    error = inner if isinstance(inner, dict) else body
    message = error.get("message") or error.get("msg")
    detail = message.get("detail") if isinstance(message, dict) else error.get("detail")
    if isinstance(detail, list):
        return _detailed(detail)
    if isinstance(detail, str) and not isinstance(message, str):
        message = detail
    param = error.get("param")
    return Said(_text(error.get("code")), _text(error.get("type")), _text(message), param if isinstance(param, str) else None)


def _detailed(detail: list[Any]) -> Said:
    """pydantic's list of what is wrong, each with type, place and text; `input`, an echo, is left out."""
    found = [item for item in detail if isinstance(item, dict)]
    places = [".".join(str(step) for step in item["loc"]) if isinstance(item.get("loc"), list) else "" for item in found]
    texts = [
        f"{place}: {_text(item.get('msg'))}" if place else _text(item.get("msg")) for item, place in zip(found, places, strict=True)
    ]
    kinds = [_text(item.get("type")) for item in found]
    kind = "extra_forbidden" if "extra_forbidden" in kinds else next(iter(kinds), "")
    return Said(type=kind, message="; ".join(texts), param=next((p for p in places if p), None))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


# --- outcomes -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Who answered: its dialect, its credential (only to mask it) and our name of the model there."""

    dialect: str
    secret: str | None = None
    model: str = ""


def refused(origin: Origin, status: int, headers: Headers, body: bytes, now: float) -> Outcome:
    """The outcome of an HTTP answer that is an error. `now` in UTC seconds, for waits that are given as a time of day."""
    try:
        parsed = orjson.loads(body) if body else None
    except ValueError:
        parsed = None
    return of_error(origin, status, headers, parsed, now)


def of_error(origin: Origin, status: int, headers: Headers, body: Any, now: float) -> Outcome:
    """The same for a body that is parsed. For an error inside a 200, `status` is 200 and a code such as 503 in it is heeded."""
    what = said(body)
    row = _row(origin, status, headers, what)
    retry_after_s = None
    if row.ended in (Ended.THROTTLED, Ended.EXHAUSTED, Ended.FAILED) and not row.permanent:
        retry_after_s = wait_of(headers, what.message if row.ended is Ended.EXHAUSTED else "", now)
    blamed = row.ended is Ended.REJECTED
    return Outcome(
        row.ended,
        row.fault,
        row.scope,
        status=status,
        code=row.code,
        message=(masked(what.message, origin.secret) or "the upstream refused the request and did not say why") if blamed else "",
        param=masked(what.param, origin.secret)[:200] if blamed and what.param else None,
        retry_after_s=retry_after_s,
        permanent=row.permanent,
    )


def _row(origin: Origin, status: int, headers: Headers, what: Said) -> Row:
    for table, sign in ((_CODES, what.code), (_TYPES, what.type)):
        row = (table.get((origin.dialect, sign)) or table.get(("", sign))) if sign else None
        if row is not None:
            return _exceptions(origin, headers, what, row)
    if not 400 <= status <= 599 and what.code.isdecimal() and 400 <= int(what.code[:4]) <= 599:
        status = int(what.code)  # an error inside a 200, of those who write the status there
    for words, statuses, row in BY_WORDS:
        if status in statuses and words.search(what.message):
            return row
    row = BY_STATUS.get(status)
    if row is not None and row.dialect in ("", origin.dialect):
        return row
    return BY_CLASS.get(status // 100, ANYTHING_ELSE)


def _exceptions(origin: Origin, headers: Headers, what: Said, row: Row) -> Row:
    """Two codes that mean two things."""
    if (row.dialect, row.code) == ("mistral", "rate_limited") and any(
        name.startswith(b"x-ratelimit-limit-") and value.strip() == b"0" for name, value in headers
    ):
        return ZERO_LIMIT
    if (row.dialect, row.sign) == ("zai", "1214") and origin.model and origin.model in what.message:
        return NAMES_MODEL  # measured for a model that does not exist
    return row


def failed(failure: Failure) -> Outcome:
    """The outcome of a call that broke before its answer was complete."""
    return replace(_plain(BY_FAILURE.get(failure.code, ANYTHING_ELSE)), sent=failure.sent)


def spoilt(what: str, status: int = 200) -> Outcome:
    """The outcome of an answer that was no good. `what` is a key of BY_ANSWER."""
    return replace(_plain(BY_ANSWER[what]), status=status)


def _plain(row: Row) -> Outcome:
    return Outcome(row.ended, row.fault, row.scope, code=row.code, permanent=row.permanent)


# --- how long to wait -----------------------------------------------------------------------------------------------------------

_PROSE: Final = re.compile(r"(\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2})")
_PROSE_ZONE: Final = timezone(timedelta(hours=8))
"""Z.ai names no zone. Singapore and Beijing share this one; should it be another to the west, this is a lower bound."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def wait_of(headers: Headers, prose: str, now: float) -> float | None:
    """Seconds until it makes sense to ask again, or None where nobody says.

    `retry-after-ms`, then `retry-after` (seconds or a date), then `x-ratelimit-reset-…` (durations such as 6m30s) of what has
    nothing remaining, or the longest of all; then a time in `prose`. Times that have passed say nothing.
    """
    given = {name: value.decode("latin-1").strip() for name, value in headers}
    candidates = (
        _seconds(given.get(b"retry-after-ms", ""), 0.001),
        _seconds(given.get(b"retry-after", ""), 1.0),
        _date(given.get(b"retry-after", ""), now),
        _resets(given),
        _prose(prose, now),
    )
    for wait in candidates:
        if wait is not None and math.isfinite(wait) and wait > 0:
            return min(wait, RETRY_S_MAX)
    return None


def _seconds(text: str, unit_s: float) -> float | None:
    try:
        return float(text) * unit_s
    except ValueError:
        return None


def _date(text: str, now: float) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, IndexError, TypeError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now


def _resets(given: Mapping[bytes, str]) -> float | None:
    waits: dict[bytes, float] = {}
    for name, text in given.items():
        if name.startswith(b"x-ratelimit-reset-"):
            parts = _DURATION.findall(text)
            if parts and "".join(number + unit for number, unit in parts) == text:
                waits[name.removeprefix(b"x-ratelimit-reset-")] = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
            elif (seconds := _seconds(text, 1.0)) is not None:
                waits[name.removeprefix(b"x-ratelimit-reset-")] = seconds
    used_up = [wait for what, wait in waits.items() if given.get(b"x-ratelimit-remaining-" + what) == "0"]
    return max(used_up or waits.values(), default=None)


def _prose(text: str, now: float) -> float | None:
    if not (found := _PROSE.search(text)):
        return None
    try:
        when = datetime.fromisoformat(found[1]).replace(tzinfo=_PROSE_ZONE)
    except ValueError:
        return None
    return when.timestamp() - now
