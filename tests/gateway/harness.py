"""A real gateway on a real socket, in front of fake members: what the tests of the gateway share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from redisserver import RedisServer
from yarl import URL

from contract import sse
from contract.events import BuildEvent, parse_event
from contract.signatures import private_pem, public_pem
from gateway.app import make_app
from gateway.clients.state.redis import RedisState
from gateway.core.decision import LaunchRequest, decide
from gateway.settings import GatewaySettings
from gateway.web.parts import PARTS, Parts
from tests.fakes.member import FakeMember
from tests.fakes.oidc import FakeOidc

COMMIT = "a" * 40
SPEC = f"git/{quote('https://git.example/org/repo', safe='')}/{COMMIT}"

#: Probes are quick, so that what is done to a member shows soon.  Deadlines are long: a slow machine is no fault of a
#: member's, and a test of a deadline sets it.
TESTED = {
    "probes": {"interval": "100ms", "timeout": "60s"},
    "launch": {"connect_timeout": "60s", "first_event_timeout": "60s", "silence_timeout": "60s", "linger": "60s"},
    # Nobody looks up the address of a host that does not exist.
    "providers": {"git": {"allow_private_addresses": True}},
}


def spec_of(repo: str) -> str:
    """The spec of another repository."""
    return f"git/{quote(f'https://git.example/org/{repo}', safe='')}/{COMMIT}"


async def until(condition: Callable[[], object], deadline_s: float = 90) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Gateway:
    """A gateway that runs, and what a visitor does to it."""

    http: aiohttp.ClientSession
    members: list[FakeMember]
    url: str
    key: Ed25519PrivateKey
    parts: Parts
    runner: web.AppRunner
    data_dir: Path

    async def json(self, path: str) -> Any:
        """What an address answers."""
        async with self.http.get(self.url + path) as response:
            return await response.json()

    async def events(
        self, spec: str = SPEC, headers: dict[str, str] | None = None, query: str = ""
    ) -> AsyncIterator[tuple[str, BuildEvent]]:
        """A launch's events with their ids."""
        url = URL(f"{self.url}build/{spec}{query}", encoded=True)
        async with self.http.get(url, headers={"Accept": sse.CONTENT_TYPE, **(headers or {})}) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == sse.CONTENT_TYPE
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                for item in parser.feed(chunk):
                    yield item.id, parse_event(item.data)

    async def launch(self, spec: str = SPEC, headers: dict[str, str] | None = None) -> list[BuildEvent]:
        """All events of a launch."""
        async with asyncio.timeout(150):
            return [item async for _, item in self.events(spec, headers)]

    async def until_state(self, name: str, state: str, deadline_s: float = 90) -> None:
        """Wait until the snapshot says so."""

        def reached() -> bool:
            view = self.parts.fleet.snapshot.get(name)
            return view is not None and view.state == state

        await until(reached, deadline_s)

    def stop_clock(self) -> Callable[[float], None]:
        """From now on the clock that beliefs and launches go by stands still; returns what moves it on by seconds."""
        now = self.parts.fleet.now()

        def move(seconds: float) -> None:
            nonlocal now
            now += seconds

        self.parts.fleet.now = lambda: now
        return move

    def first_choice(self, spec: str = SPEC) -> tuple[FakeMember, FakeMember]:
        """The member that a repository goes to, and the other one."""
        parts = self.parts
        request = LaunchRequest(parts.providers.parse(spec).repo, COMMIT)
        decision = decide(parts.fleet.snapshot, request, parts.fleet.settings.routing, parts.fleet.now(), 0.5)
        first, second = (
            next(item for item in self.members if item.name == candidate.member) for candidate in decision.candidates
        )
        return first, second


