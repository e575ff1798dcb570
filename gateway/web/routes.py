"""The gateway's routes, besides those of the frontend."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from frontend import middlewares
from frontend.login import LOGOUT_LINK, add_login
from frontend.pages import NavLink
from frontend.routes import add_routes
from gateway.core import canary
from gateway.web import archive, build, federation, feeds, join, live, plain, probes, redirect, status
from gateway.web import canary as canary_routes
from gateway.web.admin.hosts import own_host
from gateway.web.admin.page import add_admin_page
from gateway.web.admin.routes import PREFIX, add_admin_routes
from gateway.web.kept import Kept
from gateway.web.metrics import make_registry
from gateway.web.parts import PARTS, Parts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GET: tuple[tuple[str, Handler], ...] = (
    ("status", status.status_page),
    ("status.atom", feeds.atom),
    ("status/badge.svg", status.badge),
    ("status/{member}/badge.svg", status.badge),
    ("api/v1/federation", federation.federation),
    ("api/v1/federation/history", feeds.show_history),
    ("api/v1/explain", federation.explain),
    ("api/v1/launches/{launch_id}", build.show_launch),
    ("api/v1/archive/index.jsonl", archive.index),
    ("api/v1/archive/{name}", archive.day),
    ("active_hosts", federation.active_hosts),
    ("health", probes.health),
    ("versions", probes.versions),
    ("livez", probes.livez),
    ("readyz", probes.readyz),
    ("metrics", probes.metrics),
    ("openapi.json", probes.openapi),
)


def add_gateway_routes(app: web.Application, parts: Parts, admin_url: str = "") -> None:
    """Serve all that the gateway serves; ``admin_url`` is where operators reach theirs, if on a host of its own."""
    app[PARTS] = parts
    app[status.SHOWN], app[status.PASTS] = Kept(status.RENDERED_EVERY), Kept(status.DRAWN_EVERY)
    app[feeds.FEEDS] = Kept(feeds.LASTS)
    app[probes.REGISTRY] = make_registry(parts)
    middlewares.install(app, parts.site)
    if admin_url:
        app.middlewares.append(own_host(parts, (PREFIX, "admin/"), admin_url))
    app.on_response_prepare.append(_let_go)
    here = Path(__file__).parent
    nav = [NavLink("Status", "status"), *([LOGOUT_LINK] if parts.login else [])]
    add_routes(app, parts.site, parts.providers, nav=nav, extra=[here])
    if parts.login is not None:
        add_login(app, parts.site, parts.login)
    for route, handler in GET:
        app.router.add_get(parts.site.path(route), handler)
    launch = redirect.redirect if parts.mode == "redirect" else build.build
    # A HEAD of a build would begin one.
    app.router.add_get(parts.site.path("build/{provider}/{spec:.+}"), launch, allow_head=False)
    if parts.site.plain_launches:
        app.router.add_get(parts.site.path("plain/{provider}/{spec:.+}"), plain.begin, allow_head=False)
        app.router.add_get(parts.site.path("plain-launch/{short}"), plain.follow)
    app.router.add_post(parts.site.path("api/v1/reports"), federation.report)
    app.router.add_get(parts.site.path(f"{canary.PATH}/{{path:.+}}"), canary_routes.file)
    for name, handler in (("join", join.join), ("keys", join.change_keys), ("leave", join.leave)):
        app.router.add_post(parts.site.path(f"api/v1/{name}"), handler)
    app.router.add_delete(parts.site.path("api/v1/launches/{launch_id}"), build.cancel_launch)
    live.add_live(app)
    add_admin_routes(app)
    add_admin_page(app)


async def _let_go(request: web.Request, response: web.StreamResponse) -> None:
    """Keep no connection of a visitor who had better come back to another replica."""
    if request.app[PARTS].replicas.draining:
        response.force_close()
        response.headers["Connection"] = "close"
