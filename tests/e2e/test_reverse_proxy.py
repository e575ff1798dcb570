"""A gateway and a member behind nginx, over TLS, with the configuration of docs/reverse-proxy.md."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest
import yaml
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from federation import PAGE_CONFIG, git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer
from nginxserver import Nginx
from notebook import Notebook
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, parse_event
from contract.signatures import private_pem, public_pem
from manybinder.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Service = Literal["gateway", "member"]
BOTH = pytest.mark.parametrize("service", ["gateway", "member"])

#: Whom the two services ban.
BANNED = "127.0.0.9"
LAUNCHES = 3


@dataclass
class Site:
    """What runs behind nginx, and nginx."""

    nginx: Nginx
    processes: list[subprocess.Popen[bytes]]
    place: Path

    @property
    def sessions_url(self) -> str:
        """Where sessions are."""
        return self.nginx.urls[2]

    def url(self, service: Service) -> str:
        """Where the service is."""
        return self.nginx.urls[0 if service == "gateway" else 1]

    async def events(
        self, service: Service, visitor: aiohttp.ClientSession, spec: str, *, token: bool = True, **headers: str
    ) -> AsyncIterator[BuildEvent]:
        """The events of a launch, as a page gets them (or a script, without a token)."""
        query = f"?build_token={await self.build_token(service, visitor, spec)}" if token else ""
        url = URL(f"{self.url(service)}build/{spec}{query}", encoded=True)
        async with visitor.get(url, headers={"Accept": sse.CONTENT_TYPE, **headers}) as response:
            assert response.status == 200, await response.text()
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                for item in parser.feed(chunk):
                    yield parse_event(item.data)

    async def launch(
        self, service: Service, visitor: aiohttp.ClientSession, spec: str, **more: Any
    ) -> list[BuildEvent]:
        """All of them."""
        async with asyncio.timeout(300):
            return [item async for item in self.events(service, visitor, spec, **more)]

    async def build_token(self, service: Service, visitor: aiohttp.ClientSession, spec: str) -> str:
        """The token of a launch page."""
        async with visitor.get(URL(f"{self.url(service)}v2/{spec}", encoded=True), raise_for_status=True) as response:
            match = PAGE_CONFIG.search(await response.text())
        assert match
        return str(json.loads(match[1])["buildToken"])

    def log(self) -> str:
        """What all have said."""
        return self.nginx.log() + "".join(path.read_text() for path in sorted(self.place.rglob("*.log")))


def settings(place: Path, nginx: Nginx, ports: tuple[int, ...], cache: Path) -> None:
    """Write ``gateway.yaml`` and ``member.yaml``, as an operator who follows the page does."""
    gateway_url, member_url, sessions_url = nginx.urls
    gateway_port, api, proxy, hub, proxy_api = ports
    launch_key, report_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    for name, key in (("launch", launch_key), ("report", report_key)):
        (place / f"{name}.pem").write_text(private_pem(key))
        (place / f"{name}.pub.pem").write_text(public_pem(key.public_key()))
    rate = {"launches": LAUNCHES, "per": "100h", "exempt": []}
    common: dict[str, Any] = {
        "schema": 1,
        "providers": {"git": {"allow_private_addresses": True}},
    }
    gateway = {
        **common,
        "public_url": gateway_url,
        "listen": {"port": gateway_port, "trusted_proxies": ["127.0.0.1/32"]},
        "data_dir": str(place / "gateway"),
        "signing_key_file": str(place / "launch.pem"),
        "admission": {
            "rate_limit": rate,
            "bans": [{"kind": "network", "value": BANNED}],
        },
        "members": [
            {
                "name": "member-1",
                "url": member_url,
                "origins": [sessions_url.rstrip("/")],
                "report_key_file": str(place / "report.pub.pem"),
            }
        ],
    }
    member = {
        **common,
        "name": "member-1",
        "public_url": member_url,
        "listen": {"port": api, "trusted_proxies": ["127.0.0.1/32"]},
        "data_dir": str(place / "member"),
        "hub": {
            "url": f"http://127.0.0.1:{hub}/",
            "public_url": sessions_url,
            "managed": {"hub_port": hub, "proxy_port": proxy, "proxy_api_port": proxy_api},
        },
        "builder": {"cache_dir": str(cache)},
        "admission": {"rate_limit": rate, "bans": [{"kind": "network", "value": BANNED}]},
        "federation": {
            "report_url": f"{gateway_url}api/v1/reports",
            "launch_keys_files": [str(place / "launch.pub.pem")],
            "report_key_file": str(place / "report.pem"),
        },
    }
    (place / "gateway.yaml").write_text(yaml.safe_dump(gateway))
    (place / "member.yaml").write_text(yaml.safe_dump(member))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests of this file."""
    place = tmp_path_factory.mktemp("behind-nginx")
    ports = free_ports(8)
    behind, shown = ports[:5], ports[5:]
    nginx = Nginx(place / "nginx", (shown[0], shown[1], shown[2]), behind[:3])
    settings(place, nginx, tuple(behind), shared_cache_dir(tmp_path_factory.getbasetemp()))
    made = Site(nginx, [], place)
    asyncio.run(nginx.start())
    try:
        for service in ("gateway", "member"):
            with (place / f"{service}.log").open("wb") as log:
                argv = [sys.executable, "-m", "manybinder", service, "--config", str(place / f"{service}.yaml")]
                # What they ask of each other passes by nginx too.
                environ = {**os.environ, "SSL_CERT_FILE": str(nginx.ca)}
                made.processes.append(subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, env=environ))
        asyncio.run(_until_ready(made))
        yield made
    finally:
        started = [
            child for process in made.processes for child in psutil.Process(process.pid).children(recursive=True)
        ]
        for process in made.processes:
            process.send_signal(signal.SIGTERM)
        for process in made.processes:
            process.wait(150)
        asyncio.run(nginx.stop())
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, f"left running: {alive}"


