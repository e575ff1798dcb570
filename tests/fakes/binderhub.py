"""A BinderHub that is a real server on a real socket and does what upstream does, its flaws included.

Follows jupyterhub/binderhub at b9fad995: ``base.py`` (bans, tokens, rate limit), ``builder.py`` (order of checks,
events), ``main.py`` and ``page.html`` (pages), ``health.py``.  Errors of ``/build`` are events with HTTP status 200.
"""

import asyncio
import binascii
import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
from aiohttp import web

from contract import sse

#: As ``openssl rand -hex 32`` makes it.
SECRET = "5e" * 32

COMMIT = "c" * 40
SPEC = f"gh/org/repo/{COMMIT}"

WAITING = {"phase": "waiting", "message": "Waiting for build to start...\n"}
FETCHING = {"phase": "fetching", "message": "Cloning into '/tmp/repo2docker'...\n"}
BUILDING = {"phase": "building", "message": "Step 1/40 : FROM ubuntu\n"}
PUSHING = {"phase": "pushing", "message": "Pushing image\n", "progress": {"layer": 3}}
BUILT = {"phase": "built", "message": "Built image, launching...\n", "imageName": "image:tag"}
FOUND = {"phase": "built", "message": "Found built image, launching...\n", "imageName": "image:tag"}
LAUNCHING = {"phase": "launching", "message": "Launching server...\n"}
#: What the pod's own status adds to a failed build.
POD_FAILED = {"phase": "failed"}
INTERNAL = {"phase": "failed", "status_code": 500, "message": "Internal Server Error\n"}

#: What comes before a failure at a stage.
STAGES: dict[str, list[dict[str, Any]]] = {
    "early": [],
    "waiting": [WAITING],
    "fetching": [WAITING, FETCHING],
    "building": [WAITING, FETCHING, BUILDING],
    "pushing": [WAITING, FETCHING, BUILDING, PUSHING],
    "built": [WAITING, FETCHING, BUILDING, BUILT],
    "found": [FOUND],
    "launching": [FOUND, LAUNCHING],
}


@dataclass
class Knobs:
    """What differs, and what goes wrong; all of it can be changed while the server runs."""

    secret: str = SECRET
    """In hexadecimal, as in BinderHub's configuration."""
    check_origin: bool = True
    page_token: bool = True
    """Pages hand out tokens; without it as in API-only mode, which has no pages."""
    old_page: bool = False
    """The token stands in a ``meta`` element, as before 2024."""
    page_hang: bool = False
    rate_limit: int = 10
    """Builds an hour by a client without a token; 0 = any number."""
    ban: str = ""
    """The label of the banned network that all requests come from."""
    login: bool = False
    broken: bool = False
    """An error of its own at every build."""
    badge_base_url: str = ""
    providers: tuple[str, ...] = ("gh", "git")
    banned_specs: tuple[str, ...] = ()

    has_quota: bool = True
    """On Kubernetes."""
    quota: Any = 10
    user_pods: Any = 3
    build_pods: Any = 1
    hub_ok: bool = True
    health: tuple[int, str] | None = None
    """Status and body, where they are others."""
    has_versions: bool = True
    """Otherwise a page is answered, as at any unknown address."""

    found: bool = False
    """The image is there already."""
    quota_after_build: bool = False
    """The last room is taken while it builds: two failed events."""
    fails: tuple[str, dict[str, Any]] | None = None
    """A stage of ``STAGES`` and the event that ends it."""
    reason_late: dict[str, Any] | None = None
    """After ``fails``, the event with the reason, when ``gate`` is set."""
    never_closes: bool = True
    """A stream with a failed build."""
    events: list[Any] | None = None
    """All that is sent, where it is something else; texts go out as they are."""
    build_status: int = 200
    """An HTTP error by a proxy before it; 307 leads to a login."""
    hang: bool = False
    keepalives: int = 0
    """Comments before the first event."""
    ready_url: str = ""


