"""Statuses, codes and words of error bodies, as recorded or documented, and the outcome of each."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from relaying import NOW

from gateway.core.exchange import Ended, Fault, Outcome, Scope
from gateway.upstream.call import CODES, Failure
from gateway.upstream.masking import TEXT_BYTES_MAX, masked
from gateway.upstream.outcomes import BY_CODE, BY_FAILURE, BY_TYPE, Origin, failed, of_error, refused, rows, spoilt, wait_of

SECRET = "k-1234567890"
REJECTED, THROTTLED, EXHAUSTED, FAILED, UNKNOWN = Ended.REJECTED, Ended.THROTTLED, Ended.EXHAUSTED, Ended.FAILED, Ended.UNKNOWN
OURS, THEIRS, CLIENT = Fault.OURS, Fault.UPSTREAM, Fault.CLIENT
REQUEST, DEPLOYMENT, ENDPOINT = Scope.REQUEST, Scope.DEPLOYMENT, Scope.ENDPOINT


def outcome(dialect: str, status: int, body: Any, headers: dict[str, str] | None = None) -> Outcome:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    given_headers = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return refused(Origin(dialect, SECRET, "glm-5.1"), status, given_headers, raw, NOW)


def zai(code: str, message: str = "said") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def mistral(message: Any, kind: str, code: Any) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def openai(message: str, kind: str, code: Any = None, param: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def llamacpp(code: int, message: str, kind: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": kind}}


EXTRA = {
    "detail": [
        {"type": "extra_forbidden", "loc": ["body", "store"], "msg": "Extra inputs are not permitted", "input": "secret text"}
    ]
}

WRONG_VALUE = {"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "must be ≤ 1.5", "input": 9}]}
TOO_MANY = {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096", "error_type": "validation"}  # TGI
TOO_LONG = "The input is longer than the model's context length."
FLAT = {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400}  # SGLang

BLAMED = (REJECTED, CLIENT, REQUEST)
LIMITED = (THROTTLED, OURS, DEPLOYMENT)
LIMITED_ALL = (THROTTLED, OURS, ENDPOINT)
BUSY = (THROTTLED, THEIRS, DEPLOYMENT)
USED_UP = (EXHAUSTED, OURS, ENDPOINT)
NOT_INCLUDED = (EXHAUSTED, OURS, DEPLOYMENT)
SET_WRONG = (FAILED, OURS, DEPLOYMENT)
KEY_WRONG = (FAILED, OURS, ENDPOINT)
SENT_WRONG = (FAILED, OURS, REQUEST)
BROKEN = (FAILED, THEIRS, DEPLOYMENT)
DOWN = (FAILED, THEIRS, ENDPOINT)
UNKNOWN_TO_US = (UNKNOWN, THEIRS, DEPLOYMENT)

# fmt: off
TABLE: list[tuple[Any, ...]] = [
    # dialect, status, body, (ended, fault, scope), code, and whether it is permanent
    ("zai", 401, zai("1000"), KEY_WRONG, "credentials_refused", True),
    ("zai", 401, zai("1003"), KEY_WRONG, "credentials_refused", True),
    ("zai", 429, zai("1113"), USED_UP, "no_balance", True),
    ("zai", 429, {"error": {"code": 1113, "message": "as an integer"}}, USED_UP, "no_balance", True),
    ("zai", 400, zai("1210"), BLAMED, "invalid_request"),
    ("zai", 400, zai("1211"), SET_WRONG, "model_not_found"),
    ("zai", 400, zai("1214"), BLAMED, "invalid_request"),
    ("zai", 400, zai("1214", "model glm-5.1 is not there"), SET_WRONG, "model_not_found"),
    ("zai", 403, zai("1220"), SET_WRONG, "not_permitted"),
    ("zai", 400, zai("1261", "Prompt exceeds max length"), BLAMED, "context_length_exceeded"),
    ("zai", 400, {"contentFilter": [{"level": 1, "role": "user"}], **zai("1301")}, BLAMED, "content_filter"),
    ("zai", 429, zai("1302"), LIMITED, "rate_limited"),
    ("zai", 429, zai("1303"), LIMITED, "rate_limited"),
    ("zai", 429, zai("1305"), BUSY, "overloaded"),
    ("zai", 429, zai("1308"), USED_UP, "quota_used_up"),
    ("zai", 429, zai("1309"), USED_UP, "plan_expired", True),
    ("zai", 429, zai("1310"), USED_UP, "quota_used_up"),
    ("zai", 429, zai("1311"), NOT_INCLUDED, "model_not_in_plan", True),
    ("zai", 429, zai("1313"), LIMITED_ALL, "fair_use"),
    ("zai", 429, zai("1314"), USED_UP, "plan_expired", True),
    ("zai", 429, zai("1316"), USED_UP, "quota_used_up"),
    ("zai", 429, zai("1321"), USED_UP, "quota_used_up"),
    ("zai", 429, zai("9999"), LIMITED, "rate_limited"),
    ("zai", 434, b'', SET_WRONG, "not_permitted"),
    ("zai", 435, b'', BLAMED, "request_too_large"),
    ("zai", 200, {"code": 500, "msg": "404 NOT_FOUND", "success": False}, BROKEN, "upstream_error"),
    ("mistral", 422, mistral(EXTRA, "invalid_request_error", None), SENT_WRONG, "field_refused"),
    ("mistral", 422, EXTRA, SENT_WRONG, "field_refused"),
    ("mistral", 422, WRONG_VALUE, BLAMED, "invalid_request"),
    ("mistral", 401, {"message": "Unauthorized", "request_id": "x"}, KEY_WRONG, "credentials_refused", True),
    ("mistral", 401, {"detail": "Unauthorized"}, KEY_WRONG, "credentials_refused", True),
    ("mistral", 400, mistral("Invalid model", "invalid_model", "1500"), SET_WRONG, "model_not_found"),
    ("mistral", 400, mistral("Invalid model", "invalid_model", None), SET_WRONG, "model_not_found"),
    ("mistral", 400, mistral("Unexpected role", "invalid_request_message_order", "3230"), BLAMED, "invalid_message_order"),
    ("mistral", 400, mistral("Tool call id …", "invalid_function_call", "3280"), SENT_WRONG, "tool_call_id_refused"),
    ("mistral", 403, mistral("not enabled", "x", 1913), SET_WRONG, "not_permitted"),
    ("mistral", 403, mistral("Blocked by guardrail", "x", None), BLAMED, "content_filter"),
    ("mistral", 404, {"message": "gone"}, SET_WRONG, "model_not_found"),
    ("mistral", 429, mistral("Rate limit exceeded", "rate_limited", "1300"), LIMITED, "rate_limited"),
    ("mistral", 429, mistral("Service tier…", "service_tier_capacity_exceeded", "3505"), BUSY, "overloaded"),
    ("mistral", 503, mistral("…", "backend_out_of_capacity", 3505), BUSY, "overloaded"),
    ("vllm", 400, openai("maximum context length is 8192 tokens.", "BadRequestError", 400), BLAMED, "context_length_exceeded"),
    ("vllm", 400, openai("temperature must be non-negative", "BadRequestError", 400), BLAMED, "invalid_request"),
    ("vllm", 404, openai("The model `x` does not exist.", "NotFoundError", 404), SET_WRONG, "model_not_found"),
    ("vllm", 503, openai("queue", "ServiceUnavailableError", 503), BUSY, "overloaded"),
    ("vllm", 401, {"error": "Unauthorized"}, KEY_WRONG, "credentials_refused", True),
    ("vllm", 500, openai("boom", "InternalServerError", 500), BROKEN, "upstream_error"),
    ("vllm", 400, FLAT, BLAMED, "context_length_exceeded"),
    ("openai", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, BUSY, "overloaded"),
    ("openai", 424, {"error": "Request failed during generation", "error_type": "generation"}, BROKEN, "upstream_error"),
    ("openai", 422, TOO_MANY, BLAMED, "context_length_exceeded"),
    ("llamacpp", 401, llamacpp(401, "Invalid API Key", "authentication_error"), KEY_WRONG, "credentials_refused", True),
    ("llamacpp", 503, llamacpp(503, "Loading model", "unavailable_error"), DOWN, "loading"),
    ("llamacpp", 400, llamacpp(400, "request (9 tokens) exceeds", "exceed_context_size_error"), BLAMED, "context_length_exceeded"),
    ("llamacpp", 501, llamacpp(501, "no", "not_supported_error"), SET_WRONG, "not_supported"),
    ("openai", 429, openai("current quota", "insufficient_quota", "insufficient_quota"), USED_UP, "no_balance", True),
    ("openai", 429, openai("Rate limit reached", "tokens", "rate_limit_exceeded"), LIMITED, "rate_limited"),
    ("openai", 401, openai("Incorrect", "invalid_request_error", "invalid_api_key"), KEY_WRONG, "credentials_refused", True),
    ("openai", 404, openai("no", "invalid_request_error", "model_not_found"), SET_WRONG, "model_not_found"),
    ("openai", 400, openai("too long", "invalid_request_error", "context_length_exceeded"), BLAMED, "context_length_exceeded"),
    ("openai", 400, openai("filtered", "x", "content_filter"), BLAMED, "content_filter"),
    ("openai", 301, b'', DOWN, "redirect"),
    ("mistral", 307, b'<html>', DOWN, "redirect"),
    ("zai", 402, b'', USED_UP, "no_balance", True),
    ("zai", 403, b'<html>firewall', KEY_WRONG, "credentials_refused"),
    ("vllm", 405, b'', KEY_WRONG, "not_supported"),
    ("vllm", 408, b'', BROKEN, "upstream_timeout"),
    ("vllm", 413, b'', BLAMED, "request_too_large"),
    ("openai", 502, b'<html>bad gateway', DOWN, "upstream_error"),
    ("openai", 529, b'', DOWN, "upstream_error"),
    ("openai", 418, b'', UNKNOWN_TO_US, "unknown_error"),
    ("openai", 409, openai("x", "y"), UNKNOWN_TO_US, "unknown_error"),
    ("openai", 434, b'', UNKNOWN_TO_US, "unknown_error"),
    ("openai", 600, b'', UNKNOWN_TO_US, "unknown_error"),
]
# fmt: on


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}-{row[4]}")
def test_the_table(row: tuple[Any, ...]) -> None:
    dialect, status, body, blame, code, *permanent = row
    found = outcome(dialect, status, body)
    assert ((found.ended, found.fault, found.scope), found.code, found.permanent) == (blame, code, permanent == [True])
    assert found.status == status
    assert (found.message != "") == (found.ended is REJECTED)
    assert found.sent


def test_another_dialects_numbers_mean_nothing() -> None:
    assert outcome("openai", 429, zai("1113")).code == "rate_limited"
    assert outcome("vllm", 400, mistral("x", "y", "1500")).code == "invalid_request"


def test_a_limit_of_nought_will_not_mend() -> None:
    body = mistral("Rate limit exceeded", "rate_limited", "1300")
    found = outcome("mistral", 429, body, {"x-ratelimit-limit-req-minute": "0"})
    assert (found.ended, found.permanent, found.scope) == (EXHAUSTED, True, DEPLOYMENT)
    found = outcome("mistral", 429, body, {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "0"})
    assert (found.ended, found.permanent) == (THROTTLED, False)


def test_the_clients_own_text_counts_against_nobody() -> None:
    """Echoed words can make an error the client's, and never the endpoint's."""
    echo = "invalid value: 'unknown model, insufficient_quota, 1113, rate_limited, overloaded, glm-5.1'"
    for dialect in ("mistral", "zai", "vllm", "openai", "llamacpp"):
        for body in (openai(echo, "invalid_request_error"), {"message": echo}, {"detail": echo}, {"error": echo}):
            assert outcome(dialect, 400, body).ended is REJECTED


def test_params_and_details_are_told_without_the_input() -> None:
    found = outcome("openai", 400, openai("bad", "invalid_request_error", None, "temperature"))
    assert found.param == "temperature"
    found = outcome("mistral", 422, {"detail": [{"type": "x", "loc": ["body", "n"], "msg": "no", "input": "what was typed"}]})
    assert (found.param, found.message) == ("body.n", "body.n: no")


# --- inside a 200 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "ended", "code"),
    [
        (openai("engine died", "InternalServerError", 500), FAILED, "upstream_error"),
        (openai("queue", "ServiceUnavailableError", 503), THROTTLED, "overloaded"),
        (openai("bad grammar", "BadRequestError", 400), REJECTED, "invalid_request"),
        ({"error": "text", "error_type": "incomplete_generation"}, FAILED, "upstream_error"),
        ({"error": {"message": "who knows"}}, FAILED, "error_in_answer"),
        ({"error": {"code": "1302"}}, FAILED, "error_in_answer"),
    ],
)
def test_an_error_inside_a_200(body: Any, ended: Ended, code: str) -> None:
    found = of_error(Origin("vllm"), 200, (), body, NOW)
    assert (found.ended, found.code, found.status) == (ended, code, 200)


# --- failures of the transport, and of answers --------------------------------------------------------------------------------


def test_every_way_a_call_can_break_has_a_row() -> None:
    assert set(BY_FAILURE) == set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_call_that_broke(code: str) -> None:
    for sent in (True, False):
        found = failed(Failure(code, sent, "detail with 10.2.0.7"))
        assert (found.ended, found.code, found.sent, found.status) == (FAILED, code, sent, 0)
        assert found.tries_next
        assert found.message == ""
    if code in ("connect_refused", "connect_timeout", "dns", "tls"):
        assert (found.fault, found.scope) == (THEIRS, ENDPOINT)
    if code == "no_socket":  # it counts against nobody
        assert (found.fault, found.scope) == (OURS, REQUEST)


def test_an_answer_that_was_no_good() -> None:
    found = spoilt("empty_answer")
    assert (found.ended, found.fault, found.status, found.code) == (FAILED, THEIRS, 200, "empty_answer")


def test_no_code_is_in_the_table_twice_and_all_is_listed() -> None:
    for table in (BY_CODE, BY_TYPE):
        signs = [(row.dialect, row.sign) for row in table]
        assert len(signs) == len(set(signs))
    for row in rows():
        assert (row.ended is REJECTED) == (row.fault is CLIENT)
        assert row.ended is not EXHAUSTED or row.fault is OURS


# --- how long to wait ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 18 Nov 2026 23:07:10 GMT"}, 30.0),
        ({"retry-after": "Wed, 18 Nov 2020 23:07:10 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "99999999999"}, 31 * 86_400.0),
        ({"x-ratelimit-reset-requests": "12ms"}, 0.012),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m30s"}, 390.0),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-tokens": "6m30s"}, 1.0),
        ({"x-ratelimit-reset-tokens": "6m junk"}, None),
    ],
)
def test_waits(headers: dict[str, str], wanted: float | None) -> None:
    found = wait_of([(name.encode(), value.encode()) for name, value in headers.items()], "", 1_795_043_200.0)  # 23:06:40 GMT
    assert found == pytest.approx(wanted) if wanted is not None else found is None


def test_a_time_in_prose_is_read_as_utc_plus_8() -> None:
    # NOW is 2026-11-18T11:06:40Z, 19:06:40 in Singapore and Beijing
    found = outcome("zai", 429, zai("1308", "Usage limit reached for 5 hour. Your limit will reset at 2026-11-18 20:06:40"))
    assert found.retry_after_s == pytest.approx(3600)
    assert outcome("zai", 429, zai("1310", "… will reset at 2026-11-18 19:00:00")).retry_after_s is None
    assert outcome("zai", 429, zai("1308", "… will reset at 2026-99-99 19:00:00")).retry_after_s is None
    # of a rate limit's words nothing is read
    assert outcome("zai", 429, zai("1302", "2026-11-18 20:06:40")).retry_after_s is None


def test_what_will_not_mend_names_no_wait() -> None:
    assert outcome("zai", 429, zai("1113"), {"retry-after": "5"}).retry_after_s is None
    assert outcome("openai", 503, b"", {"retry-after": "5"}).retry_after_s == 5.0


# --- masking ------------------------------------------------------------------------------------------------------------------


def test_no_key_and_no_address_reaches_a_client() -> None:
    text = (
        f"Incorrect key {SECRET} or sk-proj-abcdefghijkl or Bearer xyz.abc, see https://10.2.0.7:8000/v1/docs at 10.2.0.7:8000, "
        f"trace 0123456789abcdef0123456789abcdef, rg_live_ABC_DEF; temperature must be below 1.5"
    )
    found = masked(text, SECRET)
    for piece in (SECRET, "sk-proj", "xyz.abc", "10.2.0.7", "0123456789abcdef", "rg_live", "https"):
        assert piece not in found
    assert "temperature must be below 1.5" in found


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_secret_goes_wherever_it_stands(before: str, after: str) -> None:
    assert SECRET not in masked(before + SECRET + after, SECRET)


def test_masking_is_short_and_bounded() -> None:
    assert len(masked("ä" * 100_000).encode()) <= TEXT_BYTES_MAX
    assert masked("a\x00b\x1b[31m") == "a b [31m"
    sentence = "Unexpected role 'user' after role 'tool' in messages[3]; see the guide."
    assert masked(sentence) == sentence


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "detail", "loc", "msg", "param"]), inner, max_size=5)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["mistral", "zai", "vllm", "openai", "llamacpp"]), st.integers(200, 599), JSON)
def test_no_body_breaks_the_table(dialect: str, status: int, body: Any) -> None:
    found = outcome(dialect, status, body)
    assert found.code
    assert found.ended is not Ended.SERVED
    assert found.message == "" or found.ended is REJECTED


@given(st.integers(300, 599), st.binary(max_size=60))
def test_no_bytes_break_it_either(status: int, body: bytes) -> None:
    assert outcome("mistral", status, body).code
