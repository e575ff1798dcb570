"""One federation of three members for all faults, and what a visitor needs."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import yaml
from federation import Federation, shared_cache_dir
from gitserver import GitServer

from tests.gate import gate

__all__ = ["federation", "gate", "git_server", "http"]

#: Ejections are short, so that a return can be waited for, and so is the pause after a session that did not start;
#: deadlines are such that no busy machine meets them.
GATEWAY = {
    "ejection": {"base_time": "3s", "max_time": "5s"},
    "launch": {"stalled_after": "5s", "silence_timeout": "120s", "start_timeout": "240s", "member_timeout": "180s"},
}
MEMBERS = {"sessions": {"limit": 40, "idle_timeout": "120s"}, "launch": {"retry_delay": "0.2s"}}


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    """A real Git HTTP server on loopback."""
    with GitServer(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A gateway and three members, each of real processes."""
    config = tmp_path_factory.mktemp("config")
    cache = shared_cache_dir(tmp_path_factory.getbasetemp())
    (config / "gateway.yaml").write_text(yaml.safe_dump(GATEWAY))
    (config / "members.yaml").write_text(yaml.safe_dump({**MEMBERS, "builder": {"cache_dir": str(cache)}}))
    federation = Federation.start(
        tmp_path_factory.mktemp("up"),
        "--members",
        "3",
        "--gateway-config",
        str(config / "gateway.yaml"),
        "--member-config",
        str(config / "members.yaml"),
        deadline_s=300,
    )
    yield federation
    federation.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client as a script has it: no cookies kept."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session
