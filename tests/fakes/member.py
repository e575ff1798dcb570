"""A member that is a real server on a real socket, and fails as told."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract import sse
from contract.launches import event_id, parse_event_id
from contract.reports import CapacityReport, Image, Sessions
from contract.signatures import LaunchClaims, sign_report, verify_launch
from manybinder.ports import free_ports


@dataclass
class Knobs:
    """What goes wrong; all of it can be changed while the server runs."""

    build_status: int = 200
    """An HTTP error instead of a stream."""
    hang: bool = False
    """Take the request and say nothing."""
    comments_only: bool = False
    """With ``hang``: answer, and send nothing but comments."""
    cut_after: int | None = None
    """Break the connection after so many events."""
    end_after: int | None = None
    """End the stream properly after so many events, without a final one."""
    silent_after: int | None = None
    """Say nothing more after so many events."""
    gate_at: int | None = None
    """Wait for ``gate`` before the event of this number."""
    delay_s: float = 0.0
    """Before each event."""
    ready_url: str | None = None
    """The notebook's URL, where it is not the proper one."""
    final: dict[str, Any] | None = None
    """The last event, where it is not ``ready``."""
    first: dict[str, Any] | None = None
    """The only event."""
    builds_alone: bool = True
    """Builds without a launch where a gateway orders that; otherwise it refuses them, as earlier versions do."""
    queues: bool = False
    """A built image waits for its turn to start."""
    room: int | None = None
    """Sessions that it has room for; with none left it refuses, as a member does."""
    content_type: str = sse.CONTENT_TYPE
    allow_origin: str = ""
    """The origin whose pages may read the stream."""
    session_allows: str = "*"
    """The origin whose pages may read sessions."""
    session_status: int = 200
    """What a session answers."""
    websocket: str = "computes"
    """Or it is "refused", or "closes"."""
    health_status: int = 200
    health_hang: bool = False
    health_checks: list[dict[str, Any]] = field(default_factory=lambda: [{"service": "JupyterHub API", "ok": True}])


