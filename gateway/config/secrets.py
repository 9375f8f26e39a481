"""Credentials: found where the policy says they are, once, when serving starts. They are in no document, no message and no repr."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.core.caching import spot_of
from gateway.core.policy import Policy

SECRET_BYTES_MAX: Final = 16_384  # a service account's JSON is 2 kB; a whole disk image under the wrong path is more
PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
"""What a header may hold without being two headers."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Credentials by endpoint, and URLs and keys by store. `missing` has one line for each that is not there."""

    endpoints: Mapping[str, str] = field(default_factory=dict, repr=False)
    stores: Mapping[str, str] = field(default_factory=dict, repr=False)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    missing: tuple[str, ...] = ()


def resolve_secrets(policy: Policy, environ: Mapping[str, str] | None = None) -> Secrets:
    """The credentials of every endpoint that is switched on and serves something that is, and the URL of every store."""
    where = os.environ if environ is None else environ
    used = {deployment.endpoint.id: deployment.endpoint for deployment in policy.deployments if deployment.enabled}
    wanted = [(f"the endpoint `{name}`", ("endpoint", name), used[name].secret) for name in sorted(used) if used[name].enabled]
    wanted += [(f"the store `{store.name}`", ("store", store.name), store.url) for store in policy.stores]
    wanted += [(f"the store `{store.name}`", ("key", store.name), store.key) for store in policy.stores]
    found: dict[tuple[str, str], str] = {}
    missing = []
    for what, name, source in wanted:
        if source is None:
            continue
        value, trouble = _read(source, where)
        if trouble:
            missing.append(f"{what} needs {trouble}")
        else:
            found[name] = value
    return Secrets(
        endpoints={name: value for (kind, name), value in found.items() if kind == "endpoint"},
        stores={name: value for (kind, name), value in found.items() if kind == "store"},
        keys={name: value for (kind, name), value in found.items() if kind == "key"},
        missing=tuple(missing),
    )


def cache_key(policy: Policy, secrets: Secrets) -> str | None:
    """What seals the cache, where the catalogue names it."""
    spot = spot_of(policy)
    return None if spot is None else secrets.keys.get(spot[0])


def _read(source: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The secret at `source`, and what is wrong with it. The trouble never quotes the value."""
    kind, _, place = source.partition(":")
    if kind == "env":
        value = environ.get(place, "").strip()
        what = f"the environment variable `{place}`"
        if not value:
            return "", f"{what}, which is not set: export it, or write `enabled: false`"
    else:
        what = f"the file `{place}`"
        try:
            with Path(place).open("rb") as file:
                data = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            return "", f"{what}, which can't be read ({(error.strerror or 'unknown trouble').lower()})"
        if len(data) > SECRET_BYTES_MAX:
            return "", f"{what}, which is larger than any credential"
        value = data.decode("ascii", "replace").strip()
        if not value:
            return "", f"{what}, which is empty"
    if not PRINTABLE.fullmatch(value):
        return "", f"{what}, which holds something that no header can: one line of ASCII without spaces is wanted"
    return value, ""
