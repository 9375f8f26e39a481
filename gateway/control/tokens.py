"""Who may do what on the admin port: a token is a role, and the place that it was read from names its holder in the ledger."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

READ: Final = "read"  # look, and ask: nothing that is asked changes anything
POLICY: Final = "policy"  # all of that, and change the policy
ROLES: Final = (READ, POLICY)
ASKING: Final = frozenset({"/admin/v1/decide", "/admin/v1/policy/check"})  # a POST, because it has a body; it changes nothing


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `source` (`env:NAME`, `file:PATH`) says who holds it without saying what it is."""

    role: str
    source: str
    text: str = field(repr=False)

    @property
    def name(self) -> str:
        """What the ledger calls whoever shows it."""
        return f"admin {self.role} ({self.source})"

    def may(self, method: str, path: str) -> bool:
        """Whether a call is within the role."""
        return self.role == POLICY or method in ("GET", "HEAD") or path in ASKING


@dataclass(frozen=True, slots=True)
class Tokens:
    """All of them."""

    all: tuple[Token, ...]

    def known(self, shown: str) -> Token | None:
        """The token that this is, or None. All are compared, so that the time taken says nothing."""
        found = [token for token in self.all if hmac.compare_digest(shown.encode(), token.text.encode())]
        return found[0] if found else None


NOBODY: Final = Tokens(())


def tokens_of(found: Iterable[tuple[str, str, str]]) -> Tokens:
    """Tokens from (role, source, text)."""
    return Tokens(tuple(Token(role, source, text) for role, source, text in found))