@dataclass
class FakeMember:
    """Start with :meth:`start`; ``builds`` are the paths that were asked for, ``cancelled`` the launch ids."""

    name: str
    port: int = 0
    knobs: Knobs = field(default_factory=Knobs)
    lines: int = 3
    line: str = ""
    """What each line of the log bears besides its number."""
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    builds: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    probes: int = 0
    open_streams: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[int] = field(default_factory=list)
    launches: list[str] = field(default_factory=list)
    """Ids of the launches that were asked for, as often as they were."""
    bans: list[str] = field(default_factory=list)
    """The lists of bans that it was told, signed as they came."""
    versions: dict[str, str] = field(default_factory=dict)
    """What it tells of its versions, besides."""
    session_calls: list[str] = field(default_factory=list)
    """What was asked of its sessions, with the Origin of who asked."""
    seq: int = 0
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its API."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def origin(self) -> str:
        """Where its notebooks are."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> "FakeMember":
        """Listen; on the same port again after :meth:`stop`."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/versions", self._versions)
        app.router.add_get("/build/{spec:.+}", self._build)
        app.router.add_delete("/api/v1/launches/{launch_id}", self._cancel)
        app.router.add_put("/api/v1/bans", self._take_bans)
        app.router.add_get("/user/{launch}/api/status", self._session)
        app.router.add_post("/user/{launch}/api/kernels", self._session)
        app.router.add_post("/user/{launch}/api/shutdown", self._session)
        app.router.add_get("/user/{launch}/api/kernels/kernel-1/channels", self._websocket)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self.runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not of those that outgoing connections get: while it is down, one of them could take it.
        self.port = self.port or free_ports(1)[0]
        listening.bind(("127.0.0.1", self.port))
        await web.SockSite(self.runner, listening, backlog=1024).start()
        return self

    async def stop(self) -> None:
        """Die: connections break, the port refuses."""
        if self.runner is not None:
            runner, self.runner = self.runner, None
            await runner.cleanup()

    def claims(self, gateway_key: Ed25519PrivateKey, now: float) -> LaunchClaims:
        """What the last launch token said."""
        return verify_launch(self.tokens[-1], [gateway_key.public_key()], member=self.name, now=now)

    def report(self, now: float, **changes: Any) -> CapacityReport:
        """The next report."""
        fields: dict[str, Any] = {
            "member": self.name,
            "boot_id": "boot-1",
            "seq": self.seq,
            "sent_at": now,
            "public_url": self.url,
            "sessions": Sessions(running=1, limit=10, free=9),
            "images": (Image("git.example/org/repo", "a" * 40),),  # type: ignore[arg-type]
        }
        self.seq += 1
        return CapacityReport(**{**fields, **changes})

    def signed(self, report: CapacityReport, change: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
        """A report as it is sent; ``change`` spoils it before it is signed."""
        wire = report.to_wire()
        change(wire)
        return sign_report(wire, self.key)

    async def _health(self, _: web.Request) -> web.Response:
        self.probes += 1
        if self.knobs.health_hang:
            await asyncio.sleep(3600)
        ok = self.knobs.health_status == 200
        body = {"ok": ok, "checks": self.knobs.health_checks}
        return web.json_response(body, status=self.knobs.health_status)

    async def _versions(self, _: web.Request) -> web.Response:
        builder = {"builder_info": {"repo2docker-version": "2026.4"}, "repo2docker": "2026.4", "builder": "process"}
        about = {**builder, "binderhub": "fake 1.0"}
        return web.json_response({**about, **self.versions})

    async def _cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append(request.match_info["launch_id"])
        return web.Response(status=204)

    async def _take_bans(self, request: web.Request) -> web.Response:
        self.bans.append(await request.text())
        return web.Response(status=204)

    async def _session(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token notebook-token"
        self.session_calls.append(f"{request.path.rpartition('/')[2]} from {request.headers['Origin']}")
        headers = {"Access-Control-Allow-Origin": self.knobs.session_allows} if self.knobs.session_allows else {}
        return web.json_response({"id": "kernel-1"}, status=self.knobs.session_status, headers=headers)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        assert request.query["token"] == "notebook-token"
        self.session_calls.append(f"channels from {request.headers['Origin']}")
        if self.knobs.websocket == "refused":
            return web.Response(status=403)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        asked = json.loads(await socket.receive_str())
        if self.knobs.websocket == "closes":
            await socket.close()
            return socket
        first, second = (int(number) for number in asked["content"]["code"][6:-1].split("*"))
        for number in (first + second, first * second):
            content = {"name": "stdout", "text": f"{number}\n"}
            header = {"msg_type": "stream"}
            await socket.send_json({"parent_header": asked["header"], "header": header, "content": content})
        await socket.receive()
        return socket

    async def _build(self, request: web.Request) -> web.StreamResponse:
        self.builds.append(request.rel_url.raw_path)
        self.tokens.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if self.knobs.build_status != 200:
            return web.Response(status=self.knobs.build_status, text="broken")
        if self.knobs.hang and not self.knobs.comments_only:
            await asyncio.sleep(3600)
        response = web.StreamResponse()
        response.content_type = self.knobs.content_type
        if self.knobs.allow_origin:
            response.headers["Access-Control-Allow-Origin"] = self.knobs.allow_origin
        await response.prepare(request)
        self.open_streams += 1
        try:
            await self._stream(request, response)
        finally:
            self.open_streams -= 1
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        while self.knobs.comments_only:
            await response.write(sse.KEEPALIVE)
            await asyncio.sleep(0.05)
        launch, heard = self._launch(request)
        for n, item in enumerate(self._events(asked_build_only=request.query.get("build_only") == "true")):
            if n <= heard:
                continue
            if n == self.knobs.gate_at:
                await self.gate.wait()
            if n == self.knobs.end_after:
                return
            if n == self.knobs.silent_after:
                await asyncio.sleep(3600)
            if n == self.knobs.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return
            await asyncio.sleep(self.knobs.delay_s)
            await response.write(sse.encode(json.dumps(item), event_id=event_id(launch, n)))
            self.sent.append(n)

    def _launch(self, request: web.Request) -> tuple[str, int]:
        """The id of the launch, and the number of its last event that whoever attaches to it has had."""
        token = self.tokens[-1]
        if not token or self.knobs.first is not None:  # a visitor who comes directly has no launch token
            return "0" * 32, -1
        launch = jwt.decode(token, options={"verify_signature": False})["jti"]
        known = launch in self.launches
        self.launches.append(launch)
        resumed = parse_event_id(request.headers.get("Last-Event-ID", ""))
        return launch, resumed[1] if known and resumed is not None else -1

    def _events(self, *, asked_build_only: bool = False) -> list[dict[str, Any]]:
        if self.knobs.first is not None:
            return [self.knobs.first]
        if self.knobs.room == 0:
            refused = {"failure": "refused", "retry_after_s": 1}
            return [{"phase": "failed", "message": "Too many users on this BinderHub! Try again soon.\n", **refused}]
        if self.knobs.room is not None:
            self.knobs.room -= 1
        # A visitor who comes directly has no launch token.
        token = self.tokens[-1]
        claims = jwt.decode(token, options={"verify_signature": False}) if token else {}
        launch = claims.get("jti", "directly")
        if asked_build_only and not self.knobs.builds_alone:
            message = "Building but not launching is not permitted when the API only mode was not enabled "
            return [{"phase": "failed", "message": message, "failure": "user", "status_code": 400}]
        events: list[dict[str, Any]] = [{"phase": "waiting", "message": "Waiting for build to start...\n"}]
        events += [{"phase": "building", "message": f"line {n}{self.line}\n"} for n in range(self.lines)]
        if claims.get("build_only") is True:
            return [*events, {"phase": "ready", "message": "Done! Image built\n", "imageName": "image"}]
        events.append({"phase": "built", "message": "Built image, launching...\n", "imageName": "image"})
        if self.knobs.queues:
            events.append({"phase": "launching", "message": "Waiting for other sessions to start.\n", "position": 40})
            events.append({"phase": "launching", "message": "Server requested\n"})
        ready = {
            "phase": "ready",
            "message": "server running\n",
            "image": "image",
            "url": self.knobs.ready_url or f"{self.origin}/user/{launch[:8]}/",
            "token": "notebook-token",
            "binder_launch_host": self.url,
        }
        return [*events, self.knobs.final or ready]
