"""What stands before every handler: the check of Host, CORS, and the headers that keep browsers safe."""

import ipaddress
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from frontend.catalogues import LANGUAGE, choose_language
from frontend.pages import PAGES
from frontend.site import Site
from servicekit.problems import Problem, problem_middleware

#: BinderHub allows Cache-Control alone; an API token and a resumed stream need the others.
ALLOWED_HEADERS = "Authorization, Cache-Control, Last-Event-ID"
ALLOWED_METHODS = "GET, HEAD, DELETE, OPTIONS"

#: Asked by probes that know an address and no name; these tell nothing but that the service lives.
_ANY_HOST = frozenset({"livez", "readyz"})

#: Asked by Prometheus, which knows pods by their addresses.
_ANY_ADDRESS = frozenset({"metrics"})


def install(app: web.Application, site: Site) -> None:
    """Put the frontend's middlewares and headers before all of an application's handlers.

    Errors become problem+json here too (:func:`servicekit.problems.problem_middleware`), or pages for browsers.
    """
    if problem_middleware not in app.middlewares:
        app.middlewares.insert(0, problem_middleware)
    app.middlewares.extend([_language, _error_pages, _host_check(site), _preflight])

    async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
        _add_headers(response, site)

    app.on_response_prepare.append(add_headers)


def host_is_allowed(host: str, site: Site) -> bool:
    """Whether a Host header is one that the site answers; without the check another name could point here.

    A page of any site could otherwise have its name resolve to this service's address (DNS rebinding), and then read
    all of it as its own.
    """
    if not site.allowed_hosts:
        return True
    host = host.lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    return host == site.host or host in site.allowed_hosts or name in site.allowed_hosts


def _is_address(host: str) -> bool:
    """Whether a Host header is an IP address, which no page of another site can have for its name."""
    try:
        ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
    return True


def _host_check(site: Site) -> Middleware:
    @web.middleware
    async def host_check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get(hdrs.HOST, "")
        route = site.route_of(request.rel_url.raw_path)
        known = route in _ANY_HOST or (route in _ANY_ADDRESS and _is_address(host))
        if not known and not host_is_allowed(host, site):
            detail = f"This service does not answer for the host {host[:100]!r}; its address is {site.public_url}"
            raise Problem(421, "Misdirected Request", detail)
        return await handler(request)

    return host_check


@web.middleware
async def _preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a CORS preflight for any address; whether it says yes is up to the headers that are added to it."""
    if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
        return web.Response(status=204)
    return await handler(request)


@web.middleware
async def _language(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer in the language that the visitor's browser asks for, where there is a catalogue of it."""
    pages = request.app.get(PAGES)
    known = tuple(pages.catalogues) if pages else ()
    token = LANGUAGE.set(choose_language(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), known))
    try:
        return await handler(request)
    finally:
        LANGUAGE.reset(token)


@web.middleware
async def _error_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show a page, where a browser asked, for an address that leads nowhere."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        pages = request.app.get(PAGES)
        if pages is None or "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
            raise
        return pages.response(
            "error.html",
            status=404,
            title=pages.text("Not found"),
            message=pages.text(
                "There is nothing at this address. A launch link begins with /v2/; the start page makes one for you."
            ),
        )


def _add_headers(response: web.StreamResponse, site: Site) -> None:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault(hdrs.ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)
    if site.cors_allow_origin:
        headers.setdefault(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, site.cors_allow_origin)
        headers.setdefault(hdrs.ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS)
    if site.confirm_cross_site:
        # Framed, the button that confirms a launch could be placed under someone's click.
        headers.setdefault("X-Frame-Options", "DENY")
    if response.content_type == "text/html":
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
