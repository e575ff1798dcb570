"""The Hub's routes to sessions, in the Traefik that a member runs."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from traitlets import import_item
from traitlets.config import PyFileConfigLoader

from manybinder.ports import free_ports
from member.hub import ended
from member.hub.proxy import SessionProxy
from member.processes import processes
from tests.member.member_harness import hub_settings

ROUTE = "/user/org-repo-abc/"


@dataclass
class Routed:
    """A proxy with one route, to a server that is not there: along it one gets a 502, without it a 404."""

    proxy: SessionProxy
    traefik: asyncio.subprocess.Process
    address: str

    async def status(self) -> int:
        async with aiohttp.ClientSession() as http, http.get(self.address) as response:
            return response.status


@pytest.fixture
async def routed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Routed]:
    settings = hub_settings(tmp_path / "data")
    specs = {spec.name.partition("/")[2]: spec for spec in processes(settings, tmp_path / "member.yaml")}
    monkeypatch.setenv("MANYBINDER_HUB_CONFIG", specs["hub"].env["MANYBINDER_HUB_CONFIG"])
    monkeypatch.setattr(ended, "SESSIONS", ended.SESSIONS)
    config = PyFileConfigLoader(specs["hub"].argv[-1]).load_config()
    traefik = await asyncio.create_subprocess_exec(*specs["proxy"].argv)
    try:
        proxy = import_item(config.JupyterHub.proxy_class)(config=config, public_url=config.JupyterHub.bind_url)
        await proxy.add_route(ROUTE, f"http://127.0.0.1:{free_ports(1)[0]}", {})
        yield Routed(proxy, traefik, f"{settings.hub.public_url}{ROUTE.removeprefix('/')}")
    finally:
        traefik.send_signal(signal.SIGCONT)
        traefik.terminate()
        await traefik.wait()


async def test_a_route_is_deleted_when_nobody_is_sent_along_it_any_more(routed: Routed) -> None:
    assert await routed.status() == 502
    routed.traefik.send_signal(signal.SIGSTOP)
    deleting = asyncio.create_task(routed.proxy.delete_route(ROUTE))
    done, _ = await asyncio.wait([deleting], timeout=0.5)
    assert not done, "it was deleted before Traefik could know"
    routed.traefik.send_signal(signal.SIGCONT)
    await deleting
    assert await routed.status() == 404


async def test_a_route_that_traefik_keeps_does_not_keep_a_server_from_its_end(
    routed: Routed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    routed.proxy.check_route_timeout = 1
    routed.proxy.dynamic_config_file = str(tmp_path / "unread.toml")
    await routed.proxy.delete_route(ROUTE)
    assert await routed.status() == 502
    assert f"Traefik keeps the route {ROUTE}" in caplog.text
