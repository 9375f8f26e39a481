"""Cases written by hand for `small_world`, in a line each."""

from collections.abc import Mapping

from gateway.config.cases import Case, Given, Want


def case(
    tenant: str,
    asked: str = "alpha",
    *,
    key: str | None = None,
    declared: Mapping[str, str] | None = None,
    routes: str | None = None,
    refused: str | None = None,
    outside: str | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Case:
    """A case. Lists are words with commas; None: the writer does not care."""
    given = Given(tenant, asked, key, {fact: frozenset(_list(values)) for fact, values in (declared or {}).items()})
    want = Want(
        routes=None if routes is None else tuple(_list(routes)),
        excluded={name: frozenset(_list(words)) for name, words in (excluded or {}).items()},
        refused=None if refused is None else frozenset(_list(refused)),
        outside=outside,
    )
    return Case(f"{tenant} asks {asked}", given, want, "cases/some.yaml:1")


def _list(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]
