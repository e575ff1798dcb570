"""Replicas of the gateway that die or are replaced, and a Redis that fails: no launch is lost."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil
import pytest
import upstreamclients
import yaml
from federation import Federation, git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer
from launching import until_all_available, works
from playwright.async_api import expect
from redisserver import RedisServer
from thebe import Thebe, install, served
from upstreamclients import install_npm_client
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, parse_event
from contract.launches import parse_event_id
from tests.chromium import chromium
from tests.faults.conftest import GATEWAY, MEMBERS
from tests.gate import Gate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SLOW = {"requirements.txt": "six\n", "postBuild": "#!/bin/sh\necho begun\nsleep 8\necho done\n"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Three replicas in all tests, and in those in which one is killed two as well."""
    if "replicated" in metafunc.fixturenames:
        counts = (3, 2) if metafunc.function.__name__.startswith("test_a_replica_is_killed") else (3,)
        metafunc.parametrize("replicated", counts, indirect=True, scope="module")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The store of the replicas, which tests ill-treat."""
    server = asyncio.run(RedisServer(tmp_path_factory.mktemp("redis")).start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A site of somebody else's whose pages may launch here: its directory and its origin."""
    directory = tmp_path_factory.mktemp("site")
    with served(directory) as origin:
        yield directory, origin


@pytest.fixture(scope="module")
def replicated(
    tmp_path_factory: pytest.TempPathFactory,
    redis: RedisServer,
    site: tuple[Path, str],
    request: pytest.FixtureRequest,
) -> Iterator[Federation]:
    """Some replicas of a gateway behind one port, and three members, each of real processes."""
    config = tmp_path_factory.mktemp("config")
    cache = shared_cache_dir(tmp_path_factory.getbasetemp())
    security = {"cors_allow_origin": site[1]}
    gateway = {
        **GATEWAY,
        "redis": {"url": redis.url, "prefix": f"{request.param}-replicas:"},
        "security": {**security, "require_build_token": False},
    }
    members = {**MEMBERS, "builder": {"cache_dir": str(cache)}, "security": security}
    (config / "gateway.yaml").write_text(yaml.safe_dump(gateway))
    (config / "members.yaml").write_text(yaml.safe_dump(members))
    federation = Federation.start(
        tmp_path_factory.mktemp("replicated") / "up",
        *("--members", "3", "--gateways", str(request.param)),
        *("--gateway-config", str(config / "gateway.yaml"), "--member-config", str(config / "members.yaml")),
        deadline_s=300,
    )
    yield federation
    federation.stop()


@pytest.fixture(autouse=True)
async def whole(replicated: Federation, redis: RedisServer, http: aiohttp.ClientSession, git_server: GitServer) -> None:
    """Each test begins with all replicas and members, and with a Redis that answers."""
    if redis.process is None:
        await redis.start()
    redis.thaw()
    await until_all_available(replicated, http, git_server)
    async with asyncio.timeout(180):
        while not await _all_there(replicated):
            await asyncio.sleep(0.2)


async def _all_there(federation: Federation) -> bool:
    # Each time by a connection of its own, for that is what goes to one replica or another.
    with contextlib.suppress(aiohttp.ClientError, KeyError):
        async with aiohttp.ClientSession() as http, http.get(f"{federation.url}/api/v1/federation") as response:
            wire = await response.json()
            expected = len(list(federation.data_dir.glob("gateway-*.yaml")))
            return len(wire["replicas"]) == expected and wire["degraded_since"] is None
    return False


def replicas(federation: Federation) -> list[psutil.Process]:
    """The processes of the gateway's replicas."""
    found = [
        process
        for process, command in federation.commands()
        if "gateway" in command and any(Path(argument).name.startswith("gateway-") for argument in command)
    ]
    assert found
    return found


def serving(federation: Federation, client_port: int) -> psutil.Process:
    """The replica at the other end of a connection."""
    for process in replicas(federation):
        with contextlib.suppress(psutil.Error):
            if any(c.raddr and c.raddr.port == client_port for c in process.net_connections("tcp")):
                return process
    raise AssertionError(f"no replica has a connection with port {client_port}")


Act = Callable[[BuildEvent, psutil.Process], Awaitable[None]]


