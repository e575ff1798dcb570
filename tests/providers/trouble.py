"""What each provider does while its server is in trouble, whatever server it is."""

import aiohttp
import pytest

from providers.base import ProviderUnavailableError
from providers.registry import Providers
from tests.providers.conftest import World

#: How servers say that they answer again in 90 seconds.
each_refusal = pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, {"Retry-After": "90"}),
        (429, {"X-RateLimit-Reset": "90"}),
        (403, {"RateLimit-Remaining": "0", "RateLimit-Reset": "90"}),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "90"}),
        (503, {"Retry-After": "Thu, 01 Jan 1970 00:01:30 GMT"}),
    ],
    ids=["retry-after", "reset", "no-quota", "no-quota-of-github", "date"],
)


async def once_asked_again(
    world: World,
    http: aiohttp.ClientSession,
    server: str,
    spec: str,
    status: int,
    headers: dict[str, str],
    told: str = "Try again in 2 minutes",
) -> str:
    """See that a server is left alone for as long as it has said; gives the commit that it tells afterwards."""
    providers = Providers(world.settings(), http, world.clock, lambda: world.clock.now - 1000.0)
    parsed, faulty = providers.parse(spec), getattr(world, server)
    faulty.status, faulty.headers = status, headers
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError, match=told) as caught:
            await providers.resolve(parsed)
        assert caught.value.retry_after_s == 90
    assert len(faulty.requests) == 1
    faulty.mend()
    world.clock.now += 91
    commit = (await providers.resolve(parsed)).commit
    await providers.close()
    return commit


async def assert_deadline_met(
    world: World, http: aiohttp.ClientSession, server: str, spec: str, prefixes: tuple[str, ...]
) -> None:
    """See that a server that hangs is given up, by providers of these names, when they are set to."""
    providers = Providers(world.settings(**{name: {"timeout": "200ms"} for name in prefixes}), http, world.clock)
    getattr(world, server).hang = True
    with pytest.raises(ProviderUnavailableError, match=r"did not answer within 0\.2 seconds"):
        await providers.resolve(providers.parse(spec))
    await providers.close()
