"""Every limit of the data path, with its reason. `limits:` in the catalogue may set each; the schema lists them all."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Units are last in each name. Times in seconds, sizes in bytes."""

    # what a client may send
    body_bytes_max: int = 20_000_000  # a full 1M-token prompt is about 4 MB of text; the rest is room for inline images
    header_bytes_max: int = 65_536  # OpenAI's own advice is to stay below 64 KiB of headers in total
    json_depth_max: int = 64  # tool schemas nest about a dozen deep; a bomb nests thousands
    json_values_max: int = 500_000  # embeddings take 300,000 tokens at a time; to read millions of lists takes seconds
    client_head_s_max: float = 10.0  # a client that has not finished its headers by then is a slowloris, not a user
    client_body_s_max: float = 60.0  # 20 MB over a 3 Mbit/s line
    client_idle_s_max: float = 75.0  # keep-alive; longer than the usual 60 s of load balancers, so that they close first
    client_stall_s_max: float = 60.0  # a reader that takes nothing for a minute holds an upstream slot for nobody
    connections_max: int = 10_000  # per worker; a connection costs about 10 kB
    exchanges_max: int = 2_000  # under way at once per worker; each may hold a body

    # what an upstream may do
    connect_s_max: float = 3.0  # TCP and TLS; a host that takes longer is down for our purposes
    first_byte_s_max: float = 300.0  # a long prompt without streaming is silent until it is done; SDKs of Z.ai wait 300 s
    silence_s_max: float = 120.0  # between chunks; reasoning models pause, vLLM is silent during prefill
    total_s_max: float = 900.0  # OpenAI clients give up at 600 s; agents set more
    first_content_s_max: float = 60.0  # of a stream; past it another route is tried
    keepalive_after_s: float = 10.0  # a stream without content yet gets an SSE comment this often; proxies cut at 30 to 60 s
    upstream_head_bytes_max: int = 65_536  # our own header limit, mirrored
    answer_bytes_max: int = 33_554_432  # of an answer that is not streamed; 128K tokens of output are below 1 MB
    stream_bytes_max: int = 268_435_456  # of one stream; 128K tokens, each in an event of its own, are below 100 MB
    event_bytes_max: int = 4_194_304  # one SSE event; a whole tool call may come in one
    held_bytes_max: int = 1_048_576  # of a stream before its first content
    error_bytes_max: int = 65_536  # of an upstream's error body; 4 kB of it at most is ever passed on
    pool_idle_per_endpoint_max: int = 256  # idle connections kept; each costs a socket and, with TLS, about 50 kB
    pool_idle_s_max: float = 50.0  # below the 60 s after which most servers and balancers drop an idle connection

    # how often we try
    attempts_max: int = 4  # routes tried for one request; more only makes the caller wait
    breaker_failures: int = 5  # in a row, until an endpoint's breaker opens: rides out single errors
    breaker_open_s: float = 15.0  # then one probe; doubles up to breaker_open_s_max while probes fail
    breaker_open_s_max: float = 300.0
    breaker_window_s: float = 30.0  # in which shares of calls are counted: two of the usual scrapes, and as long as two openings
    breaker_calls_min: int = 20  # in a window, before a share of them means anything
    breaker_failed_share: float = 0.5  # of the calls in a window; from here on every other request would need another route anyway
    breaker_slow_share: float = 0.5  # of the streams in a window; single long prompts are slow anywhere
    slow_first_content_s: float = 20.0  # of a stream; reasoning is content, and 100k tokens of prompt are read in less
    failovers_share: float = 0.2  # of the requests in failovers_window_s; more is a storm that takes the next provider down too
    failovers_free_per_s: int = 10  # besides: where few ask, each of them may
    failovers_window_s: float = 10.0  # a breaker has opened by then, and failovers are not needed any more
    throttle_s: float = 5.0  # for a 429 that doesn't say how long; Mistral's and Z.ai's don't
    throttle_s_max: float = 3_600.0  # whatever a `retry-after` says

    # what the cache keeps
    cache_bytes_max: int = 134_217_728  # of all entries: half of what the embedded store may hold, so that accounts have room
    cache_tenant_bytes_max: int = 33_554_432  # of one tenant, or one scope: a quarter, so that nobody drives all others out
    cache_entry_bytes_max: int = 1_048_576  # of one answer before it is compressed; 128K tokens of output are below 1 MB
    cache_wait_s_max: float = 60.0  # for an equal request that is under way; what takes longer has a leader that is stuck
    cache_near_wait_s_max: float = 1.0  # for a message's embedding, before a request goes on without; they come within 0.2 s
    cache_near_prompt_tokens_max: int = 2_000  # of a prompt that is compared: longer ones are documents, and no two mean the same

    # how we stop
    drain_s_max: float = 630.0  # SIGTERM waits this long for streams under way: an OpenAI client's own 600 s, and some