@dataclass
class Script:
    """A plain script that launches, and resumes as the standard says: with Last-Event-ID, at a new connection."""

    federation: Federation
    spec: str
    act: Act | None = None
    events: list[BuildEvent] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    connections: int = 0

    async def run(self) -> list[BuildEvent]:
        """All events of the launch."""
        async with aiohttp.ClientSession() as http:
            token = await self.federation.build_token(http, self.spec)
        async with asyncio.timeout(600):
            while not (self.events and self.events[-1].is_final):
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    await self._connect(token)
                await asyncio.sleep(0.3)
        assert [event.is_final for event in self.events].count(True) == 1
        parsed = [item for item in map(parse_event_id, self.ids) if item is not None]
        assert len(parsed) == len(self.ids)
        assert len({launch for launch, _ in parsed}) == 1
        numbers = [n for _, n in parsed]
        assert numbers == sorted(set(numbers))
        return self.events

    async def _connect(self, token: str) -> None:
        headers = {"Accept": sse.CONTENT_TYPE, **({"Last-Event-ID": self.ids[-1]} if self.ids else {})}
        url = URL(f"{self.federation.url}/build/{self.spec}?build_token={token}", encoded=True)
        async with (
            aiohttp.ClientSession() as http,
            http.get(url, headers=headers, timeout=aiohttp.ClientTimeout(total=None, sock_read=90)) as response,
        ):
            assert response.status == 200, await response.text()
            self.connections += 1
            assert response.connection is not None
            assert response.connection.transport is not None
            replica = serving(self.federation, response.connection.transport.get_extra_info("sockname")[1])
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                for item in parser.feed(chunk):
                    self.events.append(parse_event(item.data))
                    self.ids.append(item.id)
                    if self.act is not None:
                        await self.act(self.events[-1], replica)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FETCHING, Phase.BUILDING, Phase.BUILT, Phase.LAUNCHING])
async def test_a_replica_is_killed_at_each_phase_and_the_stream_resumes_at_another(
    replicated: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate, phase: Phase
) -> None:
    # Another one for each number of replicas, so that there is something to build.
    name = f"resumed-{phase}-{replicated.data_dir.parent.name}"
    files = {"requirements.txt": "six\n", "postBuild": gate.post_build, "name.txt": name}
    make_repo(git_server.root, name, files)
    killed: list[int] = []

    async def kill(event: BuildEvent, replica: psutil.Process) -> None:
        if event.phase == phase and not killed:
            killed.append(replica.pid)
            replica.kill()

    script = Script(replicated, git_spec(git_server.url(name)), kill)

    async def open_gate() -> None:
        # Who resumes before the image is there finds its build in the middle.
        while script.connections < 2 and phase not in (Phase.BUILT, Phase.LAUNCHING):
            await asyncio.sleep(0.05)
        await gate.open()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(open_gate())
        launch = tasks.create_task(script.run())
    events = launch.result()
    assert killed
    assert script.connections > 1
    # It was taken up where it was, at the same member, and begun nowhere else.
    assert {event.fields["member"] for event in events if event.fields.get("member")} == {events[-1].fields["member"]}
    assert events[-1].fields["attempt"] == 1
    assert sum("begun" in event.message for event in events) <= 2
    assert await works(http, events) == "on\n"


async def test_the_command_line_resumes(replicated: Federation, git_server: GitServer) -> None:
    make_repo(git_server.root, "by-command", SLOW)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "manybinder", "launch", git_server.url("by-command")),
        *("--gateway", replicated.url, "--log"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    told = b""
    while b"begun" not in told:
        line = await asyncio.wait_for(process.stderr.readline(), 300)
        assert line, told.decode()
        told += line
    ports = [c.laddr.port for c in psutil.Process(process.pid).net_connections("tcp") if c.status == "ESTABLISHED"]
    for replica in {serving(replicated, port) for port in ports}:
        replica.kill()
    output, rest = await asyncio.wait_for(process.communicate(), 400)
    assert process.returncode == 0, (told + rest).decode()
    assert output.startswith(b"http://127.0.0.1:")


async def test_a_browser_resumes(replicated: Federation, git_server: GitServer) -> None:
    make_repo(git_server.root, "by-browser", SLOW)
    async with chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"{replicated.url}/v2/{git_spec(git_server.url('by-browser'))}")
        await page.get_by_text("Log", exact=True).click(timeout=200_000)
        await expect(page.locator("#log")).to_contain_text("begun", timeout=200_000)
        # Whichever has the stream is among those that the browser is connected to.
        connected = _talking_to_browsers(replicated)
        assert connected
        for replica in connected:
            replica.kill()
        await page.wait_for_url("**/user/**/lab**", timeout=300_000)


def _talking_to_browsers(federation: Federation) -> list[psutil.Process]:
    """The replicas that a browser of this test has connections to."""
    port = URL(federation.url).port
    ports = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "chrom" in process.name():
                ports |= {c.laddr.port for c in process.net_connections("tcp") if c.raddr and c.raddr.port == port}
    return [
        replica
        for replica in replicas(federation)
        if any(c.raddr and c.raddr.port in ports for c in replica.net_connections("tcp"))
    ]


