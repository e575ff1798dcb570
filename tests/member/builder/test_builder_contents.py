"""What is in no Git repository is resolved, fetched by repo2docker's content providers, built, and served."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from builderkit import build, settings, traces

from contract.events import Failure
from member.builders.base import BuildRequest
from member.builders.process.builder import ProcessBuilder
from member.builders.process.store import Store
from member.core.images import image_name
from providers.registry import Providers
from tests.fakes import archives
from tests.fakes.archives import zipped

RESOURCE = "8f7c2f0341ef4180b0dbe97f59130756"
FILES = {"README.md": "words", "postBuild": "#!/bin/sh\ncat README.md data/words.txt > built.txt\n"}
WORDS = {**FILES, "data/words.txt": " and more"}


@pytest.fixture
async def tree() -> AsyncIterator[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        found: dict[str, Any] = {}
        for name in ("DOI", "Zenodo", "Figshare", "Dataverse", "HydroShare", "CKAN", "SoftwareHeritage"):
            found[name.lower()] = await stack.enter_async_context(getattr(archives, f"Fake{name}")())
        yield found


def provider_settings(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        "doi_url": tree["doi"].url,
        "zenodo": {"urls": [tree["zenodo"].url]},
        "figshare": {"api_url": f"{tree['figshare'].url}/v2"},
        "dataverse": {"allow_private_addresses": True},
        "hydroshare": {"url": tree["hydroshare"].url},
        "ckan": {"allow_private_addresses": True},
        "swh": {"url": tree["softwareheritage"].url},
    }


def fill(tree: dict[str, Any]) -> dict[str, str]:
    """Put the files everywhere; returns specs by provider."""
    tree["zenodo"].records["1"] = {"work.zip": zipped(WORDS, "work-1.0/")}
    tree["figshare"].articles["7"] = {1: {"work.zip": zipped({"README.md": "old"})}, 2: {"w.zip": zipped(WORDS, "w/")}}
    tree["dataverse"].datasets["doi:10.7910/DVN/ABCDEF"] = {"1.0": WORDS}
    tree["hydroshare"].resources[RESOURCE] = WORDS
    # Resources of a CKAN are files without directories.
    tree["ckan"].datasets["work"] = {**FILES, "postBuild": "#!/bin/sh\nprintf 'words and more' > built.txt\n"}
    tree["softwareheritage"].directories["d" * 40] = WORDS
    tree["softwareheritage"].revisions["e" * 40] = "d" * 40
    tree["doi"].dois = {
        "10.5281/zenodo.1": f"{tree['zenodo'].url}/records/1",
        "10.6084/m9.figshare.7": f"{tree['figshare'].url}/articles/dataset/Work/7",
        "10.7910/dvn/abcdef": f"{tree['dataverse'].url}/citation?persistentId=doi:10.7910/DVN/ABCDEF",
    }
    return {
        "zenodo": "10.5281/zenodo.1",
        "figshare": "10.6084/m9.figshare.7",
        "dataverse": "10.7910/DVN/ABCDEF",
        "hydroshare": RESOURCE,
        "ckan": quote(f"{tree['ckan'].url}/data/dataset/work", safe=""),
        "swh": f"swh:1:rev:{'e' * 40}",
    }


async def resolved(tree: dict[str, Any], spec: str, data_dir: Path) -> BuildRequest:
    """What a member orders for a spec."""
    async with aiohttp.ClientSession() as session:
        providers = Providers(settings(data_dir, providers=provider_settings(tree)).providers, session)
        try:
            found = await providers.resolve(providers.parse(spec))
        finally:
            await providers.close()
    repo, provider = found.spec.repo, found.spec.provider
    return BuildRequest(repo, found.spec.repo_url, found.commit, image_name("t-", repo, found.commit), provider)


@pytest.fixture
async def make(data_dir: Path, cache_dir: Path, tree: dict[str, Any]) -> AsyncIterator[ProcessBuilder]:
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False}
    builder = ProcessBuilder(settings(data_dir, builder=section, providers=provider_settings(tree)))
    await builder.start()
    yield builder
    await builder.close()


@pytest.mark.parametrize("provider", ["zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh"])
async def test_what_a_provider_resolves_is_built(
    data_dir: Path, tree: dict[str, Any], make: ProcessBuilder, provider: str
) -> None:
    request = await resolved(tree, f"{provider}/{fill(tree)[provider]}", data_dir)
    outcome = await build(make, request)
    assert outcome.failure is None, outcome.message + outcome.log
    home = Store(data_dir).directory(request.image) / "home"
    assert (home / "built.txt").read_text() == "words and more"
    assert not list(home.glob("*.zip"))


@pytest.mark.slow
async def test_without_a_sandbox_too(tmp_path: Path, cache_dir: Path, tree: dict[str, Any]) -> None:
    specs = fill(tree)
    section = {"cache_dir": str(cache_dir), "confine": "off", "python_downloads": False}
    builder = ProcessBuilder(settings(tmp_path, builder=section, providers=provider_settings(tree)))
    await builder.start()
    tree["figshare"].articles["7"][3] = {"../evil.txt": b"evil"}
    evil = await build(builder, await resolved(tree, "figshare/10.6084/m9.figshare.7", tmp_path))
    assert "leads elsewhere" in evil.message
    for provider in ("zenodo", "swh"):
        request = await resolved(tree, f"{provider}/{specs[provider]}", tmp_path)
        outcome = await build(builder, request)
        assert outcome.failure is None, outcome.message + outcome.log
        home = Store(tmp_path).directory(request.image) / "home"
        assert (home / "built.txt").read_text() == "words and more"
    assert not list(tmp_path.rglob("evil.txt"))
    await builder.close()


@pytest.mark.parametrize(
    ("fault", "failure", "said"),
    [
        ({"status": 500}, Failure.MEMBER, "answered with 500"),
        ({"status": 404}, Failure.USER, "answered with 404"),
        ({"drop": True}, Failure.MEMBER, "could not be fetched"),
        ({"loop": True}, Failure.MEMBER, "redirects"),
        ({"body": b"{}"}, Failure.MEMBER, "could not be fetched"),
        ({"body": b"<html>"}, Failure.MEMBER, "could not be fetched"),
    ],
    ids=["500", "404", "drop", "loop", "empty", "html"],
)
async def test_a_fault_while_fetching_is_told_and_leaves_nothing(
    data_dir: Path, tree: dict[str, Any], make: ProcessBuilder, fault: dict[str, Any], failure: Failure, said: str
) -> None:
    request = await resolved(tree, f"zenodo/{fill(tree)['zenodo']}", data_dir)
    for name, value in fault.items():
        setattr(tree["zenodo"], name, value)
    outcome = await build(make, request)
    assert (outcome.failure, said in outcome.message) == (failure, True), outcome.message
    assert request.repo_url in outcome.message
    assert "Traceback" not in outcome.log
    assert traces(data_dir) == []


async def test_a_file_whose_name_leads_elsewhere_is_not_written(
    data_dir: Path, tree: dict[str, Any], make: ProcessBuilder
) -> None:
    spec = fill(tree)["figshare"]
    tree["figshare"].articles["7"][3] = {"../evil.txt": b"evil", "/etc/evil.txt": b"evil"}
    outcome = await build(make, await resolved(tree, f"figshare/{spec}", data_dir))
    assert (outcome.failure, "leads elsewhere" in outcome.message) == (Failure.USER, True), outcome.message


async def test_nothing_is_fetched_from_an_internal_address(
    data_dir: Path, cache_dir: Path, tree: dict[str, Any]
) -> None:
    request = await resolved(tree, f"ckan/{fill(tree)['ckan']}", data_dir)
    tree["ckan"].requests.clear()
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False}
    builder = ProcessBuilder(settings(data_dir, builder=section))
    await builder.start()
    outcome = await build(builder, request)
    await builder.close()
    assert (outcome.failure, "is an internal address" in outcome.message) == (Failure.USER, True), outcome.message
    assert not tree["ckan"].requests
