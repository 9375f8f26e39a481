"""Who asks: a key is `rg_live_ID_SECRET`, found by its id, compared in constant time, stored as a sha256.

An id may hold `_`, a secret holds none. Whatever is wrong with a key, the answer takes the same path, and a wrong secret learns
nothing of whether its id exists.
"""

import hashlib
import hmac
from collections.abc import Set
from dataclasses import dataclass

from gateway.core.answer import Problem
from gateway.core.policy import Access, Key

NOBODY = hashlib.sha256(b"no key has this text").digest()
KEY_CHARS_MAX = 512  # `rg_live_`, an id of at most 200 and 64 hex digits are below 300


@dataclass(frozen=True, slots=True)
class Shown:
    """The key that a caller shows: the id in its text, and the sha256 by which it is known. Not the text."""

    id: str
    digest: bytes


def shown(authorization: str | None) -> Shown:
    """What the `authorization` header shows. Raises Problem (401)."""
    if authorization is None:
        raise _unauthorized("no key was sent; send `authorization: Bearer rg_live_…`")
    scheme, _, text = authorization.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise _unauthorized("the authorization header is not `Bearer` and a key")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return Shown(_id_in(text) if len(text) <= KEY_CHARS_MAX else "", digest)


def identify(access: Access, found: Shown, now: float, revoked: Set[bytes], *, demo: bool) -> Key:
    """The key that was shown, good at `now` (UTC seconds) and not among `revoked` (digests). Raises Problem (401)."""
    key = access.keys.get(found.id)
    if not hmac.compare_digest(found.digest, key.digest if key is not None else NOBODY) or key is None:
        raise _unauthorized("this key is not known here")
    if key.demo and not demo:
        raise _unauthorized("demo keys work in `gateway demo` only; make one with `gateway keys new`")
    if key.revoked or key.digest in revoked:
        raise _unauthorized(f"key `{key.id}` has been revoked")
    if key.expires is not None and now >= key.expires:
        raise _unauthorized(f"key `{key.id}` has expired; ask the gateway's admin for a new one")
    return key


def _id_in(text: str) -> str:
    """The ID of `rg_live_ID_SECRET`, or "" where there is none. That all of it is right is the digest's to say."""
    return text.partition("_")[2].partition("_")[2].rpartition("_")[0]


def _unauthorized(message: str) -> Problem:
    return Problem(401, "invalid_api_key", message, should_retry=False)
