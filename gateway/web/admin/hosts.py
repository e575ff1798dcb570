"""The API on a host of its own: there is nothing else there, and on any other host it does not exist."""

from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from frontend.site import Site

#: Asked by probes that know an address and no name; and what the page for operators is shown with.
_ANYWHERE = ("livez", "readyz", "static/{name}")


def own_host(site: Site, prefix: str, admin_url: str) -> Middleware:
    """``prefix`` is what the API's routes begin with; ``admin_url`` where operators reach it."""
    admin_host = urlsplit(admin_url).netloc.lower()
    below, anywhere = site.path(prefix), {site.path(route) for route in _ANYWHERE}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # The route that was found, for a path can be written in many ways.
        resource = request.match_info.route.resource
        canonical = resource.canonical if resource is not None else ""
        asks_admin_host = request.headers.get(hdrs.HOST, "").lower() == admin_host
        if canonical not in anywhere and canonical.startswith(below) != asks_admin_host:
            raise web.HTTPNotFound
        return await handler(request)

    return check
