"""Where the connections of one endpoint may go, and what two exchanges must share before they may share a connection.

An `Address` is the pool's key as a whole: endpoint, place, networks, TLS settings and credential. Two addresses that differ in
any of them never exchange connections, so a changed base URL, a rotated key or a new CA file ends the use of what was open before.
"""

import hashlib
import secrets
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from gateway.core.policy import Endpoint, Tls

_FINGERPRINTS = secrets.token_bytes(32)
"""Keys the fingerprints, so that one that is logged can't be tried against a list of keys. Lives as long as the pools do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where connections of one endpoint may go; also the pool's key. `credential` is a fingerprint of the secret, never the secret.

    `resolves_to` empty: wherever the name resolves to. The hash is worked out once, since every request looks up its pool.
    """

    endpoint: str
    scheme: str  # "https" or "http"
    host: str
    port: int
    resolves_to: tuple[IPv4Network | IPv6Network, ...]
    tls: Tls
    credential: str  # hex; "": none is sent
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        key = (self.endpoint, self.scheme, self.host, self.port, self.resolves_to, self.tls, self.credential)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def address_of(endpoint: Endpoint, secret: str | None) -> Address:
    """The address of `endpoint`, whose credential is `secret` (None: none is sent). Equal inputs give equal addresses."""
    return Address(
        endpoint=endpoint.id,
        scheme=endpoint.scheme,
        host=endpoint.host,
        port=endpoint.port,
        resolves_to=endpoint.resolves_to,
        tls=endpoint.tls,
        credential=fingerprint(secret) if secret is not None else "",
    )


def fingerprint(secret: str) -> str:
    """32 hex digits that are equal for equal secrets within this process, and say nothing about them."""
    return hashlib.blake2b(secret.encode(), key=_FINGERPRINTS, digest_size=16).hexdigest()
