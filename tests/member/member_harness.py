"""A member's engines over a fake Hub and a fake builder: what several tests share."""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from contract.events import BuildEvent
from contract.launches import launch_id
from contract.repos import repo_key
from contract.signatures import LaunchClaims
from manybinder.ports import free_ports
from member.builders.base import BuildRequest
from member.clients.hub import HubClient
from member.core.builds import BuildLimits
from member.core.images import image_name
from member.core.launching import Launch, LaunchOrder
from member.core.quotas import SessionLimits
from member.engines.build_logs import BuildLogs
from member.engines.builds import Builds
from member.engines.hook import Hook
from member.engines.launches import Launches
from member.engines.servers import Servers
from member.metrics import Metrics
from member.settings import LaunchSettings, MemberSettings
from servicekit.tasks import Tasks
from tests.fakes.builder import FakeBuilder
from tests.fakes.hub import TOKEN, FakeHub

COMMIT = "c0ffee" + "0" * 34


async def until(condition: Callable[[], object], deadline_s: float = 60) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


def build_request(name: str) -> BuildRequest:
    """What to build of a repository."""
    url = f"https://git.example/org/{name}"
    return BuildRequest(repo_key(url), url, COMMIT, image_name("test-", repo_key(url), COMMIT))


def launch_claims(**changes: Any) -> LaunchClaims:
    """What a gateway orders now, of a member of its federation."""
    now = time.time()
    fields: dict[str, Any] = {
        "member": "member-1",
        "launch_id": launch_id(os.urandom(16)),
        "provider": "gh",
        "spec": "gh/org/repo/main",
        "repo_url": build_request("repo").repo_url,
        "resolved_ref": COMMIT,
        "issued_at": now,
        "expires_at": now + 60,
        "launch_host": "https://gateway.example/",
    }
    return LaunchClaims(**{**fields, **changes})


def order(name: str = "repo", **changes: Any) -> LaunchOrder:
    """A new launch of a repository."""
    request = build_request(name)
    fields: dict[str, Any] = {
        "launch_id": launch_id(os.urandom(16)),
        "spec": f"gh/org/{name}/main",
        "repo": request.repo,
        "repo_url": request.repo_url,
        "commit": request.commit,
        "image": request.image,
        "launch_host": "https://gateway.example/",
        "ref_url": f"{request.repo_url}/tree/{COMMIT}",
        "persistent_spec": f"gh/org/{name}/{COMMIT}",
        "client_ip": "192.0.2.7",
    }
    return LaunchOrder(**{**fields, **changes})


@dataclass
class Rig:
    """Engines that run; ``skew`` (seconds) is added to the clock of launches."""

    http: aiohttp.ClientSession
    hub: FakeHub
    client: HubClient
    builder: FakeBuilder
    builds: Builds
    tasks: Tasks
    metrics: Metrics
    logs: BuildLogs
    launches: Launches
    skew: float = 0.0

    async def events(self, launch: Launch, deadline_s: float = 90) -> list[BuildEvent]:
        """All events of a launch, to its end."""
        async with asyncio.timeout(deadline_s):
            return [entry.event async for entry in launch.journal.follow()]

    async def launch(self, what: LaunchOrder) -> list[BuildEvent]:
        """Launch, and follow to the end."""
        return await self.events(self.launches.start(what))

    def gauge(self, name: str) -> float:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name) or 0.0


def hub_settings(data_dir: Path) -> MemberSettings:
    """Of a member that runs its own Hub."""
    api, proxy, hub, proxy_api = free_ports(4)
    return MemberSettings.model_validate(
        {
            "name": "member-1",
            "listen": {"port": api},
            "public_url": f"http://127.0.0.1:{api}/",
            "data_dir": str(data_dir),
            "hub": {
                "url": f"http://127.0.0.1:{hub}/",
                "public_url": f"http://127.0.0.1:{proxy}/",
                "managed": {"hub_port": hub, "proxy_port": proxy, "proxy_api_port": proxy_api},
            },
            "launch": {"timeout": "150s"},
        }
    )


def make_logs(directory: Path, public_url: str = "https://member.example/") -> BuildLogs:
    """Logs of builds, in a directory that is made."""
    logs = BuildLogs(directory, public_url, most_bytes=2**20, max_age_s=3600)
    logs.start()
    return logs


@contextlib.asynccontextmanager
async def rig(
    *,
    session_limit: int = 100,
    per_repo: int | None = None,
    hub_timeout_s: float = 30,
    limits: BuildLimits | None = None,
    closed_for: Callable[[], str] = lambda: "",
    on_end: Callable[[Launch], None] = lambda _: None,
    named_servers: bool = False,
    named_server_limit: int = 0,
    **launch_settings: Any,
) -> AsyncIterator[Rig]:
    """Start one; afterwards no task of it is left, and none has crashed."""
    tasks, metrics, builder = Tasks(), Metrics(), FakeBuilder()
    limits = limits or BuildLimits(timeout_s=30, grace_s=0.05)
    settings = LaunchSettings.model_validate({"retries": 0, **launch_settings})
    connector = aiohttp.TCPConnector(limit=0)
    with tempfile.TemporaryDirectory() as directory:
        logs = make_logs(Path(directory) / "build-logs")
        async with FakeHub() as hub, aiohttp.ClientSession(connector=connector) as http:
            client = HubClient(http, hub.url, TOKEN, hub_timeout_s)
            started: Rig

            def clock() -> float:
                return time.monotonic() + started.skew

            builds = Builds(builder, limits, logs, tasks=tasks, metrics=metrics, clock=clock)
            sessions = SessionLimits(session_limit, per_repo)
            servers = Servers(
                client,
                http,
                settings,
                sessions,
                public_url=hub.url,
                named_server_limit=named_server_limit,
                tasks=tasks,
                metrics=metrics,
                clock=clock,
            )
            launches = Launches(
                builds,
                servers,
                settings,
                hook=Hook(settings.hook),
                closed_for=closed_for,
                on_end=on_end,
                named_servers=named_servers,
                tasks=tasks,
                metrics=metrics,
                clock=clock,
            )
            started = Rig(http, hub, client, builder, builds, tasks, metrics, logs, launches)
            try:
                yield started
            finally:
                await launches.close()
                await tasks.close()
            assert not tasks.crashes
            assert not builder.running
