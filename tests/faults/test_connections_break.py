"""The connection between gateway and member breaks in the middle of a build, and both of them live."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import yaml
from federation import Federation, free_port, git_spec
from gitrepos import make_repo
from gitserver import GitServer
from launching import launch, until_all_available, works

from contract.events import BuildEvent
from tests.gate import Gate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Link:
    """A TCP proxy before a member, whose open connections can be broken."""

    target: int
    port: int = 0
    streams: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)
    frozen: asyncio.Event = field(default_factory=asyncio.Event)
    server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self.server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End, with all connections."""
        if self.server is not None:
            self.server.close()
        self.reset()

    def reset(self) -> None:
        """Break all connections at both ends."""
        for pair in self.streams:
            for writer in pair:
                writer.transport.abort()

    def end(self) -> None:
        """End all connections as if the other side had finished."""
        for pair in self.streams:
            for writer in pair:
                writer.close()

    def freeze(self) -> None:
        """Let nothing through any more on connections that are open now; later ones are as they should be."""
        self.frozen.set()
        self.frozen = asyncio.Event()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        pair = (writer, other_writer)
        self.streams.add(pair)
        try:
            await asyncio.gather(_pump(reader, other_writer, self.frozen), _pump(other_reader, writer, self.frozen))
        except OSError:
            pass
        finally:
            self.streams.discard(pair)
            for each in pair:
                each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frozen: asyncio.Event) -> None:
    while data := await reader.read(65536):
        if frozen.is_set():
            continue
        writer.write(data)
        await writer.drain()
    writer.close()


@dataclass
class Linked:
    """A gateway of its own, which reaches the members through links."""

    federation: Federation
    links: dict[str, Link]


@pytest.fixture
async def linked(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, tmp_path: Path
) -> AsyncIterator[Linked]:
    """A second gateway with the first one's keys, and links before the members."""
    await until_all_available(federation, http, git_server)
    settings = yaml.safe_load((federation.data_dir / "gateway.yaml").read_text())
    links = {}
    async with contextlib.AsyncExitStack() as stack:
        for member in settings["members"]:
            port = urlsplit(member["url"]).port
            assert port is not None
            link = links[member["name"]] = Link(port)
            await link.start()
            stack.push_async_callback(link.stop)
            member["url"] = f"http://127.0.0.1:{link.port}/"
        port = free_port()
        settings |= {
            "listen": {"host": "127.0.0.1", "port": port},
            "public_url": f"http://127.0.0.1:{port}/",
            "data_dir": str(tmp_path / "gateway"),
        }
        settings["launch"]["silence_timeout"] = "40s"
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(settings))
        with (tmp_path / "gateway.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "manybinder", "gateway", "--config", str(path), stderr=log
            )
        second = replace(federation, url=f"http://127.0.0.1:{port}")
        try:
            await _serving(second, http)
            yield Linked(second, links)
        finally:
            process.terminate()
            async with asyncio.timeout(60):
                assert await process.wait() == 0


async def _serving(gateway: Federation, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{gateway.url}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("how", "said"),
    [("reset", "broke the stream"), ("end", " the stream"), ("freeze", "has fallen silent for 40 s")],
)
async def test_a_stream_that_breaks_in_the_middle_of_a_build_goes_on_elsewhere(
    linked: Linked, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate, how: str, said: str
) -> None:
    files = {"requirements.txt": "six\n", "postBuild": gate.post_build, "how.txt": how}
    make_repo(git_server.root, f"link-{how}", files)
    broken: list[str] = []

    async def break_it(event: BuildEvent) -> None:
        if "begun" in event.message and not broken:
            broken.append(event.fields["member"])
            getattr(linked.links[broken[0]], how)()
            await gate.open()

    events = await launch(linked.federation, http, git_spec(git_server.url(f"link-{how}")), break_it)
    (told,) = [event for event in events if event.fields.get("reason")]
    assert told.message.startswith(f"{broken[0]} ")
    assert said in told.message
    assert events[-1].fields["member"] != broken[0]
    assert await works(http, events) == "on\n"
