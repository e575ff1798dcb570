"""The member's routes, besides those of the frontend."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from frontend import middlewares
from frontend.login import LOGOUT_LINK, add_login
from frontend.routes import add_routes
from member.web import bans, build, build_logs, probes
from member.web.parts import PARTS, Parts

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

GET: tuple[tuple[str, Handler], ...] = (
    ("build/{provider}/{spec:.+}", build.build),
    ("health", probes.health),
    ("versions", probes.versions),
    ("metrics", probes.metrics),
    ("livez", probes.livez),
    ("readyz", probes.readyz),
    ("openapi.json", probes.openapi),
    ("api/v1/capacity", probes.capacity),
    ("api/v1/launches/{launch_id}", build.show_launch),
    ("api/v1/builds/{build_id}/log", build_logs.show_log),
)


def add_member_routes(app: web.Application, parts: Parts) -> None:
    """Serve all that the member serves."""
    app[PARTS] = parts
    middlewares.install(app, parts.site)
    if not parts.api_only:
        nav = [LOGOUT_LINK] if parts.login else []
        add_routes(app, parts.site, parts.providers, nav)
        if parts.login is not None:
            add_login(app, parts.site, parts.login)
    for route, handler in GET:
        # A HEAD of a build would begin one.
        app.router.add_get(parts.site.path(route), handler, allow_head=handler is not build.build)
    app.router.add_put(parts.site.path("api/v1/bans"), bans.put_bans)
    app.router.add_delete(parts.site.path("api/v1/launches/{launch_id}"), build.cancel_launch)