async def _until_ready(site: Site) -> None:
    """Until the gateway believes that the member can launch."""
    deadline = time.monotonic() + 300
    async with site.nginx.visitor() as visitor:
        while True:
            async with visitor.get(f"{site.url('gateway')}api/v1/federation") as response:
                members = (await response.json())["members"] if response.status == 200 else []
            if any(member["available"] and member["capacity"] for member in members):
                return
            assert time.monotonic() < deadline, site.log()
            assert all(process.poll() is None for process in site.processes), site.log()
            await asyncio.sleep(0.3)


@pytest.fixture(scope="module")
def spec(git_server: GitServer) -> str:
    """A repository that needs nothing."""
    make_repo(git_server.root, "behind-nginx", {"README.md": "plain\n"})
    return git_spec(git_server.url("behind-nginx"))


@BOTH
async def test_a_kernel_computes_through_nginx_and_the_login_cookie_is_for_tls_alone(
    site: Site, spec: str, service: Service
) -> None:
    async with site.nginx.visitor() as visitor:
        fields = ready(await site.launch(service, visitor, spec))
        assert fields["url"].startswith(site.sessions_url)
        assert fields["binder_launch_host"] == site.url(service)
        assert await Notebook(visitor, fields["url"], fields["token"]).run("print(6 * 7)") == "42\n"
        # More than nginx takes by default.
        body = io.BytesIO(json.dumps({"type": "file", "format": "text", "content": "x" * 3_000_000}).encode())
        headers = {"Authorization": f"token {fields['token']}"}
        async with visitor.put(f"{fields['url']}api/contents/big.txt", data=body, headers=headers) as response:
            assert response.status == 201
        async with visitor.get(f"{fields['url']}lab?token={fields['token']}") as response:
            assert response.status == 200
            cookies = [cookie.lower() for cookie in response.headers.getall("Set-Cookie")]
        (login,) = (cookie for cookie in cookies if cookie.startswith("username-"))
        assert "; secure" in login