@contextlib.asynccontextmanager
async def steady(federation: Federation, spec: str, every_s: float = 6.0) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Launches that come one after another for as long as the context lasts; then each must have become ready."""
    tasks: list[asyncio.Task[object]] = []

    async def one() -> None:
        events = await Script(federation, spec).run()
        fields = ready(events)
        async with aiohttp.ClientSession() as http:
            headers = {"Authorization": f"token {fields['token']}"}
            async with http.post(f"{fields['url']}api/shutdown", headers=headers) as response:
                assert response.status == 200

    async def come() -> None:
        while True:
            tasks.append(asyncio.create_task(one()))
            await asyncio.sleep(every_s)

    coming = asyncio.create_task(come())
    try:
        yield tasks
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    await asyncio.gather(*tasks)


@pytest.fixture
def spec(git_server: GitServer) -> str:
    """A repository whose image is there soon."""
    make_repo(git_server.root, "steady", {"requirements.txt": "six\n"})
    return git_spec(git_server.url("steady"))


async def test_redis_is_frozen_restarted_and_emptied_under_load(
    replicated: Federation, redis: RedisServer, spec: str
) -> None:
    async with steady(replicated, spec) as launches:
        await asyncio.sleep(5)
        redis.freeze()
        await asyncio.sleep(30)
        redis.thaw()
        await asyncio.sleep(5)
        await redis.flush()
        await asyncio.sleep(8)
        await redis.stop(signal.SIGTERM)
        await redis.start()
        await asyncio.sleep(8)
    assert len(launches) > 6
    async with asyncio.timeout(120):
        while not await _all_there(replicated):
            await asyncio.sleep(0.2)


async def test_redis_is_gone_for_good(replicated: Federation, redis: RedisServer, spec: str) -> None:
    async with steady(replicated, spec) as launches:
        await asyncio.sleep(8)
        await redis.stop()
        await asyncio.sleep(20)
    assert len(launches) > 3
    async with aiohttp.ClientSession() as http, http.get(f"{replicated.url}/health") as response:
        health = await response.json()
    assert health["ok"]
    assert [check["ok"] for check in health["checks"] if check["service"] == "Shared state"] == [False]


async def test_replicas_die_at_random_under_load(replicated: Federation, spec: str) -> None:
    async with steady(replicated, spec) as launches:
        for n in range(4):
            await asyncio.sleep(7)
            replicas(replicated)[n % 2].kill()
    assert len(launches) > 4


async def test_all_replicas_are_replaced_one_by_one_and_who_cannot_resume_notices_nothing(
    replicated: Federation, http: aiohttp.ClientSession, spec: str
) -> None:
    async def come() -> list[BuildEvent]:
        # One connection for all, as thebe and the npm client have it: when it ends, the launch has failed.
        async with aiohttp.ClientSession() as own:
            return await replicated.launch(own, spec, deadline_s=500)

    launches = []
    for replica in replicas(replicated):
        launches += [asyncio.create_task(come()) for _ in range(2)]
        await asyncio.sleep(2)
        replica.send_signal(signal.SIGTERM)
        await asyncio.to_thread(replica.wait, 500)
        async with asyncio.timeout(180):
            while not await _all_there(replicated):
                await asyncio.sleep(0.2)
    for events in await asyncio.gather(*launches):
        await works(http, events)


@pytest.fixture(scope="module")
def npm_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the npm client is installed."""
    return install_npm_client(tmp_path_factory.mktemp("npm"))


async def _by_npm(federation: Federation, directory: Path, spec: str) -> str:
    """The phase in which a launch by the npm client ends; it takes an early end of its stream for a failure."""
    events = await upstreamclients.npm_client(directory, f"{federation.url}/", spec, await _token(federation, spec))
    phases = [event["phase"] for event in events]
    assert "failed" not in phases, events
    return str(phases[-1])


async def _token(federation: Federation, spec: str) -> str:
    async with aiohttp.ClientSession() as http:
        return await federation.build_token(http, spec)


@pytest.fixture(scope="module")
def thebe_page(site: tuple[Path, str]) -> str:
    """The origin of a page that embeds thebe, which is no origin of the gateway's."""
    directory, origin = site
    install(directory)
    return origin


async def test_the_npm_client_and_thebe_see_no_failure_during_a_drain(
    replicated: Federation, npm_client: Path, thebe_page: str, git_server: GitServer, spec: str
) -> None:
    async with chromium() as browser:

        async def by_thebe() -> str:
            page = await browser.new_page()
            thebe = Thebe(page, thebe_page)
            end = await thebe.launch(replicated.url, git_server.url("steady"))
            assert end == "ready", end
            assert await thebe.run("print('on')") == "on"
            assert not [event for event in await thebe.told() if event["kind"] == "error"]
            await page.close()
            return end

        launches: list[asyncio.Task[str]] = []
        for replica in replicas(replicated):
            launches += [asyncio.create_task(_by_npm(replicated, npm_client, spec)) for _ in range(2)]
            launches += [asyncio.create_task(by_thebe()) for _ in range(2)]
            await asyncio.sleep(2)
            replica.send_signal(signal.SIGTERM)
            await asyncio.to_thread(replica.wait, 500)
            async with asyncio.timeout(180):
                while not await _all_there(replicated):
                    await asyncio.sleep(0.2)
        assert set(await asyncio.gather(*launches)) == {"ready"}
