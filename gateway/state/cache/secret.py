"""What seals the cache: a secret that the policy names, where machines share a store, or one that each machine makes for itself."""

import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from gateway.refused import in_words

FILE: Final = "cache.key"  # in the state folder
SECRET_CHARS_MIN: Final = 32  # 128 bits, if it is hexadecimal


class BadSecret(Exception):
    """What is wrong with it and what would be right; never what it is."""


def given(secret: str) -> bytes:
    """The secret that the policy names. Raises BadSecret for one that could be guessed."""
    if len(secret) < SECRET_CHARS_MIN:
        wanted = f"at least {SECRET_CHARS_MIN} are wanted, and random: `openssl rand -hex 32`"
        raise BadSecret(f"the key of the store has {len(secret)} characters; {wanted}")
    return secret.encode()


def own(state: Path) -> bytes:
    """This machine's own secret, made when there is none. Without it nothing that was kept can be read. Raises BadSecret."""
    path = state / FILE
    try:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_text("ascii", "replace").strip()
        else:
            found = secrets.token_hex(32)
            with os.fdopen(handle, "w") as file:
                file.write(found + "\n")
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise BadSecret(f"can't read or make {path}: {in_words(error)}") from error
    if len(found) < SECRET_CHARS_MIN:
        raise BadSecret(f"{path} is no key of ours; remove it, and another is made: what is cached is lost then, and nothing else")
    return found.encode()


def derived(secret: bytes, label: bytes) -> bytes:
    """32 bytes for another use, which say nothing of `secret`: HKDF with SHA-256, by hand, as what seals takes 0.1 s to import."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), label + b"\x01", "sha256")