@dataclass
class FakeBinderHub:
    """Start with :meth:`start`; ``asked`` are raw paths asked for, ``builds`` the specs that got past all checks."""

    knobs: Knobs = field(default_factory=Knobs)
    port: int = 0
    asked: list[str] = field(default_factory=list)
    builds: list[str] = field(default_factory=list)
    with_token: list[bool] = field(default_factory=list)
    """For each build that was asked for and not refused: whether it bore a good token."""
    tokens: list[str] = field(default_factory=list)
    """Those that came, good or not."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Those of each build that was asked for."""
    counted: dict[str, int] = field(default_factory=dict)
    open_streams: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> "FakeBinderHub":
        """Listen."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/versions", self._versions)
        app.router.add_get("/build/{provider}/{spec:.+}", self._build)
        app.router.add_get("/api/repoproviders", self._providers)
        app.router.add_get("/v2/{provider}/{spec:.+}", self._page)
        app.router.add_get("/{anything:.*}", self._page)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self.runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        await web.SockSite(self.runner, listening).start()
        return self

    async def stop(self) -> None:
        """End."""
        if self.runner is not None:
            runner, self.runner = self.runner, None
            await runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        if self.knobs.health is not None:
            status, text = self.knobs.health
            return web.Response(status=status, text=text)
        checks: list[dict[str, Any]] = [
            {"service": "Docker registry", "ok": True},
            {"service": "JupyterHub API", "ok": self.knobs.hub_ok},
        ]
        if self.knobs.has_quota:
            users, builds, quota = self.knobs.user_pods, self.knobs.build_pods, self.knobs.quota
            numbers = isinstance(quota, int) and isinstance(users, int)
            checks.append(
                {
                    "service": "Pod quota",
                    "total_pods": users + builds if numbers else users,
                    "build_pods": builds,
                    "user_pods": users,
                    "quota": quota,
                    "ok": users + builds <= quota if numbers else True,
                    "_ignore_failure": True,
                }
            )
        ok = all(item["ok"] for item in checks if not item.get("_ignore_failure"))
        return web.json_response({"ok": ok, "checks": checks}, status=200 if ok else 503)

    async def _versions(self, request: web.Request) -> web.Response:
        if not self.knobs.has_versions:
            return await self._page(request)
        builder = {"build_image": "quay.io/jupyterhub/repo2docker:2026"}
        return web.json_response(
            {"builder_info": builder, "binderhub": "1.0.0", "builder": "quay.io/jupyterhub/repo2docker:2026"}
        )

    async def _providers(self, _: web.Request) -> web.Response:
        if self.knobs.ban:
            return self._banned_page()
        return web.json_response([{"id": name, "displayName": name} for name in self.knobs.providers])

    def _banned_page(self) -> web.Response:
        return web.Response(status=403, text="<html><title>403: Forbidden</title></html>", content_type="text/html")

    async def _page(self, request: web.Request) -> web.Response:
        self.asked.append(request.rel_url.raw_path)
        if self.knobs.page_hang:
            await asyncio.sleep(3600)
        if self.knobs.ban:
            return self._banned_page()
        if self.knobs.login:
            raise web.HTTPFound("/hub/api/oauth2/authorize?client_id=service-binder")
        provider = request.match_info.get("provider")
        config: dict[str, Any] = {
            "baseUrl": "/",
            "badgeBaseUrl": self.knobs.badge_base_url,
            "logoUrl": "/static/logo.svg",
            "repoProviders": [],
            "aboutMessage": "<b>It's</b> &amp; about }; everything",
            "bannerHtml": "",
            "binderVersion": "1.0.0",
        }
        meta = ""
        if provider in self.knobs.providers and self.knobs.page_token:
            spec = request.rel_url.raw_path.removeprefix(f"/v2/{provider}/")
            claims = {"exp": int(time.time()) + 300, "aud": f"{provider}/{spec}", "origin": _origin(request)}
            token = jwt.encode(claims, binascii.a2b_hex(self.knobs.secret), "HS256")
            if self.knobs.old_page:
                meta = f'<meta id="build-token" data-token="{token}">\n<meta id="api-token" data-token="x">'
            else:
                config["buildToken"] = token
        script = "" if self.knobs.old_page else f"<script>\n    window.pageConfig = {_tojson(config)};\n  </script>"
        html = f"<!DOCTYPE html>\n<html>\n<head>\n{meta}{script}\n<script>window.more = {{}};</script></head></html>"
        return web.Response(text=html, content_type="text/html")

    async def _build(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.rel_url.raw_path)
        self.headers.append(dict(request.headers))
        if self.knobs.build_status == 307:
            raise web.HTTPTemporaryRedirect("/hub/login")
        if self.knobs.build_status != 200:
            return web.Response(status=self.knobs.build_status, text="<html>by the proxy</html>")
        if self.knobs.hang:
            await asyncio.sleep(3600)
        response = web.StreamResponse()
        response.content_type = sse.CONTENT_TYPE
        response.headers["Cache-Control"] = "no-cache"
        try:
            self._admit(request, response)
        except _HttpError as error:
            event = {"phase": "failed", "status_code": error.status, "message": f"{error}\n"}
            await response.prepare(request)
            await _emit(response, event)
            return response
        await response.prepare(request)
        self.open_streams += 1
        try:
            await self._stream(request, response)
        finally:
            self.open_streams -= 1
        return response

    def _admit(self, request: web.Request, response: web.StreamResponse) -> None:
        """The checks before anything is sent, in upstream's order."""
        if self.knobs.ban:
            raise _HttpError(403, f"Requests from {self.knobs.ban} are not allowed")
        accept = {part.strip().lower() for part in request.headers.get("Accept", "").split(";")}
        if sse.CONTENT_TYPE not in accept:
            raise _HttpError(400, "Missing Accept header: text/event-stream")
        if self.knobs.login:
            raise _HttpError(403, "Forbidden")
        if self.knobs.broken:
            raise _HttpError(500, "Internal Server Error")
        token = request.query.get("build_token", "")
        if token:
            self.tokens.append(token)
            self._check_token(request, token)
        if self.knobs.rate_limit and not token:
            client = request.remote or ""
            self.counted[client] = self.counted.get(client, 0) + 1
            remaining = self.knobs.rate_limit - self.counted[client]
            if remaining < 0:
                raise _HttpError(429, "Rate limit exceeded. Try again in 3600 seconds.")
            response.headers["x-ratelimit-remaining"] = str(remaining)
            response.headers["x-ratelimit-reset"] = str(int(time.time()) + 3600)
            response.headers["x-ratelimit-limit"] = str(self.knobs.rate_limit)
        self.with_token.append(bool(token))

    def _check_token(self, request: web.Request, token: str) -> None:
        spec = request.rel_url.raw_path.removeprefix("/build/")
        try:
            claims = jwt.decode(token, binascii.a2b_hex(self.knobs.secret), ["HS256"], audience=spec)
        except jwt.PyJWTError:
            raise _HttpError(403, "Invalid build token") from None
        if claims["origin"] != _origin(request) and self.knobs.check_origin:
            raise _HttpError(403, "Invalid build token")

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        provider = request.match_info["provider"]
        spec = request.rel_url.raw_path.removeprefix(f"/build/{provider}/").rstrip("/")
        if provider not in self.knobs.providers:
            await _emit(response, {"phase": "failed", "message": f"No provider found for prefix {provider}\n"})
            return
        if provider == "gh" and len(spec.split("/", 2)) != 3:
            message = f'Spec is not of the form "user/repo/ref", provided: "{spec}".\n'
            await _emit(response, {"phase": "failed", "message": message})
            return
        if spec in self.knobs.banned_specs:
            message = f"Sorry, {spec} is not allowed to launch. Please contact admins for more info!"
            await _emit(response, {"phase": "failed", "message": message})
            return
        self.builds.append(f"{provider}/{spec}")
        for _ in range(self.knobs.keepalives):
            await response.write(sse.KEEPALIVE)
            await asyncio.sleep(0.1)
        if self.knobs.events is not None:
            for item in self.knobs.events:
                await _emit(response, item)
        elif self.knobs.fails is not None:
            await self._fail(response, *self.knobs.fails)
        else:
            await self._launch(request, response)

    async def _fail(self, response: web.StreamResponse, stage: str, last: dict[str, Any]) -> None:
        for item in (*STAGES[stage], last):
            await _emit(response, item)
        if self.knobs.reason_late is not None:
            await self.gate.wait()
            await _emit(response, BUILDING)
            await _emit(response, self.knobs.reason_late)
        if stage in ("waiting", "fetching", "building", "pushing") and self.knobs.never_closes:
            if last.get("message"):
                await _emit(response, POD_FAILED)
            while True:
                await response.write(sse.KEEPALIVE)
                await asyncio.sleep(0.1)

    async def _launch(self, request: web.Request, response: web.StreamResponse) -> None:
        full = {"phase": "failed", "message": "Too many users on this BinderHub! Try again soon.\n"}
        is_full = isinstance(self.knobs.quota, int) and self.knobs.user_pods >= self.knobs.quota
        if self.knobs.found:
            await _emit(response, FOUND)
        if is_full:
            await _emit(response, full)
            return
        if not self.knobs.found:
            for item in (WAITING, FETCHING, BUILDING, PUSHING, BUILT):
                await _emit(response, item)
        if self.knobs.quota_after_build:
            await _emit(response, full)
            await _emit(response, INTERNAL)
            return
        await _emit(response, LAUNCHING)
        await _emit(response, {"phase": "launching", "message": "Server requested\n"})
        provider, spec = self.builds[-1].split("/", 1)
        url = self.knobs.ready_url or f"{self.url}user/org-repo-abcdefgh/"
        await _emit(
            response,
            {
                "phase": "ready",
                "message": f"server running at {url}\n",
                "image": "image:tag",
                "repo_url": "https://github.com/org/repo",
                "token": "notebook-token",
                "binder_ref_url": f"https://github.com/org/repo/tree/{COMMIT}",
                "binder_launch_host": self.knobs.badge_base_url or self.url,
                "binder_request": f"v2/{provider}/{spec}",
                "binder_persistent_request": f"v2/{provider}/{spec}",
                "binder_client_ip": request.remote,
                "url": url,
            },
        )
        if not self.knobs.found:
            await asyncio.sleep(60)


class _HttpError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _origin(request: web.Request) -> str:
    origin = request.headers.get("Origin")
    return request.headers.get("Host", "") if origin is None else urlsplit(origin).netloc


def _tojson(value: Any) -> str:
    """As Jinja's filter writes it."""
    text = json.dumps(value)
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


async def _emit(response: web.StreamResponse, item: dict[str, Any] | str) -> None:
    text = item if isinstance(item, str) else json.dumps(item)
    await response.write(f"data: {text}\n\n".encode())
