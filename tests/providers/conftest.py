"""All providers, each asking a fake server of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from providers.registry import Providers
from providers.settings import ProvidersSettings
from tests.fakes import archives, hosts
from tests.fakes.faulty import FaultyServer


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """The servers, and the settings that lead to them."""

    doi: archives.FakeDOI
    zenodo: archives.FakeZenodo
    figshare: archives.FakeFigshare
    dataverse: archives.FakeDataverse
    hydroshare: archives.FakeHydroShare
    ckan: archives.FakeCKAN
    swh: archives.FakeSoftwareHeritage
    gitlab: hosts.FakeGitLab
    gists: hosts.FakeGists
    clock: Clock

    def settings(self, **changes: dict[str, Any]) -> ProvidersSettings:
        """Settings for the servers, with more for some providers."""
        tree: dict[str, Any] = {
            "doi_url": self.doi.url,
            "gh": {"api_url": self.gists.url},
            "gl": {"api_url": self.gitlab.url},
            "zenodo": {"urls": [self.zenodo.url, "https://sandbox.zenodo.org"]},
            "figshare": {"api_url": f"{self.figshare.url}/v2"},
            "dataverse": {"allow_private_addresses": True},
            "hydroshare": {"url": self.hydroshare.url},
            "ckan": {"allow_private_addresses": True},
            "swh": {"url": self.swh.url},
        }
        for name, more in changes.items():
            tree[name] = {**tree.get(name, {}), **more}
        return ProvidersSettings.model_validate(tree)

    def servers(self) -> Iterator[FaultyServer]:
        """All servers."""
        yield from (server for server in vars(self).values() if isinstance(server, FaultyServer))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        kinds = (
            archives.FakeDOI,
            archives.FakeZenodo,
            archives.FakeFigshare,
            archives.FakeDataverse,
            archives.FakeHydroShare,
            archives.FakeCKAN,
            archives.FakeSoftwareHeritage,
            hosts.FakeGitLab,
            hosts.FakeGists,
        )
        servers: list[Any] = [await stack.enter_async_context(kind()) for kind in kinds]
        yield World(*servers, clock=Clock())


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def all_providers(world: World, http: aiohttp.ClientSession) -> AsyncIterator[Providers]:
    providers = Providers(world.settings(), http, world.clock)
    yield providers
    await providers.close()
