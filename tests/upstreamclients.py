"""The clients that BinderHub documents, as their users run them: curl, its npm package, a browser's EventSource."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import npm
from tests.chromium import chromium

NPM_CLIENT = "@jupyterhub/binderhub-client@0.5.0"

_SCRIPT = Path(__file__).parent / "faults" / "npm_client.mjs"

#: What the author of a page of another site writes, who has read no more than BinderHub's documentation.
_EVENT_SOURCE = """(url) => new Promise((done) => {
  const events = [];
  const source = new EventSource(url);
  let opened = 0;
  source.onopen = () => { opened += 1; };
  source.onmessage = (message) => events.push(JSON.parse(message.data));
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) done({ events, opened });
  };
})"""


async def curl(url: str, *arguments: str, deadline_s: float = 120) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """``curl -N`` on a build's address: the events, and the answer's headers by their lower-case names."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl on PATH")
    process = await asyncio.create_subprocess_exec(
        *(program, "--silent", "--show-error", "--no-buffer", "--include", "--noproxy", "*"),
        *("-H", "Accept: text/event-stream", *arguments, url),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), deadline_s)
    assert process.returncode == 0
    head, _, body = output.decode().partition("\r\n\r\n")
    status, *lines = head.splitlines()
    assert status.split()[1] == "200", head
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in body.splitlines() if line.startswith("data: ")]
    return events, headers


def install_npm_client(directory: Path) -> Path:
    """A directory in which the npm client is installed; skips the test where it cannot be."""
    npm.install(NPM_CLIENT, directory)
    return directory


async def npm_client(
    directory: Path, service: str, spec: str, token: str = "", deadline_s: float = 500
) -> list[dict[str, Any]]:
    """The events of a launch at a service (its URL, with an end slash) by the npm client.

    It takes an early end of its stream for a failure.
    """
    process = await asyncio.create_subprocess_exec(
        *("node", str(_SCRIPT), f"{service}build/", spec, *([token] if token else [])),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), deadline_s)
    return [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]


async def event_source(address: str, url: str) -> tuple[list[dict[str, Any]], int]:
    """The events that the EventSource of a page at an address hears until it is told to stop.

    Beside them, how often it has connected.
    """
    async with chromium() as browser:
        page = await browser.new_page()
        page.set_default_timeout(120_000)
        await page.goto(address)
        told = await page.evaluate(_EVENT_SOURCE, url)
    return told["events"], told["opened"]
