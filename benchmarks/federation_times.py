"""How long a visitor waits, and what the processes of ``manybinder up`` weigh.

The reference is the Hub's own spawn: the same image started through the member's Hub API alone, in the same run, with
nothing of ours but the spawner in between.
"""

import asyncio
import contextlib
import json
import re
import secrets
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer

from member.processes import HUB_API_TOKEN

UP = "up, warm, to its ready line"
COLD = "cold launch of a small repository, in all"
WARM = "warm launch, in all"
HUB_SPAWN = "reference: the Hub's own spawn of the same image"


@dataclass
class Measured:
    """Seconds by what was timed, a value a run; memory (proportional set size, MB) by process."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    pss_mb: dict[str, float] = field(default_factory=dict)

    async def time(self, name: str, action: Callable[[], Awaitable[Any]]) -> Any:
        """Run and add the time it took."""
        begun = time.monotonic()
        result = await action()
        self.seconds.setdefault(name, []).append(time.monotonic() - begun)
        return result


async def measure(runs: int) -> Measured:
    """All of it, in a data directory of its own."""
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="manybinder-bench-") as directory:
        base = Path(directory)
        (base / "git").mkdir()
        with GitServer(base / "git") as git_server:
            await _first_start(base, git_server)
            for _ in range(runs):
                federation = await measured.time(UP, lambda: asyncio.to_thread(Federation.start, base / "up"))
                try:
                    await _launches(measured, federation, git_server)
                    measured.pss_mb = _memory(federation)
                finally:
                    await asyncio.to_thread(federation.stop)
    return measured


async def _first_start(base: Path, git_server: GitServer) -> None:
    """Fill the package cache and make the base environments of both members, so that what follows is warm."""
    federation = await asyncio.to_thread(Federation.start, base / "up")
    try:
        async with aiohttp.ClientSession() as http:
            seen: set[str] = set()
            for number in range(20):
                name = _small_repo(git_server, f"first-{number}")
                seen.add(ready(await federation.launch(http, git_spec(git_server.url(name))))["member"])
                if len(seen) == 2:
                    return
    finally:
        await asyncio.to_thread(federation.stop)


async def _launches(measured: Measured, federation: Federation, git_server: GitServer) -> None:
    spec = git_spec(git_server.url(_small_repo(git_server, f"small-{uuid.uuid4().hex[:8]}")))
    async with aiohttp.ClientSession() as http:
        await measured.time(COLD, lambda: federation.launch(http, spec))
        fields = ready(await measured.time(WARM, lambda: federation.launch(http, spec)))
        await measured.time(HUB_SPAWN, lambda: _hub_spawn(federation, http, fields))


def _small_repo(git_server: GitServer, name: str) -> str:
    make_repo(git_server.root, name, {"requirements.txt": "humanize==4.12.3\n", "README.md": name})
    return name


async def _hub_spawn(federation: Federation, http: aiohttp.ClientSession, fields: dict[str, Any]) -> None:
    settings = yaml.safe_load((federation.data_dir / f"{fields['member']}.yaml").read_text())
    hub = settings["hub"]["url"].rstrip("/")
    token = (Path(settings["data_dir"]) / "secrets" / HUB_API_TOKEN).read_text().strip()
    user = f"bench-{uuid.uuid4().hex[:8]}"
    api, headers = f"{hub}/hub/api/users/{user}", {"Authorization": f"token {token}"}
    options = {"image": fields["image"], "token": secrets.token_urlsafe(24), "repo_url": fields["repo_url"]}
    async with http.post(api, headers=headers, raise_for_status=True):
        pass
    async with http.post(f"{api}/server", headers=headers, json=options, raise_for_status=True):
        pass
    async with http.get(f"{api}/server/progress", headers=headers, raise_for_status=True) as stream:
        async for line in stream.content:
            if line.startswith(b"data:") and json.loads(line[5:]).get("ready"):
                return
    raise RuntimeError("the Hub did not start the server")


def _memory(federation: Federation) -> dict[str, float]:
    sizes: dict[str, float] = {}
    supervisor = psutil.Process(federation.process.pid)
    for process, command in [(supervisor, supervisor.cmdline()), *federation.commands()]:
        with contextlib.suppress(psutil.Error):
            size, name = process.memory_full_info().pss / 1e6, _name(command)
            sizes[name] = max(size, sizes.get(name, 0))
    return sizes


def _name(command: list[str]) -> str:
    """What a process is, for people: the first of the known words in its command line."""
    line = " ".join(command)
    known = {
        "ipykernel": "a kernel",
        "warden": "a session's warden",
        "member.session": "a session's start",
        "bwrap": "bubblewrap",
        "jupyter": "a session's JupyterLab",
        "cull": "culler",
        "traefik": "proxy (Traefik)",
        "--only api": "member API",
        "manybinder gateway": "gateway",
        "manybinder up": "up",
    }
    if re.search(r"\bjupyterhub\b(?!_)", line) and "cull" not in line and "bwrap" not in line:
        return "JupyterHub"
    return next((name for word, name in known.items() if word in line), Path(command[0]).name if command else "?")
