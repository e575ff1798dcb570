"""One data directory for all tests of the builder, so that base environments are made once."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from builderkit import settings
from federation import shared_cache_dir
from gitserver import GitServer

from member.builders.process.builder import ProcessBuilder


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A real Git HTTP server on loopback."""
    with GitServer(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A member's data directory."""
    return tmp_path_factory.mktemp("member")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package cache of this test run."""
    return shared_cache_dir(tmp_path_factory.getbasetemp())


@pytest.fixture
async def builder(data_dir: Path, cache_dir: Path) -> AsyncIterator[ProcessBuilder]:
    """A builder that confines; where that does not work, its tests fail."""
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False}
    builder = ProcessBuilder(settings(data_dir, builder=section))
    await builder.start()
    yield builder
    await builder.close()
