"""JupyterHub's REST API as far as a launch needs it, and the sessions behind its proxy: a real server with faults.

What is answered to whom follows JupyterHub 5 (``jupyterhub/apihandlers/users.py``, and ``auth.py`` for logging in).
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from yarl import URL

TOKEN = "the-hubs-token"


@dataclass
class FakeServer:
    """A user's server."""

    options: dict[str, Any]
    ready: bool = False
    stopping: bool = False

    def model(self, name: str = "") -> dict[str, Any]:
        """As the Hub shows it."""
        pending = "stop" if self.stopping else None if self.ready else "spawn"
        return {"name": name, "ready": self.ready, "pending": pending, "user_options": self.options}


@dataclass
class FakeHub:
    """Use as an asynchronous context manager; ``url`` is the Hub's and its proxy's address.

    Requests are named ``make user``, ``start``, ``progress``, ``stop``, ``remove user``, ``users`` and ``version``.
    ``users`` holds named servers too, as ``user/server``; one that has stopped is ``None`` until it is removed.
    """

    token: str = TOKEN
    users: dict[str, FakeServer | None] = field(default_factory=dict)
    who: str = "alice"
    """Who logs in next; "" = nobody, for they do not want to."""
    scopes: tuple[str, ...] = ("access:services!service=binder", "access:servers!user=alice")
    """What their tokens are good for."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Tokens of people."""
    username_pattern: str = ""
    """What new users may be called (a regular expression)."""
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
    _names: dict[Any, dict[str, str]] = field(default_factory=dict)
    _codes: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

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
            ("POST", "users/{user}/servers/{server}", "start", self._start),
            ("DELETE", "users/{user}/servers/{server}", "stop", self._stop),
            ("GET", "users/{user}/servers/{server}/progress", "progress", self._progress),
        ):
            route = app.router.add_route(method, api + path, handler)
            self._names[route.resource] = {**self._names.get(route.resource, {}), method: name}
        app.router.add_get("/user/{user}/api/status", self._session)
        app.router.add_get("/user/{user}/{server}/api", self._open_session)
        app.router.add_get("/user/{user}/api", self._open_session)
        app.router.add_get(f"{api}oauth2/authorize", self._authorize)
        app.router.add_post(f"{api}oauth2/token", self._token)
        app.router.add_get(f"{api}user", self._user)
        # What a single-user server asks besides.
        app.router.add_get("/hub/api", self._version)
        app.router.add_post(f"{api}users/{{user}}/activity", self._active)
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
        name = self._names.get(request.match_info.route.resource, {}).get(request.method, "")
        if not name:
            return await handler(request)  # type: ignore[no-any-return]
        user = _key(request) if "user" in request.match_info else ""
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
        names = sorted({key.partition("/")[0] for key in self.users})
        shown = names[offset : offset + limit]
        more = {"offset": offset + limit, "limit": limit} if offset + limit < len(names) else None
        items = []
        for name in shown:
            servers: dict[str, Any] = {}
            for key, server in self.users.items():
                user, _, named = key.partition("/")
                if user == name and server is not None:
                    servers[named] = server.model(named)
                elif user == name and named and request.query.get("include_stopped_servers"):
                    servers[named] = {"name": named, "ready": False, "pending": None, "stopped": True}
            items.append({"name": name, "pending": None, "servers": servers})
        return web.json_response({"items": items, "_pagination": {"offset": offset, "limit": limit, "next": more}})

    async def _make_user(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        if user in self.users:
            return _problem(409, f"User {user} already exists")
        if not re.match(self.username_pattern, user):
            return _problem(400, f"Failed to create user: {user}")
        self.users[user] = None
        return web.json_response({"name": user}, status=201)

    async def _start(self, request: web.Request) -> web.Response:
        user = _key(request)
        if request.match_info["user"] not in self.users:
            return _problem(404, "Not Found")
        server = self.users.get(user)
        if server is not None and server.ready:
            return _problem(400, f"{user} is already running")
        if server is not None and server.stopping:
            return _problem(400, f"{user} is pending stop")
        if server is None:
            self.users[user] = FakeServer(await request.json())
            self.starting += 1
            self.most_starting = max(self.most_starting, self.starting)
        return web.Response(status=202)

    async def _progress(self, request: web.Request) -> web.StreamResponse:
        user = _key(request)
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
        user = _key(request)
        if user not in self.users:
            return _problem(404, "Not Found")
        server = self.users[user]
        if server is not None:
            if not server.ready and not server.stopping:
                self.starting -= 1
            self.slow_stop = max(0, self.slow_stop - server.stopping)
            server.stopping, server.ready = True, False
            if self.slow_stop:
                return web.Response(status=202)
            self.users[user] = None
        if "server" in request.match_info:
            del self.users[user]
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

    async def _open_session(self, request: web.Request) -> web.Response:
        """What a single-user server tells everybody."""
        server = self.users.get(_key(request))
        if server is None or not server.ready:
            raise web.HTTPFound("/hub/login")
        return web.json_response({"version": "2.21.1"})

    async def _active(self, request: web.Request) -> web.Response:
        self.asked.append(f"activity {request.match_info['user']}")
        return web.Response(status=204)

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        self.asked.append("authorize ")
        assert query["response_type"] == "code"
        assert query["client_id"] == "service-binder"
        assert query["code_challenge_method"] == "S256"
        back = {"state": query["state"]}
        if self.who:
            back["code"] = secrets.token_urlsafe(16)
            self._codes[back["code"]] = self.who, query
        else:
            back["error"] = "access_denied"
        return web.Response(status=302, headers={"Location": str(URL(query["redirect_uri"]).update_query(back))})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if self.errors.get("token"):
            return _problem(self.errors["token"].pop(0), "out of order")
        who, begun = self._codes.pop(form["code"], ("", {}))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if form["client_secret"] != self.token:
            return web.json_response({"error": "invalid_client"}, status=401)
        if not who or form["redirect_uri"] != begun["redirect_uri"] or challenge != begun["code_challenge"]:
            return web.json_response({"error": "invalid_grant", "error_description": "Unknown code"}, status=400)
        token = secrets.token_urlsafe(16)
        self.tokens[token] = who
        return web.json_response({"access_token": token, "token_type": "Bearer", "scope": " ".join(self.scopes)})

    async def _user(self, request: web.Request) -> web.Response:
        self.asked.append("user ")
        if self.errors.get("user"):
            return _problem(self.errors["user"].pop(0), "out of order")
        token = request.headers.get("Authorization", "").removeprefix("token ")
        if token == self.token:
            return web.json_response({"kind": "service", "name": "binder", "scopes": ["access:services"]})
        if token not in self.tokens:
            return _problem(403, "Missing or invalid credentials.")
        return web.json_response({"kind": "user", "name": self.tokens[token], "scopes": list(self.scopes)})

    async def _login(self, _: web.Request) -> web.Response:
        self.asked.append("login ")
        return web.Response(text="<html>Who are you?</html>", content_type="text/html")


def _key(request: web.Request) -> str:
    user, server = request.match_info["user"], request.match_info.get("server", "")
    return f"{user}/{server}" if server else user


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status)


def _sse(**fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}\n\n".encode()
