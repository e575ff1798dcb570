"""A service that has a frontend, on a real server: what tests of it share."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from contract.events import Failure
from frontend.admission import Admitted, admit, unknown_launch
from frontend.middlewares import install
from frontend.refusals import Refused, refusal
from frontend.routes import NavLink, add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings

Client = TestClient[web.Request, web.Application]


@dataclass
class Frontend:
    """A service that has a frontend, and a build that only says whom it let in."""

    client: Client
    site: Site
    admitted: list[Admitted]


Start = Callable[..., Awaitable[Frontend]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    clients = []
    session = aiohttp.ClientSession()
    providers = Providers(ProvidersSettings(), session)

    async def start(**fields: Any) -> Frontend:
        site = replace(Site("Test <Hub>", "http://127.0.0.1:1/", "s" * 32, "1.2.3"), **fields)
        admitted: list[Admitted] = []

        async def build(request: web.Request) -> web.Response:
            try:
                admitted.append(admit(request, site, providers, time.time()))
            except Refused as refused:
                return refused.response()
            if admitted[-1].resume is not None:
                return refusal(unknown_launch(Failure.GATEWAY))
            return web.Response(text="admitted")

        app = web.Application()
        install(app, site)
        add_routes(app, site, providers, [NavLink("Status", "status")])
        app.router.add_get(site.path("build/{provider}/{spec:.+}"), build)
        app.router.add_get(site.path("livez"), build)
        client: Client = TestClient(TestServer(app))
        clients.append(client)
        await client.start_server()
        return Frontend(client, site, admitted)

    yield start
    for client in clients:
        await client.close()
    await providers.close()
    await session.close()
