"""A gateway's public API as the command line sees it: a real server with set answers and faults."""

import asyncio
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from aiohttp.test_utils import TestServer

LAUNCH = "0123456789abcdef0123456789abcdef"


@dataclass
class FakeGateway:
    """Use as an asynchronous context manager; ``url`` is its address."""

    events: list[dict[str, Any]] = field(default_factory=list)
    """What a launch sends."""
    members: list[dict[str, Any]] = field(default_factory=list)
    status: dict[str, Any] | None = None
    """The state in one line; an older gateway has none."""
    decision: dict[str, Any] = field(default_factory=dict)
    token: str = "page-token"
    """In the launch page; "" = the page has none."""
    with_ids: bool = True
    """Whether events bear ids; an upstream BinderHub's do not."""

    # Faults.
    page_status: int = 200
    build_status: int = 200
    api_status: int = 200
    problem: str = ""
    """The detail of every error."""
    cut_after: list[int] = field(default_factory=list)
    """Cut the n-th connection after so many events; a further connection is whole."""
    hang: bool = False
    """Send all events, and keep the stream open."""

    connections: list[dict[str, str]] = field(default_factory=list)
    """The headers of each request for a stream."""
    tokens: list[str] = field(default_factory=list)
    specs: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """What was to be explained."""
    looks: int = 0
    """How often the federation was asked for."""
    cancelled: list[str] = field(default_factory=list)
    streaming: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all events of a stream that hangs are sent."""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v2/{spec:.+}", self._page)
        app.router.add_get("/build/{spec:.+}", self._build)
        app.router.add_delete("/api/v1/launches/{launch}", self._cancel)
        app.router.add_get("/api/v1/federation", self._federation)
        app.router.add_get("/api/v1/explain", self._explain)
        self._server = TestServer(app)
        await self._server.start_server()
        self.url = str(self._server.make_url("/"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.close()

    def _refusal(self, status: int) -> web.Response:
        if not self.problem:
            return web.Response(status=status, text="<html>no</html>", content_type="text/html")
        body = json.dumps({"status": status, "detail": self.problem})
        return web.Response(status=status, text=body, content_type="application/problem+json")

    async def _page(self, _request: web.Request) -> web.Response:
        if self.page_status != 200:
            return web.Response(status=self.page_status, text="<html>no</html>", content_type="text/html")
        config = {"baseUrl": "/", **({"buildToken": self.token} if self.token else {})}
        page = f"<html><head><script>window.pageConfig = {json.dumps(config)};</script></head></html>"
        return web.Response(text=page, content_type="text/html")

    async def _build(self, request: web.Request) -> web.StreamResponse:
        self.connections.append(dict(request.headers))
        self.tokens.append(request.query.get("build_token", ""))
        self.specs.append(request.rel_url.raw_path.removeprefix("/build/"))
        if self.build_status != 200:
            return self._refusal(self.build_status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = request.headers.get("Last-Event-ID", "")
        first = int(last.rpartition(".")[2]) + 1 if last else 0
        cut = self.cut_after[len(self.connections) - 1] if len(self.connections) <= len(self.cut_after) else None
        for n, item in enumerate(self.events[first:cut], first):
            head = f"id: {LAUNCH}.{n}\n" if self.with_ids else ""
            await response.write(f":keepalive\n\n{head}data: {json.dumps(item)}\n\n".encode())
        if cut is not None:
            assert request.transport is not None
            request.transport.abort()
        elif self.hang:
            self.streaming.set()
            await asyncio.sleep(600)
        return response

    async def _cancel(self, request: web.Request) -> web.Response:
        self.cancelled.append(request.match_info["launch"])
        return web.Response(status=204)

    async def _federation(self, _request: web.Request) -> web.Response:
        self.looks += 1
        if self.api_status != 200:
            return self._refusal(self.api_status)
        status = {} if self.status is None else {"status": self.status}
        return web.json_response({"name": "fake", **status, "members": self.members})

    async def _explain(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["repo"])
        return self._refusal(self.api_status) if self.api_status != 200 else web.json_response(self.decision)
