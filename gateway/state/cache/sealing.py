"""What is kept is compressed and sealed, and its name says nothing of it.

Promises: names are HMACs and values AES-GCM, under keys made of the gateway's secret and of a salt that the store holds for each
scope; without either nothing opens and no name can be guessed. A value opens only under the scope, the name and the deployment that
it was sealed for: one that was moved, or says it was made elsewhere, does not open. Lengths can be seen, and are those of
compressed text.
"""

import hmac
import os
import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.usage import Usage

VERSION: Final = 1  # of the form of values; another one does not open
NONCE_BYTES: Final = 12  # random: a scope's key seals far fewer than the 2^32 values that are safe
SEAL_BYTES: Final = 16  # GCM's tag, at the end of a value: no two are alike
SALT_BYTES: Final = 32
SECRET_BYTES_MIN: Final = 32  # of the gateway's secret, as characters
_HEAD: Final = struct.Struct("!BH")
LIKE: Final = b"like"  # before what only likes are named and bound by: no policy's hash and no length begins so
LEVEL: Final = 1  # of zlib: a page of text in 40 µs, to a third; the highest takes four times as long for a tenth less


class Spoilt(Exception):
    """A value that does not open, or is not what it says."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer. `body` is in its API's own shape; times are UTC seconds."""

    deployment: str
    made_by: str
    made: float
    ends: float
    usage: Usage | None
    body: bytes


class Sealer:
    """Names and seals the entries of one scope, under the salt that it has in the store."""

    __slots__ = ("_bytes_max", "_naming", "_scope", "_sealing", "salt")

    def __init__(self, secret: bytes, scope: str, salt: bytes, bytes_max: int) -> None:
        """`bytes_max` is how long the body of an entry can be at most."""
        keys = HKDF(SHA256(), 64, salt, b"residency-gateway cache 1 " + scope.encode()).derive(secret)
        self.salt = salt
        self._naming = keys[:32]
        self._sealing = AESGCM(keys[32:])
        self._scope = scope.encode()
        self._bytes_max = bytes_max

    def name(self, allowed: str, api: str, digest: bytes) -> bytes:
        """The name of what a request with this `digest` of its body gets under what the policy `allowed`."""
        return hmac.digest(self._naming, _framed(allowed.encode(), api.encode(), digest), sha256)

    def partition(self, allowed: str, api: str, digest: bytes, by: str) -> bytes:
        """The name of all requests that are equal but for what is compared: `digest` is of all else, `by` says what compares."""
        equal = _framed(allowed.encode(), api.encode(), digest)
        return hmac.digest(self._naming, _framed(LIKE, by.encode(), equal), sha256)

    def seal_like(self, partition: bytes, name: bytes, plain: bytes) -> bytes:
        """What finds the entry of that `name` among those of `partition`: as much content as the message that it was made of."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, plain, self._bound_like(partition, name))

    def open_like(self, partition: bytes, name: bytes, value: bytes) -> bytes:
        """What was sealed for both. Raises Spoilt."""
        try:
            return self._sealing.decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], self._bound_like(partition, name))
        except (InvalidTag, ValueError) as error:
            raise Spoilt from error

    def _bound_like(self, partition: bytes, name: bytes) -> bytes:
        return LIKE + _framed(self._scope, partition, name)

    def seal(self, name: bytes, entry: Entry) -> bytes:
        """The value to keep under `name`."""
        usage = entry.usage
        about = {
            "by": entry.made_by,
            "made": entry.made,
            "ends": entry.ends,
            "usage": None if usage is None else [getattr(usage, field) for field in Usage.__dataclass_fields__],
        }
        deployment, nonce = entry.deployment.encode(), os.urandom(NONCE_BYTES)
        plain = zlib.compress(orjson.dumps(about) + b"\n" + entry.body, LEVEL)
        head = _HEAD.pack(VERSION, len(deployment)) + deployment
        return head + nonce + self._sealing.encrypt(nonce, plain, self._bound(name, deployment))

    def open(self, name: bytes, value: bytes) -> Entry:
        """What was sealed under `name`. Raises Spoilt."""
        try:
            version, length = _HEAD.unpack_from(value)
            if version != VERSION:
                raise Spoilt
            at = _HEAD.size + length
            deployment, nonce = value[_HEAD.size : at], value[at : at + NONCE_BYTES]
            plain = self._sealing.decrypt(nonce, value[at + NONCE_BYTES :], self._bound(name, deployment))
            about, body = self._inflated(plain)
            return Entry(deployment.decode(), about["by"], about["made"], about["ends"], _usage(about["usage"]), body)
        except (InvalidTag, struct.error, ValueError, KeyError, TypeError, zlib.error) as error:
            raise Spoilt from error

    def _bound(self, name: bytes, deployment: bytes) -> bytes:
        """What a value is bound to."""
        return _framed(self._scope, name, deployment)

    def _inflated(self, plain: bytes) -> tuple[dict[str, Any], bytes]:
        inflater = zlib.decompressobj()
        text = inflater.decompress(plain, self._bytes_max + 4_096)
        if not inflater.eof:
            raise Spoilt
        about, _, body = text.partition(b"\n")
        return orjson.loads(about), body


def _framed(first: bytes, second: bytes, third: bytes) -> bytes:
    """The parts as one, so that no other three make the same."""
    return b"%d %d %b%b%b" % (len(first), len(second), first, second, third)


def _usage(found: list[Any] | None) -> Usage | None:
    return None if found is None else Usage(*found)
