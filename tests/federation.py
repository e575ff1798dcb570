"""A whole federation for tests: ``manybinder up`` as a real process, with what a visitor does to it."""

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import psutil
import yaml
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, parse_event
from manybinder.plan import merged
from manybinder.ports import free_ports

PAGE_CONFIG = re.compile(r"window\.pageConfig\s*=\s*(\{.*?\});", re.DOTALL)


def free_port() -> int:
    """A port that was free a moment ago, and that no outgoing connection takes before it is used."""
    (port,) = free_ports(1)
    return port


@dataclass
class Federation:
    """A running ``manybinder up``."""

    process: subprocess.Popen[str]
    url: str
    data_dir: Path

    @classmethod
    def start(cls, data_dir: Path, *arguments: str, deadline_s: float = 300) -> "Federation":
        """Start one and wait for its ready line."""
        port = free_port()
        data_dir.mkdir(parents=True, exist_ok=True)
        with (data_dir / "up.log").open("w") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "manybinder",
                    "up",
                    "--port",
                    str(port),
                    "--data-dir",
                    str(data_dir),
                    *arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = _read_line(process, deadline_s)
        if line.strip() != f"manybinder is ready at http://127.0.0.1:{port}":
            process.kill()
            process.communicate()
            raise AssertionError(f"up said {line!r}; its log:\n{(data_dir / 'up.log').read_text()}")
        return cls(process, f"http://127.0.0.1:{port}", data_dir)

    def stop(self) -> None:
        """End it as an operator does, and see that it goes with everything it started."""
        started = self.processes()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) == 0, (self.data_dir / "up.log").read_text()
        assert self.process.stdout is not None
        self.process.stdout.close()
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive, f"left running: {alive}"

    def processes(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def commands(self) -> list[tuple[psutil.Process, list[str]]]:
        """Every process below it with its command line."""
        found = []
        for process in self.processes():
            # One that has ended meanwhile has none any more.
            with contextlib.suppress(psutil.Error):
                found.append((process, process.cmdline()))
        return found

    def member_api(self, name: str) -> psutil.Process:
        """The API process of a member."""
        for process, command in self.commands():
            if "--only" in command and any(f"{name}.yaml" in argument for argument in command):
                return process
        raise AssertionError(f"no API process of {name} runs")

    async def members(self, http: aiohttp.ClientSession) -> dict[str, dict[str, Any]]:
        """What the gateway believes of each member."""
        async with http.get(f"{self.url}/api/v1/federation", raise_for_status=True) as response:
            return {member["name"]: member for member in (await response.json())["members"]}

    async def build_token(self, http: aiohttp.ClientSession, spec: str) -> str:
        """The token that a launch page carries."""
        async with http.get(URL(f"{self.url}/v2/{spec}", encoded=True), raise_for_status=True) as response:
            match = PAGE_CONFIG.search(await response.text())
        assert match, "the launch page has no pageConfig"
        return str(json.loads(match[1])["buildToken"])

    async def events(
        self, http: aiohttp.ClientSession, spec: str, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[tuple[str, BuildEvent], None]:
        """Launch as a page does: token, then the stream's events with their ids."""
        token = await self.build_token(http, spec)
        url = URL(f"{self.url}/build/{spec}?build_token={token}", encoded=True)
        async with http.get(
            url, headers={"Accept": sse.CONTENT_TYPE, **(headers or {})}, timeout=aiohttp.ClientTimeout(total=None)
        ) as response:
            assert response.status == 200, await response.text()
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                for item in parser.feed(chunk):
                    yield item.id, parse_event(item.data)

    async def launch(self, http: aiohttp.ClientSession, spec: str, deadline_s: float = 170) -> list[BuildEvent]:
        """All events of a launch; the last one is final."""
        events = []
        async with asyncio.timeout(deadline_s):
            async for _, item in self.events(http, spec):
                events.append(item)
        assert events, "the stream was empty"
        assert events[-1].is_final, f"the stream ended without a final event: {events[-1]}"
        assert sum(item.is_final for item in events) == 1
        return events


@contextlib.contextmanager
def gateway_beside(federation: Federation, data_dir: Path, changes: Mapping[str, Any]) -> Iterator[str]:
    """Another gateway before the same members, with other settings (over each section); gives its URL."""
    settings = yaml.safe_load((federation.data_dir / "gateway.yaml").read_text())
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {"listen": {"port": port}, "public_url": f"{url}/", "data_dir": str(data_dir)}
    config = data_dir / "gateway.yaml"
    config.write_text(yaml.safe_dump(merged(merged(settings, own), changes)))
    with (data_dir / "gateway.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "manybinder", "gateway", "--config", str(config)], stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, f"{url}/readyz", log.name)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: str, deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=deadline_s):  # noqa: S310
            return
        assert process.poll() is None, Path(log).read_text()
        assert time.monotonic() < end, Path(log).read_text()
        time.sleep(0.05)


def git_spec(url: str, ref: str = "HEAD") -> str:
    """The spec of any Git repository."""
    return f"git/{quote(url, safe='')}/{quote(ref, safe='')}"


def ready(events: list[BuildEvent]) -> dict[str, Any]:
    """The fields of the ready event that a launch must have ended in."""
    last = events[-1]
    assert last.phase == Phase.READY, "".join(item.message for item in events[-30:])
    return dict(last.fields)


def _read_line(process: subprocess.Popen[str], deadline_s: float) -> str:
    assert process.stdout is not None
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.2)[0]:
            return process.stdout.readline()
        if process.poll() is not None:
            return process.stdout.read()
    return ""


def shared_cache_dir(base: Path) -> Path:
    """A package cache for one test run, all its workers, or one that outlives it where the environment names it."""
    named = os.environ.get("MANYBINDER_TEST_CACHE")
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return Path(named) if named else run / "package-cache"
