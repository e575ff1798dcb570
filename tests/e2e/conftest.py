"""One federation for all end-to-end tests that leave it as they found it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from containerkit import Podman, podman
from federation import Federation, free_port, shared_cache_dir
from gitserver import GitServer
from playwright.async_api import Browser, Page

from tests.gate import gate

__all__ = ["engine", "federation", "gate", "git_server", "http", "member_config", "page", "site_port"]


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A real Git HTTP server on loopback."""
    with GitServer(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def site_port() -> int:
    """Where an author's site is, if a test serves one."""
    return free_port()


@pytest.fixture(scope="session")
def member_config(tmp_path_factory: pytest.TempPathFactory, site_port: int) -> Path:
    """What differs from the defaults of ``up``.

    There is one package cache for the whole test run, and sessions speak to the pages of one other site, which the
    gateway lets launch nothing.
    """
    path = tmp_path_factory.mktemp("config") / "members.yaml"
    cache = shared_cache_dir(tmp_path_factory.getbasetemp())
    sessions = "sessions:\n  limit: 60\n  idle_timeout: 90s\n"
    security = f"security:\n  cors_allow_origin: http://localhost:{site_port}\n"
    path.write_text(f"builder:\n  cache_dir: {cache}\n{security}{sessions}")
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


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page of a visitor who has been nowhere yet; what JupyterLab says on its console is its own affair."""
    context = await browser.new_context()
    made = await context.new_page()
    made.set_default_timeout(90_000)
    yield made
    await context.close()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client as a script has it: no cookies kept."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
