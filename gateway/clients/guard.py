"""Where members may be that have said themselves where they are: connections to other addresses are not made.

Whoever names a URL that the gateway then connects to could otherwise reach what only the gateway can.  The very address
that is connected to is looked at, so that a name that changes its mind between two look-ups (DNS rebinding) gains
nothing.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.core.settings import JoiningSettings
from providers.addresses import HostNotFoundError, addresses_of
from providers.base import ProviderUnavailableError
from providers.internet import is_public

# A cloud's metadata is nobody's, whatever else of its network is allowed: Azure's, Amazon's, Google's, Oracle's.
_NEVER = tuple(
    map(ipaddress.ip_network, ("168.63.129.16/32", "fd00:ec2::/32", "fd20:ce::/32", "192.0.0.192/32", "fd00:c1::/32"))
)


#: No error of the system's, so that what is told of it is our text.
_NOT_THERE = -1


class AddressGuard:
    """Knows which addresses will do, by ``settings``."""

    def __init__(self, settings: JoiningSettings) -> None:
        self.settings = settings

    def allows(self, text: str) -> bool:
        """Whether a member may be at an address."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        if is_public(address):
            return True
        if any(address.version == network.version and address in network for network in _NEVER):
            return False
        if address.is_loopback:
            return self.settings.allow_loopback
        never = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
        return address.is_private and not never and self.settings.allow_private_addresses

    async def problem(self, url: str) -> str | None:
        """Why a member may not be at a URL, as of now; ``None``: it may."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        try:
            found = await addresses_of(host, parts.port or (443 if parts.scheme == "https" else 80))
        except HostNotFoundError:
            return f"no address of {host} is known"
        except ProviderUnavailableError as error:
            return str(error).rstrip(".")
        if wrong := [address for address in found if not self.allows(address)]:
            return (
                f"{host} is at {wrong[0]}, where no member may be that joins "
                "(the gateway's settings joining.allow_private_addresses and joining.allow_loopback)"
            )
        return None

    def connector(self) -> aiohttp.TCPConnector:
        """Connects to addresses that are allowed, and to no other; any number at a time."""
        return aiohttp.TCPConnector(limit=0, socket_factory=self._socket)

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.allows(str(address[0])):
            raise OSError(_NOT_THERE, f"{address[0]} is no address for a member that has joined")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made
