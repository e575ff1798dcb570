"""Which addresses a visitor's URL may lead to.

Whoever names a URL that this service then connects to could otherwise reach what only this service can: loopback,
the internal network, a cloud's metadata.  A name is looked up once, all its addresses are checked, and the caller
connects to those very addresses, so that a name that changes its mind in between (DNS rebinding) gains nothing.
"""

import asyncio
import functools
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from providers.base import ProviderUnavailableError, SpecError

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

# Threads of their own: name servers that keep look-ups waiting must not hold up all else that needs a thread.
_LOOK_UPS = ThreadPoolExecutor(8, thread_name_prefix="look up")


class HostNotFoundError(Exception):
    """No address is known for the name."""


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


async def public_addresses(host: str, port: int, timeout_s: float = 10.0) -> list[str]:
    """The addresses of a host, if all of them are public.

    Raises :class:`SpecError` if one is not, and as :func:`addresses_of` does.
    """
    addresses = await addresses_of(host, port, timeout_s)
    if not all(_text_is_public(address) for address in addresses):
        raise SpecError(f"{host} is an internal address; repositories must be on the public internet.")
    return addresses


async def addresses_of(host: str, port: int, timeout_s: float = 10.0) -> list[str]:
    """The addresses of a host, whatever they are.

    Raises :class:`HostNotFoundError` if there is none, and :class:`ProviderUnavailableError` if that cannot be told
    now.
    """
    look_up = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().run_in_executor(_LOOK_UPS, look_up)
    except TimeoutError as error:
        raise ProviderUnavailableError(f"The address of {host} could not be looked up in time.") from error
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise ProviderUnavailableError(f"The address of {host} cannot be looked up now.") from error
        raise HostNotFoundError(host) from error
    except UnicodeError as error:  # a label that is empty or too long
        raise HostNotFoundError(host) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _text_is_public(text: str) -> bool:
    try:
        return is_public(ipaddress.ip_address(text))  # one with a zone ("fe80::1%eth0") is link-local in any case
    except ValueError:
        return False


class PinnedResolver(AbstractResolver):
    """Has one answer for every name: addresses that were checked."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the family that is asked for."""
        results = []
        for address in self._addresses:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family in (socket.AF_UNSPEC, kind):
                results.append(
                    ResolveResult(
                        hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
                    )
                )
        return results

    async def close(self) -> None:
        """Nothing is held."""
