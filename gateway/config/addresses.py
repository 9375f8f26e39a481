"""Addresses of endpoints: what may be written as `base_url`, `resolves_to`, `api_key`, and what an address already says."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from gateway.config.documents import Node
from gateway.config.presets import PLAN_PATHS, PLAN_TERMS, PROMISES
from gateway.config.problems import Mark, Problems, show
from gateway.config.reading import At, field, words
from gateway.config.shapes import Key, ListOf, Record, Word
from gateway.core.policy import Places, Tls

SECRET: Final = Word(
    "`env:NAME` or `file:/path`: a literal secret does not belong in a policy",
    pattern=r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+",
    secret=True,
)

TLS: Final = Record(
    "`tls`",
    (
        Key(
            "ca_file",
            Word("an absolute path", pattern="/.+"),
            "certificates to trust instead of the system's",
            "/etc/gateway/ca.pem",
        ),
        Key(
            "client_cert_file", Word("an absolute path", pattern="/.+"), "our certificate for mutual TLS", "/etc/gateway/client.pem"
        ),
        Key("client_key_file", Word("an absolute path", pattern="/.+"), "the key of our certificate", "/etc/gateway/client.key"),
    ),
)

RESOLVES_TO: Final = ListOf(Word("a network, such as `10.2.0.0/16`"))

PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str  # without a slash at its end


def compile_address(url: At, problems: Problems) -> Address | None:
    """The address that `url` writes, or None once a problem says what is wrong with it."""
    # before an `@` stands a password, and after a `?` often a key: neither is quoted
    found = "an address with `@`" if "@" in url.word else show(re.split(r"[?#]", url.word)[0])
    try:
        parts = urlsplit(url.word)
        port = parts.port
    except ValueError:
        problems.add(url.mark, found, "not a URL, such as `https://api.eu.mistral.ai/v1`")
        return None
    if parts.scheme not in PORTS or not _is_host(parts.hostname):
        problems.add(
            url.mark, found, "wanted a URL with `https://` (or `http://`) and a host, such as `https://api.eu.mistral.ai/v1`"
        )
        return None
    if wrong := _extras(parts):
        problems.add(url.mark, found, wrong)
        return None
    host = str(parts.hostname).rstrip(".")
    return Address(parts.scheme, host, PORTS[parts.scheme] if port is None else port, parts.path.rstrip("/"))


def _is_host(host: str | None) -> bool:
    return bool(host) and str(host).isascii() and not any(c.isspace() or c in "%\\{}$<>\"'" for c in str(host))


def _extras(parts: SplitResult) -> str:
    if "@" in parts.netloc:
        return "a URL without a user or password: credentials come by `api_key: env:NAME`"
    if parts.query or parts.fragment:
        return "a URL without `?` or `#`: it is the beginning of others"
    if any(c.isspace() or not c.isprintable() for c in parts.path) or "//" in parts.path or ".." in parts.path:
        return "a URL with a plain path, such as `/v1`"
    if parts.port == 0:
        return "a port from 1 to 65535"
    return ""


def compile_networks(node: Node | None, problems: Problems) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that an endpoint's name may resolve into, sorted."""
    found = []
    for at in words(node):
        try:
            found.append(ip_network(at.word))
        except ValueError as error:
            wanted = (
                "the bits after the prefix are to be 0" if "host bits" in str(error) else "not a network, such as `10.2.0.0/16`"
            )
            problems.add(at.mark, show(at.word), wanted)
    return tuple(sorted(found, key=str))


def compile_tls(node: Node | None, address: Address | None, problems: Problems) -> Tls:
    """Which certificates to trust and to show."""
    if node is None:
        return Tls()
    if address is not None and address.scheme != "https":
        problems.add(node.mark, "`tls`", "the base URL is plain http: write `https://`, or remove it")
    paths = {name: at.word for name in ("ca_file", "client_cert_file", "client_key_file") for at in words(field(node, name))}
    if ("client_cert_file" in paths) != ("client_key_file" in paths):
        problems.add(node.mark, "one of `client_cert_file` and `client_key_file`", "a certificate and its key come together")
    return Tls(**paths)


def check_plain_http(what: str, mark: Mark, address: Address, networks: Node | None, problems: Problems) -> None:
    """Plain http goes only where the network is named: nobody else vouches for who answers."""
    if address.scheme == "http" and networks is None:
        problems.add(
            mark, "plain `http://` without `resolves_to`", f"say into which networks {what} may resolve, such as `[10.2.0.0/16]`"
        )


def check_promise(mark: Mark, address: Address, label: Places, problems: Problems, warnings: Problems) -> None:
    """A label may not claim more than the provider of a known address says; with a source of its own it may, with a warning."""
    promise = PROMISES.get(address.host)
    if promise is None or label.countries is None:
        return
    if promise.places and promise.covered_by(label.countries):
        return
    told = warnings if label.source else problems
    told.add(mark, f"`processed_in` at `{address.host}`", promise.says)


def warn_of_plan(mark: Mark, provider: str, address: Address, has_plan: bool, warnings: Problems) -> None:
    """A subscription that is switched on has terms of use that a gateway breaks."""
    at_zai = provider == "zai" or address.host in ("api.z.ai", "open.bigmodel.cn")
    if at_zai and (has_plan or any(path in f"{address.path}/" for path in PLAN_PATHS)):
        warnings.add(mark, "a subscription that is switched on", PLAN_TERMS)
