"""Problems in OpenAI's error shape: `{"error": {"message", "type", "param", "code"}}`.

The types are those its SDKs and their users know by status (openai 3.54, `_exceptions.py`, and the bodies it documents).
"""

import math

import orjson

from gateway.core.answer import Problem

TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}


def body(problem: Problem) -> bytes:
    """The JSON body of an error answer, or of an error event."""
    kind = TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    error = {"message": problem.message, "type": kind, "param": problem.param, "code": problem.code}
    return orjson.dumps({"error": error})


def event(problem: Problem) -> bytes:
    """A server-sent event that OpenAI's SDKs raise as an APIError."""
    return b"data: " + body(problem) + b"\n\n"


def headers(problem: Problem) -> dict[str, str]:
    """When to come back, and whether to: read by OpenAI's SDKs. A 401 names its scheme, as HTTP wants it."""
    found = {}
    if problem.status == 401:
        found["www-authenticate"] = "Bearer"
    if problem.retry_after_s is not None:
        found["retry-after"] = str(math.ceil(problem.retry_after_s))
    if problem.should_retry is not None:
        found["x-should-retry"] = "true" if problem.should_retry else "false"
    return found
