"""One federation for all end-to-end tests that leave it as they found it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from containerkit import Podman, podman
from federation import Federation, shared_cache_dir
from gitserver import GitServer

from tests.chromium import browser
from tests.gate import gate

__all__ = ["browser", "engine", "federation", "gate", "git_server", "http", "member_config"]


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A real Git HTTP server on loopback."""
    with GitServer(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def member_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What differs from the defaults of ``up``: one package cache for the whole test run."""
    path = tmp_path_factory.mktemp("config") / "members.yaml"
    cache = shared_cache_dir(tmp_path_factory.getbasetemp())
    sessions = "sessions:\n  limit: 60\n  idle_timeout: 90s\n"
    path.write_text(f"builder:\n  cache_dir: {cache}\n{sessions}")
    return path


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory, member_config: Path) -> Iterator[Federation]:
    """A gateway and two members; what a visitor has left goes on for a shorter time than by default."""
    gateway_config = tmp_path_factory.mktemp("config") / "gateway.yaml"
    gateway_config.write_text("launch:\n  linger: 10s\n")
    configs = ("--gateway-config", str(gateway_config), "--member-config", str(member_config))
    federation = Federation.start(tmp_path_factory.mktemp("up"), *configs)
    yield federation
    federation.stop()


@pytest.fixture(scope="session")
def engine() -> Iterator[Podman]:
    """A Podman with an image in it that brings JupyterLab, for tests that :func:`containerkit.why_not` allows."""
    with podman() as started:
        yield started


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client as a script has it: no cookies kept."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
