"""What visitors get wrong: one clear event each, nothing hangs, nothing is left, and the next launch works."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer

from contract.events import Failure, Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
async def unharmed(federation: Federation, http: aiohttp.ClientSession, git_server: GitServer) -> AsyncIterator[None]:
    """After the test: no build process, no half-made directory, and a launch that works."""
    yield
    make_repo(git_server.root, "fine", {"requirements.txt": "six\n"})
    ready(await federation.launch(http, git_spec(git_server.url("fine"))))
    await _until_clean(federation)


async def _until_clean(federation: Federation) -> None:
    async with asyncio.timeout(120):
        while left := [str(path) for path in federation.data_dir.rglob("*.partial*")]:
            await asyncio.sleep(0.5)
    assert not left


async def _failure(federation: Federation, http: aiohttp.ClientSession, spec: str) -> tuple[str, Failure | None]:
    events = await federation.launch(http, spec)
    last = events[-1]
    assert last.phase == Phase.FAILED, last
    assert "Traceback" not in last.message
    return last.message, last.failure


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nowhere/org/repo/main", "No provider found for prefix nowhere"),
        ("gh/only-an-owner", "gh"),
        ("git/https%3A%2F%2Fexample.invalid", "git"),
        ("git/file%3A%2F%2F%2Fetc/HEAD", "file"),
        ("git/--upload-pack%3Dtouch/HEAD", "git"),
    ],
)
async def test_a_spec_that_leads_nowhere(
    federation: Federation, http: aiohttp.ClientSession, spec: str, said: str
) -> None:
    events = []
    # Launch pages refuse what does not parse, so a script asks for the stream itself.
    url = f"{federation.url}/build/{spec}"
    async with http.get(url, headers={"Accept": "text/event-stream"}) as response:
        body = await response.text()
        events = [line for line in body.splitlines() if line.startswith("data:")]
    assert len(events) == 1, body
    assert '"failed"' in events[0]
    assert said in events[0] or "token" in events[0]


@pytest.mark.usefixtures("unharmed")
async def test_a_repository_that_does_not_exist(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    message, failure = await _failure(federation, http, git_spec(git_server.url("nobody-made-this")))
    assert "Could not resolve ref" in message or "Error resolving ref" in message
    assert failure == Failure.USER


@pytest.mark.usefixtures("unharmed")
async def test_a_ref_that_does_not_exist(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "refless", {"requirements.txt": ""})
    message, failure = await _failure(federation, http, git_spec(git_server.url("refless"), "no-such-branch"))
    assert "Could not resolve ref" in message
    assert failure == Failure.USER


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("unresolvable", {"requirements.txt": "six==0.0.0.1\n"}, "six"),
        ("no-such-package", {"requirements.txt": "this-package-does-not-exist-anywhere-2739\n"}, "this-package"),
        ("garbled", {"requirements.txt": "=== not a requirement\n"}, "requirements.txt"),
        ("post-fails", {"requirements.txt": "", "postBuild": "#!/bin/sh\necho it hurts\nexit 3\n"}, "postBuild"),
        ("apt", {"apt.txt": "cowsay\n"}, "apt.txt"),
        ("docker", {"Dockerfile": "FROM scratch\n"}, "Dockerfile"),
        ("r", {"install.R": "install.packages('x')\n"}, "R"),
        ("julia", {"Project.toml": "[deps]\n"}, "Julia"),
        ("nix", {"default.nix": "{}\n"}, "Nix"),
        ("conda", {"environment.yml": "dependencies:\n  - gdal-from-nowhere\n"}, "gdal-from-nowhere"),
    ],
)
async def test_a_repository_that_cannot_be_built(
    federation: Federation,
    http: aiohttp.ClientSession,
    git_server: GitServer,
    name: str,
    files: dict[str, str],
    said: str,
) -> None:
    make_repo(git_server.root, name, files)
    message, failure = await _failure(federation, http, git_spec(git_server.url(name)))
    assert said in message
    assert failure == Failure.USER
    if name in ("apt", "docker", "r", "julia", "nix", "conda"):
        assert "container builder" in message


@pytest.mark.usefixtures("unharmed")
async def test_a_log_line_of_ten_megabytes(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(
        git_server.root,
        "long-line",
        {"requirements.txt": "", "postBuild": "#!/bin/sh\nhead -c 10000000 /dev/zero | tr '\\0' x; echo; echo after\n"},
    )
    events = await federation.launch(http, git_spec(git_server.url("long-line")))
    ready(events)
    assert max(len(event.message) for event in events) < 100_000
    assert any("after" in event.message for event in events)


@pytest.mark.usefixtures("unharmed")
async def test_a_client_that_disconnects_in_the_middle_of_a_build(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(
        git_server.root, "left-alone", {"requirements.txt": "", "postBuild": "#!/bin/sh\necho begun\nexec sleep 987\n"}
    )

    def building() -> bool:
        return any("987" in command for _, command in federation.commands())

    events = federation.events(http, git_spec(git_server.url("left-alone")))
    async with asyncio.timeout(170), contextlib.aclosing(events):
        async for _, event in events:
            if "begun" in event.message:
                break
        while not building():
            await asyncio.sleep(0.1)
    # The gateway waits for the visitor to come back, the member for another gateway, then the build is given up.
    async with asyncio.timeout(200):
        while building():
            await asyncio.sleep(1)
