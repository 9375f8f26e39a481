"""Where a shared store is, read from its URL: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` and `redis+cluster://`.

Promises: what cannot be understood is told without the URL, which holds a password; TLS (`rediss`) always verifies the server's
certificate and name, and no parameter switches that off; no parameter is ignored.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
Kind = Literal["single", "sentinel", "cluster"]

FORMS: Final = (
    "redis://[user:password@]host[:port][/database], rediss://… (TLS), unix:///path/to/socket, "
    "redis+sentinel://[user:password@]host1,host2/service[/database], redis+cluster://[user:password@]host1,host2"
)
PARAMETERS: Final[dict[Kind, frozenset[str]]] = {
    "single": frozenset({"ca"}),
    "sentinel": frozenset({"ca", "sentinel_user", "sentinel_password"}),
    "cluster": frozenset({"ca"}),
}


class BadUrl(ValueError):
    """What is wrong with the URL, without the URL."""


@dataclass(frozen=True, slots=True)
class Host:
    """One server: a TCP address, or the path of a Unix socket."""

    name: str
    port: int = PORT
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}")


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks, and which database."""

    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0


@dataclass(frozen=True, slots=True)
class Where:
    """A store's whole address. `hosts` are the server, the Sentinels, or some of the Cluster's nodes."""

    kind: Kind
    hosts: tuple[Host, ...]
    login: Login = Login()
    tls: bool = False
    ca: str | None = None  # a PEM file; None: the machine's own authorities
    service: str = ""  # what the Sentinels call it
    sentinels: Login = Login()  # who asks the Sentinels

    def tls_context(self) -> ssl.SSLContext | None:
        """How to speak TLS with it; None: not at all. Raises BadUrl if the CA file can't be used."""
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise BadUrl(f"the file `{self.ca}` of its parameter `ca` can't be used: a PEM file is wanted") from error


def parse(url: str) -> Where:
    """The address that `url` writes. Raises BadUrl."""
    try:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # its text may quote the URL
        raise BadUrl(f"its URL can't be read; the forms are {FORMS}") from None
    base, _, kind = parts.scheme.partition("+")
    if base == "unix" and not kind:
        return _unix(parts, parameters)
    if base not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster") or not parts.netloc:
        raise BadUrl(f"its URL begins like none that is known; the forms are {FORMS}")
    form: Kind = "sentinel" if kind == "sentinel" else "cluster" if kind == "cluster" else "single"
    _only(PARAMETERS[form], parameters)
    login, _, hosts = parts.netloc.rpartition("@")
    found = tuple(_host(text, SENTINEL_PORT if form == "sentinel" else PORT) for text in hosts.split(","))
    if form == "single" and len(found) > 1:
        raise BadUrl("its URL names several hosts: write redis+sentinel:// or redis+cluster://, whichever they are")
    if base == "redis" and "ca" in parameters:
        raise BadUrl("its URL has the parameter `ca`, and no TLS: write rediss instead of redis")
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if form == "sentinel":
        if not path:
            raise BadUrl("its URL must name the service that the Sentinels watch: redis+sentinel://host1,host2/service")
        service = path.pop(0)
    if form == "cluster" and path:
        raise BadUrl("its URL names a database, and a Cluster has one only")
    if len(path) > 1:
        raise BadUrl(f"the path of its URL has too many parts; the forms are {FORMS}")
    sentinels = Login(parameters.get("sentinel_user", ""), parameters.get("sentinel_password", ""))
    return Where(
        kind=form,
        hosts=found,
        login=_login(login, path[0] if path else "0"),
        tls=base == "rediss",
        ca=parameters.get("ca"),
        service=service,
        sentinels=sentinels,
    )


def bad_urls(urls: Mapping[str, str]) -> list[str]:
    """A line for each store, by its name, whose URL or CA file can't be used."""
    found = []
    for name, url in urls.items():
        try:
            parse(url).tls_context()
        except BadUrl as error:
            found.append(f"the store `{name}` can't be used: {error}")
    return found


def _unix(parts: SplitResult, parameters: dict[str, str]) -> Where:
    _only(frozenset({"db"}), parameters)
    login, _, host = parts.netloc.rpartition("@")
    if host or not parts.path.startswith("/"):
        raise BadUrl("its URL must name the socket by its whole path: unix:///path/to/socket")
    return Where("single", (Host("", 0, unquote(parts.path)),), _login(login, parameters.get("db", "0")))


def _login(text: str, database: str) -> Login:
    user, _, password = text.partition(":")
    if not database.isdecimal():
        raise BadUrl("the database in its URL is not a number")
    if user and not password:
        raise BadUrl("its URL has a user without a password: write user:password@, or :password@ for the default user")
    return Login(unquote(user), unquote(password), int(database))


def _host(text: str, port: int) -> Host:
    try:
        one = urlsplit(f"//{text}")
        name, number = one.hostname, one.port
    except ValueError:
        name, number = None, None
    if not name:
        raise BadUrl("a host in its URL can't be read: write `name`, `name:port` or `[address]:port`, with commas between several")
    return Host(name, number or port)


def _only(known: frozenset[str], parameters: dict[str, str]) -> None:
    for name in parameters:
        if name not in known:
            listed = ", ".join(f"`{one}`" for one in sorted(known)) or "none"
            raise BadUrl(f"its URL has a parameter that means nothing here (known: {listed}); `rediss` asks for TLS")