async def test_a_page_of_another_origin_opens_no_websocket_with_a_visitors_cookies(site: Site, spec: str) -> None:
    # By the address alone, as a browser does it: cookies of a host without a name are kept on demand only.
    async with site.nginx.visitor(cookies=aiohttp.CookieJar(unsafe=True)) as visitor:
        fields = ready(await site.launch("member", visitor, spec))
        kernel = await Notebook(visitor, fields["url"], fields["token"]).start_kernel()
        async with visitor.get(f"{fields['url']}lab?token={fields['token']}") as response:
            assert response.status == 200
        channels = f"{fields['url']}api/kernels/{kernel}/channels"
        for origin in ("https://evil.example", site.url("member").rstrip("/"), "null"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await visitor.ws_connect(channels, origin=origin)
            assert refused.value.status == 403
        parts = urlsplit(site.sessions_url)
        async with visitor.ws_connect(channels, origin=f"{parts.scheme}://{parts.netloc}") as socket:
            assert not socket.closed


@BOTH
async def test_events_are_not_held_back(site: Site, git_server: GitServer, service: Service) -> None:
    """The build goes on only once its first words have arrived here."""
    arrived = asyncio.Event()

    async def gate(_: web.Request) -> web.Response:
        await arrived.wait()
        return web.Response(text="go on")

    app = web.Application()
    app.router.add_get("/gate", gate)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        ask = f"urllib.request.urlopen('http://127.0.0.1:{runner.addresses[0][1]}/gate', timeout=200).read()"
        script = f'#!/bin/sh\necho now or never\npython3 -c "import urllib.request; print({ask})"\n'
        name = f"gated-{service}"
        make_repo(git_server.root, name, {"postBuild": script})
        async with (
            site.nginx.visitor() as visitor,
            asyncio.timeout(400),
            aclosing(site.events(service, visitor, git_spec(git_server.url(name)))) as events,
        ):
            told = []
            log_url = ""
            async for item in events:
                told.append(item)
                log_url = log_url or item.fields.get("log_url", "")
                if "now or never" in item.message:
                    assert log_url.startswith(site.url("member"))
                    async with visitor.get(log_url) as log:
                        # The log that is being written, likewise.
                        while b"now or never" not in await log.content.readline():
                            assert not log.content.at_eof()
                    arrived.set()
            assert "go on" in "".join(item.message for item in told)
            ready(told)
    finally:
        await runner.cleanup()


@BOTH
async def test_a_visitor_is_who_has_come_to_nginx_whatever_they_claim(site: Site, spec: str, service: Service) -> None:
    async with site.nginx.visitor("127.0.0.6") as visitor:
        forged = {"X-Forwarded-For": "192.0.2.1", "X-Real-IP": "192.0.2.1"}
        fields = ready(await site.launch(service, visitor, spec, **forged))
        assert fields["binder_client_ip"] == "127.0.0.6"
        environ = "import os; print(os.environ['BINDER_CLIENT_IP'])"
        assert await Notebook(visitor, fields["url"], fields["token"]).run(environ) == "127.0.0.6\n"


@BOTH
async def test_rates_and_bans_are_the_visitors_own(site: Site, service: Service) -> None:
    nowhere = git_spec("http://127.0.0.1:9/nowhere")

    async def last(address: str, **headers: str) -> BuildEvent:
        async with site.nginx.visitor(address) as visitor:
            return (await site.launch(service, visitor, nowhere, token=False, **headers))[-1]

    # Another address each time, if it were believed.
    claims = [{"X-Forwarded-For": f"192.0.2.{n}"} for n in range(LAUNCHES + 1)]
    told = [await last("127.0.0.7", **headers) for headers in claims]
    limited = [event.fields.get("status_code") == 429 for event in told]
    assert limited == [False] * LAUNCHES + [True]
    assert (await last("127.0.0.8", **{"X-Forwarded-For": "127.0.0.7"})).fields.get("status_code") != 429

    banned = await last(BANNED, **{"X-Forwarded-For": "192.0.2.1"})
    assert (banned.phase, banned.fields["status_code"]) == (Phase.FAILED, 403)
    assert (await last("127.0.0.8", **{"X-Forwarded-For": BANNED})).fields.get("status_code") != 403


@BOTH
async def test_the_services_are_reached_by_tls_alone(site: Site, service: Service) -> None:
    async with site.nginx.visitor() as visitor:
        async with visitor.get(site.url(service)) as response:
            page = await response.text()
            assert response.status == 200
        assert "http://127.0.0.1" not in page
        async with visitor.get(f"{site.url(service)}health") as response:
            assert response.status == 200
