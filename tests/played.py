"""A service with the frontend's pages whose launches a test plays by hand."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.journal import Journal
from contract.launches import launch_id
from frontend.admission import admit, unknown_launch
from frontend.face import FaceLink, FaceSettings
from frontend.middlewares import install
from frontend.refusals import Refused, refusal
from frontend.routes import add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings
from servicekit.streams import KEEPALIVE_S, stream_entries

#: What routing believes, as a gateway tells it.
MEMBERS: list[dict[str, object]] = [
    {"name": "alps", "available": True, "state": "available", "believed_free": 12},
    {"name": "fjord", "available": True, "state": "available", "believed_free": None},
    {"name": "mesa", "available": True, "state": "full", "believed_free": 0},
    {"name": "delta", "available": False, "state": "draining", "believed_free": 3},
]


@dataclass
class Service:
    """A service with a frontend whose launches a test plays by hand."""

    url: str = ""
    journals: dict[str, Journal] = field(default_factory=dict)
    builds: int = 0
    asked: list[str] = field(default_factory=list)
    """The queries of requests for builds."""
    cancelled: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    """Where requests for builds go on, by their Last-Event-ID."""
    keepalive_s: float = KEEPALIVE_S
    visits: list[str] = field(default_factory=list)
    members: list[dict[str, object]] = field(default_factory=lambda: [dict(member) for member in MEMBERS])
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def federation(self, _: web.Request) -> web.Response:
        """Answer which members there are."""
        return web.json_response({"members": self.members})

    async def begun(self) -> Journal:
        """The journal of the launch that a browser has begun."""
        async with asyncio.timeout(90):
            while not self.journals:
                await asyncio.sleep(0.01)
        return next(iter(self.journals.values()))

    async def tell(self, *events: BuildEvent) -> None:
        """Append events to it."""
        journal = await self.begun()
        for item in events:
            journal.append(item)

    async def asked_again(self, times: int) -> None:
        """Wait until builds have been asked for so often."""
        async with asyncio.timeout(60):
            while self.builds < times:
                await asyncio.sleep(0.01)

    def forget(self) -> None:
        """Know no launch any more, as after a restart."""
        for journal in self.journals.values():
            journal.append(failed(Failure.GATEWAY, "restarted"))
        self.journals.clear()

    def ready(self) -> BuildEvent:
        """The event that sends a visitor to a session here."""
        return event(Phase.READY, "server running\n", url=f"{self.url}user/visitor/", token="secret")


@pytest_asyncio.fixture(loop_scope="session")
async def service() -> AsyncIterator[Service]:
    service = Service()
    session = aiohttp.ClientSession()
    providers = Providers(ProvidersSettings(), session)
    face = FaceSettings(
        elsewhere=(FaceLink(text="mybinder.org", url="https://mybinder.org/"),),
        report_url="https://tracker.example/new?project=binder",
    )
    site = Site(
        "Test",
        "http://127.0.0.1:1/",
        "s" * 32,
        "1",
        require_build_token=True,
        confirm_cross_site=True,
        federation=True,
        face=face,
    )

    async def build(request: web.Request) -> web.StreamResponse:
        service.builds += 1
        service.asked.append(request.query_string)
        service.resumed.append(request.headers.get("Last-Event-ID", ""))
        try:
            admitted = admit(request, site, providers, time.time())
        except Refused as refused:
            return refused.response()
        if admitted.resume is not None and admitted.resume[0] not in service.journals:
            return refusal(unknown_launch(Failure.GATEWAY))
        launch, after = admitted.resume or (launch_id(os.urandom(16)), -1)
        journal = service.journals.setdefault(launch, Journal())
        if journal.final is not None and after >= journal.next_n - 1:
            return web.Response(status=204)
        told = stream_entries(request, journal.follow(after), launch, keepalive_s=service.keepalive_s)
        stream = asyncio.ensure_future(told)
        cutting = asyncio.ensure_future(service.cut.wait())
        await asyncio.wait({stream, cutting}, return_when=asyncio.FIRST_COMPLETED)
        cutting.cancel()
        if not stream.done() and request.transport is not None:
            request.transport.abort()
        return await stream

    async def cancel(request: web.Request) -> web.Response:
        launch = request.match_info["launch"]
        service.cancelled.append(launch)
        service.journals[launch].append(failed(Failure.USER, "The launch was cancelled.\n"))
        return web.Response(status=204)

    async def visit(request: web.Request) -> web.Response:
        service.visits.append(request.path_qs)
        return web.Response(text="<h1>session</h1>", content_type="text/html")

    app = web.Application()
    install(app, site)
    add_routes(app, site, providers)
    app.router.add_get("/build/{provider}/{spec:.+}", build)
    app.router.add_delete("/api/v1/launches/{launch}", cancel)
    app.router.add_get("/api/v1/federation", service.federation)
    app.router.add_get("/user/{rest:.*}", visit)
    server = TestServer(app)
    await server.start_server()
    service.url = str(server.make_url("/"))
    yield service
    for journal in service.journals.values():
        if journal.final is None:
            journal.append(failed(Failure.GATEWAY, "the test is over"))
    await server.close()
    await providers.close()
    await session.close()
