"""Wires the gateway up; no logic."""

import asyncio
from collections.abc import AsyncIterator
from importlib.metadata import version

import aiohttp
from aiohttp import web

from contract.signatures import load_private_key, load_public_key
from frontend.settings import make_site
from gateway.clients.kinds import Clients
from gateway.clients.members import MemberClient
from gateway.core.origins import origin
from gateway.core.retries import RetryBudget
from gateway.core.sticky import cookie_name
from gateway.core.tallies import Tallies
from gateway.engines.fleet import Fleet
from gateway.engines.journey import Means
from gateway.engines.launches import Launches
from gateway.engines.prober import Prober
from gateway.engines.redirects import Redirects
from gateway.engines.reports import Reports
from gateway.settings import GatewaySettings
from gateway.web.parts import Parts
from gateway.web.routes import add_gateway_routes
from providers.registry import Providers
from servicekit import logs, serving
from servicekit.tasks import Tasks


async def make_app(settings: GatewaySettings) -> web.Application:
    """The gateway as an application, whose background work begins and ends with it.

    To be called in the event loop that will serve it.  Serve it with ``handler_cancellation=True``, so that a visitor's
    departure is noticed at once.
    """
    # Streams last for as long as builds do, and there are many: no total, no limit.
    to_members = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    to_providers = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    tasks, tallies = Tasks(), Tallies()
    fleet = Fleet([member.member() for member in settings.members], settings.health)
    client = Clients({"manybinder": MemberClient(to_members, settings.launch)})
    prober = Prober(fleet, client, settings.probes, tasks)
    providers = Providers(settings.providers, to_providers)
    means = Means(
        fleet=fleet,
        prober=prober,
        client=client,
        providers=providers,
        signing_key=load_private_key(settings.signing_key.get_secret_value()),
        public_url=settings.public_url,
        settings=settings.launch,
        routing=settings.routing,
        budget=RetryBudget(settings.launch, fleet.now()),
        tallies=tallies,
        tasks=tasks,
    )
    launches = Launches(means)
    keys = {
        member.name: [load_public_key(member.report_key.get_secret_value())]
        for member in settings.members
        if member.report_key.get_secret_value()
    }
    redirects = Redirects(
        means,
        {
            member.name: member.build_token_secret.get_secret_value()
            for member in settings.members
            if member.build_token_secret.get_secret_value()
        },
    )
    reports = Reports(fleet, keys, tallies)
    redirecting = settings.mode == "redirect"
    site = make_site(
        settings.security,
        name=settings.name,
        public_url=settings.public_url,
        version=version("manybinder"),
        federation=True,
        about=settings.about,
        banner=settings.banner,
        # In redirect mode pages follow builds at the members themselves.
        connect_origins=tuple(sorted({origin(member.url) for member in settings.members})) if redirecting else (),
        member_cookie=cookie_name(settings.public_url) if redirecting else "",
    )
    app = web.Application()
    add_gateway_routes(
        app, Parts(site, providers, fleet, launches, reports, redirects, settings.routing, settings.mode)
    )

    async def background(_: web.Application) -> AsyncIterator[None]:
        prober.start()
        tasks.every("expire reports", 1.0, fleet.tick)
        tasks.every("sweep launches", 1.0, launches.sweep)
        yield
        await launches.close()
        await tasks.close()
        await providers.close()
        await to_members.close()
        await to_providers.close()

    async def end_launches(_: web.Application) -> None:
        # Before open streams are waited for: each of them ends with an event that says why.
        await launches.close()

    app.cleanup_ctx.append(background)
    app.on_shutdown.append(end_launches)
    return app


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT; raises :class:`servicekit.serving.CannotListenError`."""
    await serving.serve(await make_app(settings), settings.listen.host, settings.listen.port)


def run(settings: GatewaySettings) -> None:
    """Run the gateway as this process, until SIGTERM or SIGINT.

    Raises :class:`servicekit.serving.CannotListenError`.
    """
    logs.configure(settings.log_level)
    asyncio.run(serve(settings))
