"""The API on a host of its own: there is nothing else there, and on any other host it does not exist."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from frontend.pages import PAGES
from gateway.web.parts import Parts

#: Asked by probes that know an address and no name; and what the page for operators is shown with.
_ANYWHERE = ("livez", "readyz", "static/{name}", "favicon.ico")


def own_host(parts: Parts, prefixes: Sequence[str], admin_url: str) -> Middleware:
    """``prefixes`` are what the API's and its page's routes begin with; ``admin_url`` where operators reach them."""
    site, admin_host = parts.site, urlsplit(admin_url).netloc.lower()
    below, anywhere = tuple(map(site.path, prefixes)), {site.path(route) for route in _ANYWHERE}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        # The route that was found, for a path can be written in many ways.
        resource = request.match_info.route.resource
        canonical = resource.canonical if resource is not None else ""
        asks_admin_host = request.headers.get(hdrs.HOST, "").lower() == admin_host
        if canonical in anywhere or f"{canonical}/".startswith(below) == asks_admin_host:
            return await handler(request)
        if asks_admin_host and "text/html" in request.headers.get(hdrs.ACCEPT, ""):
            return _for_people(request, parts, canonical)
        raise web.HTTPNotFound

    return check


def _for_people(request: web.Request, parts: Parts, canonical: str) -> web.Response:
    """Who types the host's name wants the page for operators; links to the rest lead to where that is."""
    if canonical == parts.site.path(""):
        return web.Response(status=302, headers={hdrs.LOCATION: parts.site.path("admin")})
    text = "There is nothing at this address; here are the pages for operators only."
    return request.app[PAGES].response(
        "error.html", status=404, title="Not found", message=text, path=parts.public_path
    )
