"""A server on loopback that answers as it should until it is told to fail."""

import asyncio
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web


@dataclass
class FaultyServer(ABC):
    """Use as an asynchronous context manager; ``url`` is its address, without an end slash."""

    # Faults: each lasts until it is unset.
    status: int | None = None
    """Answer everything with this status."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with :attr:`status`."""
    body: bytes | None = None
    """Answer 200 with this body."""
    hang: bool = False
    """Take requests and say nothing."""
    drop: bool = False
    """Close connections without an answer."""
    loop: bool = False
    """Redirect each request to itself."""
    redirect: str = ""
    """Redirect each request to this address."""

    requests: list[web.Request] = field(default_factory=list)
    """Every request that came."""

    url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._fail])
        self.routes(app)
        # Whoever hangs is cut off when the server ends.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @abstractmethod
    def routes(self, app: web.Application) -> None:
        """Add what it answers when it is well."""

    def mend(self) -> None:
        """Unset all faults."""
        self.status, self.headers, self.body, self.redirect = None, {}, None, ""
        self.hang = self.drop = self.loop = False

    def failure(self, status: int) -> web.Response:
        """What it answers with :attr:`status`."""
        return answer({"message": "fault"}, status, self.headers)

    @web.middleware
    async def _fail(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(request)
        if self.hang:
            await asyncio.sleep(3600)
        if self.drop:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        if self.loop or self.redirect:
            return web.Response(status=302, headers={"Location": self.redirect or str(request.rel_url)})
        if self.status is not None:
            return self.failure(self.status)
        if self.body is not None:
            return web.Response(body=self.body, content_type="application/json")
        response: web.StreamResponse = await handler(request)
        return response


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)
