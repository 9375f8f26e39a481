"""The bytes that go before a body: all of a request's head but its length, made once per endpoint; and a question without a body.

No header of a client is in it, ever. What stands here is from the catalogue, the dialect and the endpoint's secret.
"""

from typing import Final

from gateway import __version__
from gateway.core.policy import Endpoint
from gateway.upstream.dialects import Dialect

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
OURS: Final = (
    "accept-encoding: identity",  # compressed streams arrive in lumps
    f"user-agent: residency-gateway/{__version__}",
)


def head_of(endpoint: Endpoint, dialect: Dialect, secret: str | None, path: str) -> bytes:
    """The head of what is posted to `path`, up to and including `content-length: `. Raises ValueError, naming the endpoint and not
    the value, for a value that would end its line: it must not become a header, or a request, of its own."""
    return _head(
        endpoint,
        f"POST {endpoint.path}{path}",
        secret,
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        *OURS,
        *(f"{name}: {value}" for name, value in dialect.headers),
        "content-length: ",
    )


def question_of(endpoint: Endpoint, secret: str | None, path: str) -> bytes:
    """A whole GET of `path`, from the root of the endpoint's host, on a connection of its own. Raises ValueError as `head_of`."""
    return _head(endpoint, f"GET {path}", secret, "accept: */*", *OURS, "connection: close") + b"\r\n\r\n"


def _head(endpoint: Endpoint, what: str, secret: str | None, *more: str) -> bytes:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    if endpoint.port != DEFAULT_PORTS.get(endpoint.scheme):
        host = f"{host}:{endpoint.port}"
    lines = [f"{what} HTTP/1.1", f"host: {host}"]
    if secret is not None:
        lines.append(f"authorization: Bearer {secret}")
    lines += more
    if what.count(" ") > 1 or not all(line.isascii() and line.isprintable() for line in lines) or (secret and " " in secret):
        raise ValueError(f"endpoint `{endpoint.id}`: its host, path or credential holds a character that can't stand in a header")
    return "\r\n".join(lines).encode("ascii")
