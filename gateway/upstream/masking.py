"""What of an upstream's error text may reach a client: no credential, no address, nothing long and random, 4 kB at most."""

import re
from typing import Final

TEXT_BYTES_MAX: Final = 4096
"""An explanation is a sentence or a list of fields; more is an echo of the request."""

_SECRETS: Final = (
    (re.compile(r"(?i)\bbearer\s+[^\s\"',;]+"), "Bearer [masked]"),
    (re.compile(r"\brg_(?:live|demo)_\w+"), "[masked]"),
    (re.compile(r"\b(?:sk|pk|key|token)[-_][A-Za-z0-9_-]{8,}"), "[masked]"),
    (re.compile(r"(?i)\b(?:https?|wss?|file)://[^\s\"'<>)\]]+"), "[address]"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"), "[address]"),
    (re.compile(r"\b[0-9a-fA-F]{24,}\b"), "[masked]"),
    (re.compile(r"(?<![A-Za-z0-9_+/-])(?=[A-Za-z0-9_+/-]*\d)(?=[A-Za-z0-9_+/-]*[A-Za-z])[A-Za-z0-9_+/-]{32,}={0,2}"), "[masked]"),
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def masked(text: str, secret: str | None = None) -> str:
    """`text` for a client. `secret` is the endpoint's credential, which goes wherever it stands, whatever its form."""
    text = text[: TEXT_BYTES_MAX * 2]  # masking costs time per character, and shortens
    if secret:
        text = text.replace(secret, "[masked]")
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    text = _CONTROL.sub(" ", text)
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= TEXT_BYTES_MAX else raw[:TEXT_BYTES_MAX].decode("utf-8", "ignore")
