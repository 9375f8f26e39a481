"""The egress guard: residency, checked a second time, where bytes would leave.

Rule 1: an attempt gets an address only if its deployment is a route of the decision at hand and the address is the one that this
        deployment's own endpoint names (`pass_for`).
Rule 2: a connection is taken, new or pooled and each time, only if it was opened for exactly that address and its real peer lies in
        `resolves_to` where the catalogue lists any (`Guard`, asked by the transport).
What it can't see it does not claim: an endpoint without `resolves_to` is wherever its name resolves to and its certificate holds.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from gateway.core.exchange import Attempt
from gateway.core.policy import Deployment
from gateway.ports import EgressRefused
from gateway.upstream.address import Address


class RouteLike(Protocol):
    """What the guard reads of a route."""

    @property
    def deployment(self) -> Deployment: ...


class DecisionLike(Protocol):
    """What the guard reads of a decision."""

    @property
    def routes(self) -> Sequence[RouteLike]: ...


def pass_for(decision: DecisionLike, attempt: Attempt, addresses: Mapping[str, Address]) -> Address:
    """The address that `attempt` may use, out of `addresses` by endpoint id.

    Raises EgressRefused, whose text names what did not fit, where the deployment is no route of `decision`, is switched off, or
    where the address is missing or is not what the deployment's endpoint says.
    """
    deployment = attempt.deployment
    endpoint = deployment.endpoint
    if not any(route.deployment is deployment or route.deployment == deployment for route in decision.routes):
        raise EgressRefused(f"`{deployment.id}` is not a route of this decision, so nothing is sent there")
    if not (endpoint.enabled and deployment.enabled):
        raise EgressRefused(f"`{deployment.id}` is disabled in the catalogue, so nothing is sent there")
    address = addresses.get(endpoint.id)
    if address is None:
        raise EgressRefused(f"endpoint `{endpoint.id}` has no address, so nothing is sent there")
    found = (address.endpoint, address.scheme, address.host, address.port, address.resolves_to, address.tls)
    if found != (endpoint.id, endpoint.scheme, endpoint.host, endpoint.port, endpoint.resolves_to, endpoint.tls):
        said = f"{endpoint.scheme}://{endpoint.host}:{endpoint.port}"
        raise EgressRefused(f"the address of endpoint `{endpoint.id}` is `{address}`; the decision's deployment says `{said}`")
    return address


class Guard:
    """Rule 2. Stateless; a class so that tests can show that the transport notices what a forgetful one would let pass."""

    def admits(self, address: Address, ip: IPv4Address | IPv6Address) -> bool:
        """Whether connections of `address` may lead to `ip`: asked of each DNS answer, and of the real peer after connecting."""
        return not address.resolves_to or any(ip in network for network in address.resolves_to)

    def may_take(self, address: Address, opened_for: Address, peer: IPv4Address | IPv6Address) -> bool:
        """Whether a connection to `peer`, opened for `opened_for`, may carry a request to `address`: asked at each taking."""
        return (opened_for is address or opened_for == address) and self.admits(address, peer)


def real_ip(text: str) -> IPv4Address | IPv6Address:
    """The address that packets really go to: `::ffff:10.2.0.7` is 10.2.0.7, and judged as that. Raises ValueError if it is none."""
    ip = ip_address(text)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip
