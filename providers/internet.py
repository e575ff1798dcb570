"""Which addresses are of the public internet; pure, and of the standard library alone.

The confined programs of a member that fetch for a visitor load this file by its path, so that there is one definition.
"""

import ipaddress

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 6052 and RFC 8215; the addresses of the second embed IPv4 ones at places that only its network knows.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_REFUSED = (
    # Not every Python 3.11 knows these to be special.
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("3fff::/20"),
    ipaddress.ip_network("5f00::/16"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("::/96"),  # "IPv4-compatible", deprecated (RFC 4291, section 2.5.5.1)
    ipaddress.ip_network("fec0::/10"),  # site-local, deprecated (RFC 3879)
    ipaddress.ip_network("192.88.99.0/24"),  # 6to4 relays, deprecated (RFC 7526)
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host agent: a public address that only its machines reach
)


def is_public(address: IPAddress) -> bool:
    """Whether an address is one of the public internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None:
            return False
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def text_is_public(text: str) -> bool:
    """The same of an address as text, such as a name server gives."""
    try:
        return is_public(ipaddress.ip_address(text))  # one with a zone ("fe80::1%eth0") is link-local in any case
    except ValueError:
        return False
