"""Builds and sessions for tests: a process builder on real tools, and sessions as the Hub's spawner starts them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from federation import free_port
from gitrepos import Files, make_repo
from gitserver import GitServer, Mode
from notebook import Notebook

from contract.events import BuildEvent, Failure
from contract.repos import repo_key
from member.builders.base import Builder, BuildFailedError, BuildRequest
from member.builders.process.builder import ProcessBuilder
from member.core.images import image_name
from member.settings import MemberSettings

TOKEN = "the-visitors-token"


def settings_tree(data_dir: Path, **sections: Any) -> dict[str, Any]:
    """A member's settings, as they stand in its file."""
    return {
        "name": "member-1",
        "listen": {"port": 9001},
        "public_url": "http://127.0.0.1:9001/",
        "data_dir": str(data_dir),
        "hub": {"url": "http://127.0.0.1:9002/", "public_url": "http://127.0.0.1:9002/"},
        **sections,
    }


def settings(data_dir: Path, **sections: Any) -> MemberSettings:
    """A member's settings."""
    return MemberSettings.model_validate(settings_tree(data_dir, **sections))


@dataclass
class Outcome:
    """How a build went."""

    image: str
    events: list[BuildEvent] = field(default_factory=list)
    failure: Failure | None = None
    message: str = ""

    @property
    def log(self) -> str:
        """All lines."""
        return "".join(event.message for event in self.events)


def request_for(server: GitServer, name: str, commit: str, mode: Mode = "smart") -> BuildRequest:
    """What a member would ask its builder for."""
    url = server.url(name, mode)
    # The server's port differs from run to run; the image's name must not, or nothing is ever found again.
    key = repo_key(f"http://git.example/{mode}/{name}")
    return BuildRequest(key, url, commit, image_name("test-", key, commit))


async def build(builder: Builder, request: BuildRequest) -> Outcome:
    """Build, and tell how it went."""
    outcome = Outcome(request.image)
    try:
        async for event in builder.build(request):
            outcome.events.append(event)
    except BuildFailedError as error:
        outcome.failure, outcome.message = error.failure, str(error)
    return outcome


async def build_files(
    builder: ProcessBuilder, server: GitServer, name: str, files: Files, mode: Mode = "smart"
) -> Outcome:
    """Make a repository and build it."""
    commit = make_repo(server.root, name, files)
    return await build(builder, request_for(server, name, commit, mode))


def traces(data_dir: Path) -> list[str]:
    """What a build or a session should not leave behind."""
    partial = [str(path) for path in (data_dir / "images").glob("*.partial-*")]
    sessions = [str(path) for path in (data_dir / "sessions").glob("*")]
    return [*partial, *sessions]


def own(text: str) -> str:
    """A text with each number 987xx in it made this run's own, so that no other run on this machine is looked at."""
    return re.sub(r"\b987(\d\d)\b", rf"1{os.getpid():07d}\1", text)


def running(marker: str) -> list[psutil.Process]:
    """Processes of this machine that bear a text in their arguments."""
    found, marker = [], own(marker)
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


async def until_running(marker: str, deadline_s: float = 60) -> None:
    """Wait until a process bears a text in its arguments."""
    async with asyncio.timeout(deadline_s):
        while not running(marker):
            await asyncio.sleep(0.05)


async def until_gone(marker: str, deadline_s: float = 60) -> None:
    """Wait until no process bears a text in its arguments."""
    async with asyncio.timeout(deadline_s):
        while running(marker):
            await asyncio.sleep(0.05)


@dataclass
class RunningSession:
    """A session's process, and its notebook server."""

    process: subprocess.Popen[bytes]
    notebook: Notebook
    log: Path

    async def wait(self, deadline_s: float = 150) -> int:
        """Its exit status, when it ends."""
        return await asyncio.to_thread(self.process.wait, deadline_s)


@asynccontextmanager
async def session(
    data_dir: Path,
    image: str,
    place: Path,
    environ: dict[str, str] | None = None,
    *,
    singleuser: bool = False,
    **sections: Any,
) -> AsyncIterator[RunningSession]:
    """Start a session as the spawner does, wait until it answers, and stop it at the end.

    ``singleuser``: it asks the Hub who its visitor is, which ``environ`` names.
    """
    port = free_port()
    place.mkdir(parents=True, exist_ok=True)
    (place / "member.yaml").write_text(yaml.safe_dump({"schema": 1, **settings_tree(data_dir, **sections)}))
    arguments = ["--image", image, "--port", str(port), "--base-url", "/user/someone/", "--name", "someone"]
    given = {"JUPYTER_TOKEN": TOKEN, "JUPYTERHUB_API_TOKEN": "hub-secret"}
    if singleuser:
        arguments.append("--singleuser")
        given = {"JUPYTERHUB_API_TOKEN": TOKEN, "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/someone/"}
    with (place / "session.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a moment
            [sys.executable, "-m", "member.session", "--config", str(place / "member.yaml"), *arguments],
            env={**os.environ, **given, **(environ or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        async with aiohttp.ClientSession() as http:
            notebook = Notebook(http, f"http://127.0.0.1:{port}/user/someone/", TOKEN)
            running_session = RunningSession(process, notebook, place / "session.log")
            await _until_answering(running_session)
            yield running_session
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 120)


async def _until_answering(started: RunningSession) -> None:
    async with asyncio.timeout(170):
        while True:
            if started.process.poll() is not None:
                raise AssertionError(started.log.read_text())
            try:
                await started.notebook.get("api/status")
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            else:
                return
