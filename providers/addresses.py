"""Which addresses a visitor's URL may lead to.

Whoever names a URL that this service then connects to could otherwise reach what only this service can: loopback,
the internal network, a cloud's metadata.  A name is looked up once, all its addresses are checked, and the caller
connects to those very addresses, so that a name that changes its mind in between (DNS rebinding) gains nothing.
"""

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from providers.base import ProviderUnavailableError, SpecError
from providers.internet import text_is_public

# Threads of their own: name servers that keep look-ups waiting must not hold up all else that needs a thread.
_LOOK_UPS = ThreadPoolExecutor(8, thread_name_prefix="look up")


class HostNotFoundError(Exception):
    """No address is known for the name."""


async def public_addresses(host: str, port: int, timeout_s: float = 10.0) -> list[str]:
    """The addresses of a host, if all of them are public.

    Raises :class:`SpecError` if one is not, and as :func:`addresses_of` does.
    """
    addresses = await addresses_of(host, port, timeout_s)
    if not all(text_is_public(address) for address in addresses):
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
