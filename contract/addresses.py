"""Visitors' addresses: whose a request is, as whom it counts, and what of it a member is told."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Literal

from contract.bans import unmapped

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What a member is told: the address, the network that it is in (/24, /48), a name that only equals itself, or nothing.
ClientForm = Literal["full", "truncated", "hashed", "none"]

#: Proxies that one request may have come through; of more, nobody knows who wrote them.
MAX_HOPS = 20


def networks(texts: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Networks from texts such as ``10.0.0.0/8``; raises ``ValueError`` with the text at fault."""
    found = []
    for text in texts:
        try:
            found.append(unmapped(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            raise ValueError(f"{text!r} is not a network, such as 10.0.0.0/8") from None
    return tuple(found)


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[IPNetwork]) -> str:
    """The visitor's address: the last one on the way here that is no trusted proxy's.

    ``peer`` is who has connected, ``forwarded_for`` the values of X-Forwarded-For in their order; each proxy adds whom
    it has been asked by at the end.  What stands before the first address that is not trusted is anybody's invention.
    "" where nobody knows.
    """
    address = parse_address(peer)
    if address is None:
        return ""
    hops = [hop.strip() for value in forwarded_for for hop in value.split(",")][-MAX_HOPS:]
    while hops and _within(address, trusted):
        before = parse_address(hops.pop())
        if before is None:
            # A proxy that is trusted has passed on what is no address: of that hop only the proxy is known.
            break
        address = before
    return str(address)


def parse_address(text: str) -> IPAddress | None:
    """An address in one form: without a port, a zone or brackets, and IPv4 not within IPv6; ``None``: it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def in_networks(client: str, among: Sequence[IPNetwork]) -> bool:
    """Whether an address is in any of the networks."""
    address = parse_address(client)
    return address is not None and _within(address, among)


def counted_as(client: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The network that counts as one client: who has one address of an IPv6 network has them all."""
    address = parse_address(client)
    if address is None:
        return ""
    return str(ipaddress.ip_network((address, ipv4_prefix if address.version == 4 else ipv6_prefix), strict=False))


def truncated(client: str) -> str:
    """The network that may be told where an address may not: /24 of IPv4, /48 of IPv6."""
    return counted_as(client, 24, 48)


def _within(address: IPAddress, among: Sequence[IPNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in among)
