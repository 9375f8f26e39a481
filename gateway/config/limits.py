"""`limits:` and `at_most:`: every number of the data path that an admin may set, with its reason and its own bounds."""

import dataclasses
from decimal import Decimal
from typing import Final

from gateway.config.documents import Node
from gateway.config.problems import Mark, Problems
from gateway.config.reading import amount, entries, field, whole
from gateway.config.shapes import Amount, Key, Record, Whole
from gateway.core.bounds import Bounds
from gateway.core.policy import Limits

REASONS: Final = {
    "body_bytes_max": "a full 1M-token prompt is about 4 MB of text; the rest is room for inline images",
    "header_bytes_max": "OpenAI's own advice is to stay below 64 KiB of headers in total",
    "json_depth_max": "tool schemas nest about a dozen deep; a bomb nests thousands",
    "json_values_max": "embeddings take 300,000 tokens at a time; to read millions of lists takes seconds",
    "client_head_s_max": "a client that has not finished its headers by then is a slowloris, not a user",
    "client_body_s_max": "20 MB over a 3 Mbit/s line",
    "client_idle_s_max": "keep-alive; longer than the usual 60 s of load balancers, so that they close first",
    "client_stall_s_max": "a reader that takes nothing for a minute holds an upstream slot for nobody",
    "connections_max": "per worker; a connection costs about 10 kB",
    "exchanges_max": "under way at once per worker; each may hold a body",
    "connect_s_max": "TCP and TLS; a host that takes longer is down for our purposes",
    "first_byte_s_max": "a long prompt without streaming is silent until it is done; SDKs of Z.ai wait 300 s",
    "silence_s_max": "between chunks; reasoning models pause, vLLM is silent during prefill",
    "total_s_max": "OpenAI clients give up at 600 s; agents set more",
    "first_content_s_max": "of a stream; past it another route is tried",
    "keepalive_after_s": "a stream without content yet gets an SSE comment this often; proxies cut at 30 to 60 s",
    "upstream_head_bytes_max": "our own header limit, mirrored",
    "answer_bytes_max": "of an answer that is not streamed; 128K tokens of output are below 1 MB",
    "stream_bytes_max": "of one stream; 128K tokens, each in an event of its own, are below 100 MB",
    "event_bytes_max": "one SSE event; a whole tool call may come in one",
    "held_bytes_max": "of a stream before its first content",
    "error_bytes_max": "of an upstream's error body; 4 kB of it at most is ever passed on",
    "pool_idle_per_endpoint_max": "idle connections kept; each costs a socket and, with TLS, about 50 kB",
    "pool_idle_s_max": "below the 60 s after which most servers and balancers drop an idle connection",
    "attempts_max": "routes tried for one request; more only makes the caller wait",
    "breaker_failures": "in a row, until an endpoint's breaker opens: rides out single errors",
    "breaker_open_s": "then one probe; doubles up to breaker_open_s_max while probes fail",
    "breaker_open_s_max": "the longest that a breaker stays open between probes",
    "breaker_window_s": "in which shares of calls are counted: two of the usual scrapes, and as long as two openings",
    "breaker_calls_min": "in a window, before a share of them means anything",
    "breaker_failed_share": "of the calls in a window; from here on every other request would need another route anyway",
    "breaker_slow_share": "of the streams in a window; single long prompts are slow anywhere",
    "slow_first_content_s": "of a stream; reasoning is content, and 100k tokens of prompt are read in less",
    "failovers_share": "of the requests in failovers_window_s; more is a storm that takes the next provider down too",
    "failovers_free_per_s": "besides: where few ask, each of them may",
    "failovers_window_s": "a breaker has opened by then, and failovers are not needed any more",
    "throttle_s": "for a 429 that doesn't say how long; Mistral's and Z.ai's don't",
    "throttle_s_max": "whatever a `retry-after` says",
    "cache_bytes_max": "of all entries: half of what the embedded store may hold, so that accounts have room",
    "cache_tenant_bytes_max": "of one tenant, or one scope: a quarter, so that nobody drives all others out",
    "cache_entry_bytes_max": "of one answer before it is compressed; 128K tokens of output are below 1 MB",
    "cache_wait_s_max": "for an equal request that is under way; what takes longer has a leader that is stuck",
    "cache_near_wait_s_max": "for a message's embedding, before a request goes on without; they come within 0.2 s",
    "cache_near_prompt_tokens_max": "of a prompt that is compared: longer ones are documents, and no two mean the same",
    "drain_s_max": "SIGTERM waits this long for streams under way: an OpenAI client's own 600 s, and some",
}
"""The comments of core/bounds.py, which a test holds equal to these: a reason is read where the number is set, too."""

BYTES_MOST: Final = 2**30  # a worker with such buffers has other troubles
SECONDS_MOST: Final = Decimal(86_400)  # a day; nothing on the data path waits that long
COUNT_MOST: Final = 1_000_000

ORDERED: Final = (
    ("breaker_open_s", "breaker_open_s_max"),
    ("throttle_s", "throttle_s_max"),
    ("first_content_s_max", "total_s_max"),
    ("first_byte_s_max", "total_s_max"),
    ("connect_s_max", "total_s_max"),
    ("held_bytes_max", "answer_bytes_max"),
    ("held_bytes_max", "stream_bytes_max"),
    ("cache_entry_bytes_max", "cache_tenant_bytes_max"),
    ("cache_tenant_bytes_max", "cache_bytes_max"),
    ("cache_near_wait_s_max", "keepalive_after_s"),
)
"""Pairs of limits of which the first may not be above the second."""


def _key(item: dataclasses.Field[int] | dataclasses.Field[float]) -> Key:
    shape: Whole | Amount
    if item.name.endswith("_share"):
        shape = Amount("a share", Decimal("0.01"), Decimal(1))
    elif isinstance(item.default, float):
        shape = Amount("seconds", Decimal("0.01"), SECONDS_MOST)
    elif "_bytes" in item.name:
        shape = Whole("bytes", 1_024, BYTES_MOST)
    else:
        shape = Whole("a count", 1, COUNT_MOST)
    return Key(item.name, shape, f"{REASONS[item.name]}. Default: {item.default}", item.default)


LIMITS: Final = Record("`limits`", tuple(_key(item) for item in dataclasses.fields(Bounds)))

AT_MOST: Final = Record(
    "`at_most`",
    (
        Key(
            "usd_per_request",
            Amount("US dollars"),
            "the estimated price of one request, in US dollars: what would cost more has no route",
            1.0,
        ),
    ),
)


def compile_bounds(node: Node | None, problems: Problems) -> Bounds:
    """The limits of the data path, with what `limits:` sets."""
    found: dict[str, int | float] = {}
    kinds = {item.name: isinstance(item.default, float) for item in dataclasses.fields(Bounds)}
    marks: dict[str, Mark] = {}
    for name, (mark, value) in entries(node).items():
        number = amount(value)
        if name not in kinds or number is None:
            continue
        found[name] = float(number) if kinds[name] else whole(value) or 0
        marks[name] = mark
    bounds = dataclasses.replace(Bounds(), **found)  # type: ignore[arg-type]  # each value has its field's own type, see `kinds`
    for less, more in ORDERED:
        low, high = getattr(bounds, less), getattr(bounds, more)
        mark_of = marks.get(less) or marks.get(more)
        if low > high and mark_of is not None:
            problems.add(mark_of, f"`{less}` of {low:g}", f"at most `{more}`, which is {high:g}")
    return bounds


def compile_at_most(node: Node | None) -> Limits:
    """The policy's own limits on one request."""
    return Limits(usd_per_request=amount(field(node, "usd_per_request")))
