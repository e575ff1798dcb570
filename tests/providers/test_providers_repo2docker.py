"""What a provider resolves is what repo2docker takes: a builder may hand it on as it is."""

import warnings
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from providers.registry import Providers
from tests.providers.conftest import World

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports in its turn
    from repo2docker import contentproviders


@pytest.fixture
async def providers(world: World, http: aiohttp.ClientSession) -> AsyncIterator[Providers]:
    world.zenodo.records = {"12": {}}
    world.figshare.articles = {"7": {1: {}, 2: {}}}
    world.dataverse.datasets = {"doi:10.7910/DVN/ABCDEF": {"1.0": {}}}
    world.doi.dois = {
        "10.5281/zenodo.12": f"{world.zenodo.url}/records/12",
        "10.6084/m9.figshare.7": "https://figshare.com/articles/dataset/A_title/7",
        "10.7910/dvn/abcdef": f"{world.dataverse.url}/citation?persistentId=doi:10.7910/DVN/ABCDEF",
    }
    world.swh.directories = {"d" * 40: {}}
    made = Providers(world.settings(), http, world.clock)
    yield made
    await made.close()


async def url_of(providers: Providers, spec: str) -> str:
    return (await providers.resolve(providers.parse(spec))).spec.repo_url


async def test_a_record(providers: Providers, world: World) -> None:
    url = (await url_of(providers, "zenodo/10.5281/zenodo.12")).replace(world.zenodo.url, "https://zenodo.org")
    assert contentproviders.Zenodo().detect(url)["record"] == "12"


async def test_a_version_of_an_article(providers: Providers) -> None:
    found = contentproviders.Figshare().detect(await url_of(providers, "figshare/10.6084/m9.figshare.7"))
    assert (found["article"], found["version"]) == ("7", "2")


async def test_a_dataset_of_a_dataverse(providers: Providers) -> None:
    url = await url_of(providers, "dataverse/10.7910/DVN/ABCDEF")
    dataverse: Any = contentproviders.Dataverse()
    dataverse.hosts = [{"hostname": urlsplit(url).netloc}]
    assert dataverse.detect(url) == url
    assert dataverse.parse_dataverse_url(url) == ("doi:10.7910/DVN/ABCDEF", True)


async def test_an_archived_directory(providers: Providers) -> None:
    found = contentproviders.Swhid().detect(await url_of(providers, f"swh/swh:1:dir:{'d' * 40};origin=https://x.org"))
    assert found["swhid_obj"]["hash"] == "d" * 40


def test_a_resource_and_a_dataset_are_known_by_their_address(providers: Providers) -> None:
    # What more repo2docker asks before it takes these, it asks their servers.
    resource = providers.parse(f"hydroshare/{'8f' * 16}").repo_url
    assert resource.endswith(f"/resource/{'8f' * 16}")
    dataset = providers.parse("ckan/https%3A%2F%2Fx.org%2Fdata%2Fdataset%2Fyy%3Factivity_id%3Dab-cd").repo_url
    assert dataset == "https://x.org/data/dataset/yy/history/ab-cd"
