"""Private repositories: built with the operator's credentials, of which nobody and nothing else gets to know."""

import asyncio
import base64
import logging
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from builderkit import Outcome, build, request_for, settings, traces
from gitrepos import add_commit, add_submodule, make_repo
from gitserver import GitServer

from contract.events import Failure
from member.builders.base import BuildRequest
from member.builders.process.builder import ProcessBuilder

pytestmark = pytest.mark.slow

USER, SECRET = "the-operators-name", "the-operators-s3cr3t"
ENCODED = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()

#: Looks for the credentials wherever a program of the repository could.
NOSY = """#!/bin/sh
env; cat /proc/self/environ /proc/1/environ /proc/$PPID/environ | tr '\\0' '\\n'
git config --list --show-origin; cat .git/config; ls -la /tmp ~; cat /tmp/* 2>/dev/null
printf 'protocol=http\\nhost=127.0.0.1\\n\\n' | GIT_TERMINAL_PROMPT=0 git credential fill
GIT_TERMINAL_PROMPT=0 git fetch origin && echo "fetched again"
echo "looked everywhere"
"""


@pytest.fixture
def private(git_server: GitServer) -> Iterator[GitServer]:
    """A server that wants the operator's password."""
    git_server.password = f"{USER}:{SECRET}"
    git_server.authorizations.clear()
    yield git_server
    git_server.password = ""


async def build_with(
    data_dir: Path, cache_dir: Path, request: BuildRequest, url: str, password: str = SECRET
) -> Outcome:
    """Build with credentials for the server of a URL."""
    given = {"url": url, "username": USER, "password": password}
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False}
    providers = {"git": {"git_credentials": [given], "allow_private_addresses": True}}
    builder = ProcessBuilder(settings(data_dir, builder=section, providers=providers))
    await builder.start()
    try:
        return await build(builder, request)
    finally:
        await builder.close()


@contextmanager
def watched_arguments() -> Iterator[list[str]]:
    """The command lines of this machine, looked at again and again, that hold the secret."""
    found: list[str] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in psutil.process_iter():
                try:
                    line = " ".join(process.cmdline())
                except psutil.Error:
                    continue
                if SECRET in line or ENCODED in line:
                    found.append(line)
            over.wait(0.02)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


async def test_a_private_repository_is_built_and_the_credentials_are_nowhere(
    data_dir: Path, cache_dir: Path, private: GitServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    commit = make_repo(private.root, "nosy", {"postBuild": NOSY})
    with watched_arguments() as seen:
        request = request_for(private, "nosy", commit, "private")
        outcome = await build_with(data_dir, cache_dir, request, f"http://127.0.0.1:{private.port}")
    assert outcome.failure is None, outcome.message
    assert f"Basic {ENCODED}" in private.authorizations
    assert "looked everywhere" in outcome.log
    assert "fetched again" not in outcome.log
    told = "".join(event.to_json() for event in outcome.events)
    for secret in (SECRET, ENCODED, USER):
        assert secret not in told
        assert secret not in caplog.text
    assert not seen
    # The image, what is kept besides, and the cache that all builds share.
    for secret in (SECRET, ENCODED):
        found = await asyncio.to_thread(
            subprocess.run, ["grep", "-rlFa", secret, str(data_dir), str(cache_dir)], capture_output=True, text=True
        )
        assert found.returncode == 1, found.stdout
    assert not [path for path in traces(data_dir) if ".partial-" in path]


@pytest.mark.parametrize("theirs", [True, False])
async def test_a_password_that_is_wrong_or_for_another_server_is_told_to_nobody(
    data_dir: Path, cache_dir: Path, private: GitServer, theirs: bool
) -> None:
    commit = make_repo(private.root, "refused", {"README.md": "words\n"})
    port = private.port if theirs else 9
    request = request_for(private, "refused", commit, "private")
    outcome = await build_with(data_dir, cache_dir, request, f"http://127.0.0.1:{port}", "wr0ng-s3cr3t")
    assert outcome.failure is Failure.USER
    for secret in ("wr0ng-s3cr3t", USER):
        assert secret not in outcome.message + outcome.log
    assert bool(private.authorizations) is theirs


async def test_neither_a_submodule_nor_a_redirect_leads_them_to_another_server(
    data_dir: Path, cache_dir: Path, private: GitServer, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    with GitServer(tmp_path / "other") as other:
        make_repo(other.root, "theirs", {"README.md": "theirs\n"})
        make_repo(private.root, "with-a-submodule", {"README.md": "words\n"})
        add_submodule(private.root, "with-a-submodule", "theirs", other.url("theirs"))
        module = f'[submodule "theirs"]\n\tpath = theirs\n\turl = {other.url("theirs", "private")}\n'
        commit = add_commit(private.root, "with-a-submodule", {".gitmodules": module})
        request = request_for(private, "with-a-submodule", commit, "private")
        outcome = await build_with(data_dir, cache_dir, request, f"http://127.0.0.1:{private.port}")
        assert outcome.failure is Failure.USER
        assert f"Basic {ENCODED}" in private.authorizations
        assert any("private/theirs" in path for path in other.requests)

        async def redirect(request: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://127.0.0.1:{other.port}{request.rel_url}")

        app = web.Application()
        app.router.add_get("/{path:.*}", redirect)
        async with TestServer(app, host="127.0.0.1") as server:
            moved = replace(request, repo_url=str(server.make_url("/private/theirs.git")))
            other.requests.clear()
            outcome = await build_with(data_dir, cache_dir, moved, str(server.make_url("/")))
        assert outcome.failure is Failure.USER
        assert any("private/theirs" in path for path in other.requests)
        assert not other.authorizations