@dataclass
class Starter:
    """Starts members and gateways, and ends them with the test."""

    data_dir: Path
    http: aiohttp.ClientSession
    running: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def member(self, name: str) -> FakeMember:
        """A member that runs."""
        member = await FakeMember(name).start()
        self.running.append(member.stop)
        return member

    async def gateway(self, members: int = 2, **changes: Any) -> Gateway:
        """A gateway in front of some members, which it has seen healthy."""
        fakes = [await self.member(f"member-{n + 1}") for n in range(members)]
        gateway = await self.gateway_of(fakes, **changes)
        for fake in fakes:
            await gateway.until_state(fake.name, "available")
        return gateway

    async def gateway_of(self, fakes: list[FakeMember], **changes: Any) -> Gateway:
        """A gateway in front of these members."""
        key = Ed25519PrivateKey.generate()
        settings = gateway_settings(self.data_dir, key, fakes, **changes)
        return await self.gateway_with(settings, key, fakes)

    async def redis(self) -> RedisServer:
        """A Redis that runs."""
        server = await RedisServer(self.data_dir / "redis").start()
        self.running.append(server.stop)
        return server

    async def oidc(self, **claims: Any) -> FakeOidc:
        """An OpenID Connect provider where somebody with these claims logs in."""
        provider = await FakeOidc().start()
        self.running.append(provider.stop)
        provider.claims |= claims
        return provider

    @staticmethod
    def state(client: Redis) -> RedisState:
        """A replica's end of a Redis, which is the caller's to close."""
        return RedisState(client, timeout=30)

    async def replicas(self, count: int, server: RedisServer, members: int = 2, **changes: Any) -> list[Gateway]:
        """Gateways that share a Redis, in front of the same members, all of which they have seen healthy."""
        fakes = [await self.member(f"member-{n + 1}") for n in range(members)]
        key = Ed25519PrivateKey.generate()
        changes["redis"] = {"url": server.url, "timeout": "30s", **changes.get("redis", {})}
        gateways = []
        for n in range(count):
            settings = gateway_settings(self.data_dir / f"replica-{n}", key, fakes, **changes)
            gateways.append(await self.gateway_with(settings, key, fakes))
        for gateway in gateways:
            for fake in fakes:
                await gateway.until_state(fake.name, "available")
        return gateways

    async def gateway_with(
        self, settings: GatewaySettings, key: Ed25519PrivateKey, fakes: Sequence[FakeMember] = ()
    ) -> Gateway:
        """A gateway with these settings."""
        return await self.serving(await make_app(settings), key, settings.data_dir, fakes)

    async def serving(
        self,
        app: web.Application,
        key: Ed25519PrivateKey,
        data_dir: Path,
        fakes: Sequence[FakeMember] = (),
        port: int = 0,
    ) -> Gateway:
        """A gateway that is this application; ``port`` 0 = any."""
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=20)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
        await site.start()
        self.running.append(runner.cleanup)
        port = runner.addresses[0][1]
        return Gateway(self.http, list(fakes), f"http://127.0.0.1:{port}/", key, app[PARTS], runner, data_dir)


def gateway_settings(
    data_dir: Path, key: Ed25519PrivateKey, fakes: list[FakeMember], **changes: Any
) -> GatewaySettings:
    """Settings for a test; ``changes`` are put over the usual ones, section by section.

    ``member_changes`` are put over those of each member.
    """
    member_changes = changes.pop("member_changes", {})
    tree: dict[str, Any] = {
        "public_url": "http://gateway.example/",
        "data_dir": str(data_dir),
        "signing_key": private_pem(key),
        "members": [
            {"name": fake.name, "url": fake.url, "report_key": public_pem(fake.key.public_key()), **member_changes}
            for fake in fakes
        ],
    }
    for name in {*TESTED, *changes}:
        usual, change = TESTED.get(name, {}), changes.get(name, {})
        tree[name] = {**usual, **change} if isinstance(change, dict) else change
    return GatewaySettings.model_validate(tree)


@contextlib.asynccontextmanager
async def starting(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts what a test needs; afterwards no task is left."""
    before = asyncio.all_tasks()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        starter = Starter(tmp_path, http)
        yield starter
        for stop in reversed(starter.running):
            await stop()
    known = {*before, asyncio.current_task()}
    await until(lambda: not asyncio.all_tasks() - known)
