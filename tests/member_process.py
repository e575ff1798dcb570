"""A member of its own for tests: ``manybinder member`` as a real process with its Hub, and a browser that visits it."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil
import yaml
from yarl import URL

from contract import sse
from contract.events import BuildEvent, parse_event
from manybinder.ports import free_ports

_PAGE_CONFIG = re.compile(r"window\.pageConfig\s*=\s*(\{.*?\});", re.DOTALL)
_XSRF = re.compile(r'name="_xsrf" value="([^"]+)"')


class MemberProcess:
    """A member that runs, with its Hub; ``url`` and ``hub_url`` end with a slash."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, hub_url: str, data_dir: Path) -> None:
        self.process, self.url, self.hub_url, self.data_dir = process, url, hub_url, data_dir

    def logs(self) -> str:
        """What its processes have said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted((self.data_dir / "logs").glob("*.log")))


@contextlib.contextmanager
def member_process(data_dir: Path, tree: dict[str, Any], deadline_s: float = 300) -> Iterator[MemberProcess]:
    """Start one, with settings over the least that there must be, and end it with all that it has started."""
    api, proxy, hub, proxy_api = free_ports(4)
    managed = {"hub_port": hub, "proxy_port": proxy, "proxy_api_port": proxy_api, **tree.pop("managed", {})}
    proxy = managed["proxy_port"]
    settings = {
        "schema": 1,
        "name": "member-1",
        "listen": {"port": api},
        "public_url": f"http://127.0.0.1:{api}/",
        "data_dir": str(data_dir),
        "hub": {"url": f"http://127.0.0.1:{hub}/", "public_url": f"http://127.0.0.1:{proxy}/", "managed": managed},
        **tree,
    }
    data_dir.mkdir(parents=True, exist_ok=True)
    config = data_dir.parent / f"{data_dir.name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    with (data_dir.parent / f"{data_dir.name}.log").open("w") as log:
        argv = [sys.executable, "-m", "manybinder", "member", "--config", str(config)]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    member = MemberProcess(process, f"http://127.0.0.1:{api}/", f"http://127.0.0.1:{proxy}/", data_dir)
    started: list[psutil.Process] = []
    try:
        end = time.monotonic() + deadline_s
        while not _is_ready(member.url):
            if time.monotonic() > end or process.poll() is not None:
                raise AssertionError((data_dir.parent / f"{data_dir.name}.log").read_text() + member.logs())
            time.sleep(0.2)
        yield member
        started = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(150)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, f"left running: {alive}"


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}readyz", timeout=10) as answer:  # noqa: S310 - of ours
            return bool(answer.status == 200)
    except OSError:
        return False


class Browser:
    """Keeps cookies and follows redirects; use as an asynchronous context manager."""

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"Accept": "text/html"},
            # As browsers do: an address is what it was.
            requote_redirect_url=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def open(self, url: str, **options: Any) -> tuple[int, URL, str]:
        """Status, address and text of the page that an address leads to."""
        async with self.http.get(URL(url, encoded=True), **options) as response:
            return response.status, response.url, await response.text()

    async def log_in(self, url: str, user: str, password: str) -> tuple[int, URL, str]:
        """Open an address that leads to the Hub's login page, log in, and arrive."""
        status, at, text = await self.open(url)
        assert (status, at.path) == (200, "/hub/login"), (status, at, text)
        xsrf = _XSRF.search(text)
        assert xsrf, text
        form = {"username": user, "password": password, "_xsrf": xsrf[1]}
        async with self.http.post(at, data=form) as response:
            return response.status, response.url, await response.text()

    async def launch(self, member: str, spec: str, deadline_s: float = 300) -> list[BuildEvent]:
        """Launch as the page does that is shown; the last event is final."""
        status, _, text = await self.open(f"{member}v2/{spec}")
        found = _PAGE_CONFIG.search(text)
        assert status == 200, text
        assert found, text
        return await events(
            self.http, f"{member}build/{spec}?build_token={json.loads(found[1])['buildToken']}", deadline_s
        )


async def events(
    http: aiohttp.ClientSession, url: str, deadline_s: float = 300, headers: dict[str, str] | None = None
) -> list[BuildEvent]:
    """All events of a stream."""
    found, parser = [], sse.Parser()
    wanted = {"Accept": sse.CONTENT_TYPE, **(headers or {})}
    async with (
        asyncio.timeout(deadline_s),
        http.get(URL(url, encoded=True), headers=wanted, timeout=aiohttp.ClientTimeout(total=None)) as response,
    ):
        assert response.status == 200, await response.text()
        async for chunk in response.content.iter_any():
            found += [parse_event(item.data) for item in parser.feed(chunk)]
    return found
