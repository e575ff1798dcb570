"""JupyterHub's REST API as far as a launch needs it, and the sessions behind its proxy: a real server with faults.

What is answered to whom follows JupyterHub 5 (``jupyterhub/apihandlers/users.py``).
"""

import asyncio
import json
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

TOKEN = "the-hubs-token"


@dataclass
class FakeServer:
    """A user's default server."""

    options: dict[str, Any]
    ready: bool = False
    stopping: bool = False

    def model(self) -> dict[str, Any]:
        """As the Hub shows it."""
        pending = "stop" if self.stopping else None if self.ready else "spawn"
        return {"name": "", "ready": self.ready, "pending": pending, "user_options": self.options}


@dataclass
class FakeHub:
    """Use as an asynchronous context manager; ``url`` is the Hub's and its proxy's address.

    Requests are named ``make user``, ``start``, ``progress``, ``stop``, ``remove user``, ``users`` and ``version``.
    """

    token: str = TOKEN
    users: dict[str, FakeServer | None] = field(default_factory=dict)
    page: int = 2
    """Users in an answer, however many were asked for."""
    messages: tuple[str, ...] = ("Server requested", "Starting the notebook server...")
    """Of a server that starts."""

    # Faults.
    errors: dict[str, list[int]] = field(default_factory=dict)
    """Statuses that the next requests of a name are answered with."""
    hang: set[str] = field(default_factory=set)
    """Requests that are never answered."""
    lost_answers: dict[str, int] = field(default_factory=dict)
    """Requests that are done, and whose answer is an error, so many times."""
    spawn_fails: str = ""
    """Why every server fails to start."""
    spawn_fails_times: int = 0
    """So many servers fail to start."""
    progress_cuts: int = 0
    """Break so many streams off."""
    progress_ends: int = 0
    """End so many streams before the server is ready."""
    gate: asyncio.Event | None = None
    """Servers become ready once it is set."""
    slow_stop: int = 0
    """Look so many times at a server that stops before it has stopped."""
    session_status: int = 200
    """What a session answers to its visitor."""
    no_route: int = 0
    """So many visits to sessions are answered by the Hub, since the proxy does not know the way yet."""

    asked: list[str] = field(default_factory=list)
    """``name user`` of each request."""
    starting: int = 0
    most_starting: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._authorized])
        api = "/hub/api/"
        for method, path, name, handler in (
            ("GET", "", "version", self._version),
            ("GET", "users", "users", self._users),
            ("POST", "users/{user}", "make user", self._make_user),
            ("DELETE", "users/{user}", "remove user", self._remove_user),
            ("POST", "users/{user}/server", "start", self._start),
            ("DELETE", "users/{user}/server", "stop", self._stop),
            ("GET", "users/{user}/server/progress", "progress", self._progress),
        ):
            app.router.add_route(method, api + path, handler, name=name.replace(" ", "-"))
        app.router.add_get("/user/{user}/api/status", self._session)
        app.router.add_get("/hub/login", self._login)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def count(self, name: str) -> int:
        """How many requests of a name came."""
        return sum(line.startswith(f"{name} ") for line in self.asked)

    def server(self, user: str, repo_url: str = "https://git.example/other/repo", *, ready: bool = True) -> None:
        """Have a session run that no launch of the test has started."""
        self.users[user] = FakeServer({"repo_url": repo_url}, ready=ready)

    @web.middleware
    async def _authorized(self, request: web.Request, handler: Any) -> web.StreamResponse:
        name = (request.match_info.route.name or "").replace("-", " ")
        if not name:
            return await handler(request)  # type: ignore[no-any-return]
        user = request.match_info.get("user", "")
        self.asked.append(f"{name} {user}")
        # The version is told to everyone.
        if name != "version" and request.headers.get("Authorization") != f"token {self.token}":
            return _problem(403, "Missing or invalid credentials.")
        if name in self.hang:
            await asyncio.sleep(3600)
        if self.errors.get(name):
            return _problem(self.errors[name].pop(0), "out of order")
        response = await handler(request)
        if self.lost_answers.get(name, 0) > 0:
            self.lost_answers[name] -= 1
            return _problem(502, "the answer was lost")
        return response  # type: ignore[no-any-return]

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "5.4.0"})

    async def _users(self, request: web.Request) -> web.Response:
        offset, limit = int(request.query["offset"]), min(self.page, int(request.query["limit"]))
        names = sorted(self.users)
        shown = names[offset : offset + limit]
        more = {"offset": offset + limit, "limit": limit} if offset + limit < len(names) else None
        items = []
        for name in shown:
            server = self.users[name]
            items.append({"name": name, "pending": None, "servers": {"": server.model()} if server else {}})
        return web.json_response({"items": items, "_pagination": {"offset": offset, "limit": limit, "next": more}})

    async def _make_user(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user in self.users:
            return _problem(409, f"User {user} already exists")
        self.users[user] = None
        return web.json_response({"name": user}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user not in self.users:
            return _problem(404, "Not Found")
        server = self.users[user]
        if server is not None and server.ready:
            return _problem(400, f"{user} is already running")
        if server is None:
            self.users[user] = FakeServer(await request.json())
            self.starting += 1
            self.most_starting = max(self.most_starting, self.starting)
        return web.Response(status=202)

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        user = request.match_info["user"]
        server = self.users.get(user)
        if server is None:
            return _problem(400 if user in self.users else 404, f"{user} is not starting...")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"\n\n")
        for n, message in enumerate(self.messages):
            await response.write(_sse(progress=10 * n, message=message))
            if self.progress_cuts:
                self.progress_cuts -= 1
                assert request.transport is not None
                request.transport.abort()
                return response
        if self.progress_ends:
            self.progress_ends -= 1
            return response
        if self.gate is not None:
            await self.gate.wait()
        if self.users.get(user) is not server:
            await response.write(_sse(progress=100, failed=True, message="Spawn cancelled"))
            return response
        if not server.ready:
            self.starting -= 1
        if self.spawn_fails or self.spawn_fails_times:
            self.spawn_fails_times = max(0, self.spawn_fails_times - 1)
            self.users[user] = None
            await response.write(_sse(progress=100, failed=True, message=f"Spawn failed: {self.spawn_fails}"))
            return response
        server.ready = True
        await response.write(_sse(progress=100, ready=True, message=f"Server ready at /user/{user}/"))
        return response

    async def _stop(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user not in self.users:
            return _problem(404, "Not Found")
        server = self.users[user]
        if server is None:
            return web.Response(status=204)
        if not server.ready and not server.stopping:
            self.starting -= 1
        server.stopping, server.ready = True, False
        if self.slow_stop:
            return web.Response(status=202)
        self.users[user] = None
        return web.Response(status=204)

    async def _remove_user(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user not in self.users:
            return _problem(404, "Not Found")
        server = self.users[user]
        if server is not None and server.stopping and self.slow_stop:
            self.slow_stop -= 1
            return _problem(400, f"{user}'s server is in the process of stopping, please wait.")
        del self.users[user]
        return web.Response(status=204)

    async def _session(self, request: web.Request) -> web.Response:
        server = self.users.get(request.match_info["user"])
        self.asked.append(f"session {request.match_info['user']}")
        if server is None or not server.ready or self.no_route:
            self.no_route = max(0, self.no_route - 1)
            raise web.HTTPFound("/hub/login")
        if request.headers.get("Authorization") != f"token {server.options['token']}":
            return web.Response(status=403)
        return web.json_response({"started": "now"}, status=self.session_status)

    async def _login(self, _: web.Request) -> web.Response:
        self.asked.append("login ")
        return web.Response(text="<html>Who are you?</html>", content_type="text/html")


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status)


def _sse(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()
