"""Visitors who log in: before a page is shown to them, and before they launch.

Who asks is known by a cookie, which holds what the provider has given, sealed; or by an Authorization header, where the
provider knows one.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from contract.events import Failure, failed
from frontend.login_flow import LoginError, LoginFlow, Starter
from frontend.pages import PAGES, NavLink
from frontend.refusals import Refused
from frontend.site import Site
from servicekit.sealing import Seal

logger = logging.getLogger(__name__)

#: Where a provider sends a browser back, below the site's base path; the name is BinderHub's.
CALLBACK = "oauth_callback"
LOGOUT = "logout"

#: At the head of every page where visitors log in.
LOGOUT_LINK = NavLink("Log out", LOGOUT)

_ABOUT = "who has logged in"

#: The routes that browsers open; who has not logged in is sent to do so first.
_PAGES = ("", "launch")


class LoginProvider(Starter, Protocol):
    """Knows people."""

    @property
    def logout_url(self) -> str:
        """Where a browser that has logged out here goes on to, to log out there; "" = nowhere."""

    @property
    def hint(self) -> str:
        """How else than with a browser one says who one is: ends a sentence that begins "or " ("" = not at all)."""

    async def finish(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        """What a browser keeps that has come back with a code; raises :class:`LoginError`."""

    async def user(self, kept: Mapping[str, Any]) -> str:
        """Whose it is, "" if it is good no longer; raises :class:`LoginError`."""

    async def named_by(self, authorization: str) -> str:
        """Whom an Authorization header names, "" for nobody; raises :class:`LoginError`."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who asks; ``by_cookie``: a browser has said so, which sends its cookies whoever makes it ask."""

    name: str
    by_cookie: bool


class Login:
    """The login of one site's visitors."""

    def __init__(self, site: Site, provider: LoginProvider, seal: Seal) -> None:
        self._site, self._provider, self._seal = site, provider, seal
        self._secure = site.public_url.startswith("https://")
        # Of such a name it can be set by no other host (RFC 6265bis, 4.1.3.2), if the whole of this one is the site's.
        prefix = "" if not self._secure else "__Host-" if site.base_path == "/" else "__Secure-"
        self._cookie = f"{prefix}manybinder-visitor"
        self._flow = LoginFlow(
            seal,
            f"{prefix}manybinder-visitor-login",
            f"{site.public_url}{CALLBACK}",
            path=site.base_path,
            secure=self._secure,
            several=True,
        )

    async def visitor(self, request: web.Request) -> LoggedIn | None:
        """Who asks; ``None`` for who has not logged in.  Raises :class:`frontend.login_flow.LoginError`."""
        if authorization := request.headers.get(hdrs.AUTHORIZATION, ""):
            name = await self._provider.named_by(authorization)
            if name:
                return LoggedIn(name, by_cookie=False)
        try:
            kept = self._seal.open_cookie(request.cookies.get(self._cookie, ""), _ABOUT)
        except ValueError:
            return None
        name = await self._provider.user(kept)
        return LoggedIn(name, by_cookie=True) if name else None

    async def launcher(self, request: web.Request, path_spec: str, blame: Failure) -> LoggedIn:
        """Who launches ``path_spec``; raises :class:`frontend.refusals.Refused` for who has not logged in.

        A browser's EventSource follows no redirect to a login, so that the answer is an event.  ``blame`` is whose
        failure it is that a provider does not answer.
        """
        try:
            found = await self.visitor(request)
        except LoginError as error:
            whose, status = (blame, 503) if error.away else (Failure.USER, 403)
            raise Refused(failed(whose, f"{error.sentence}\n", status_code=status)) from error
        if found is None:
            other = self._provider.hint and f", or {self._provider.hint}"
            message = f"Log in first: open {self._site.public_url}v2/{path_spec} in a browser{other}.\n"
            raise Refused(failed(Failure.USER, message, status_code=403))
        return found

    def pages(self) -> Middleware:
        """Sends who has not logged in to do so before a page is shown, from where they come back to its address."""

        @web.middleware
        async def login_first(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = self._site.route_of(request.rel_url.raw_path)
            if route is None or not (route in _PAGES or route.startswith("v2/")):
                return await handler(request)
            try:
                if await self.visitor(request) is not None:
                    return await handler(request)
                return await self._flow.begin(self._provider, request, request.rel_url.raw_path_qs)
            except LoginError as error:
                return _answer(request, error)

        return login_first

    async def finish(self, request: web.Request) -> web.Response:
        """Take somebody in who comes back from the provider, and send them on to where they wanted to."""
        try:
            begun = self._flow.begun(request)
            code = request.query.get("code", "")
            kept = await self._provider.finish(code, self._flow.redirect_uri, begun.nonce, begun.verifier)
        except LoginError as error:
            logger.warning("a visitor's login failed: %s", error)
            response = _answer(request, error)
            self._flow.forget(request, response)
            return response
        # Sealed here, it is a path of this site; two slashes would make a host of it.
        here = begun.here if begun.here.startswith(self._site.base_path) and begun.here[:2] != "//" else ""
        headers = {hdrs.LOCATION: here or self._site.base_path, hdrs.CACHE_CONTROL: "no-store"}
        response = web.Response(status=303, headers=headers)
        sealed = self._seal.close_cookie(kept, _ABOUT)
        response.set_cookie(
            self._cookie, sealed, path=self._site.base_path, secure=self._secure, httponly=True, samesite="Lax"
        )
        self._flow.forget(request, response)
        return response

    async def end(self, request: web.Request) -> web.Response:  # noqa: ARG002 - a handler
        """Log out."""
        location = self._provider.logout_url or self._site.path("about")
        response = web.Response(status=303, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})
        response.del_cookie(self._cookie, path=self._site.base_path, secure=self._secure)
        return response


def add_login(app: web.Application, site: Site, login: Login) -> None:
    """Serve a site's login; to be called after the middlewares of :func:`frontend.middlewares.install`."""
    app.middlewares.append(login.pages())
    app.router.add_get(site.path(CALLBACK), login.finish)
    app.router.add_get(site.path(LOGOUT), login.end)


def check_intent(request: web.Request, visitor: LoggedIn, *, with_token: bool) -> None:
    """Raises :class:`frontend.refusals.Refused` for a launch that a browser's login speaks for, and no page of ours.

    Any page may make a browser ask, a session's on a host beside this one with its cookies; but only pages of this
    service can read a build token.  It may be a token that its author has read after a login of their own, so that
    where a browser says which page asks, it must be ours (W3C, Fetch Metadata; ``none``: nobody's page, the user).
    """
    ours = request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")
    if visitor.by_cookie and not (with_token and ours):
        message = "Invalid build token: with a browser's login, launches begin on this service's own pages.\n"
        raise Refused(failed(Failure.REFUSED, message, status_code=403))


def _answer(request: web.Request, error: LoginError) -> web.Response:
    """A page, or a problem for what is no browser."""
    problem = error.problem()
    if PAGES not in request.app or "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        raise problem from error
    pages = request.app[PAGES]
    return pages.response(
        "error.html",
        status=problem.status,
        headers={hdrs.CACHE_CONTROL: "no-store"},
        title=pages.text("You could not be logged in"),
        message=problem.detail,
        english=True,
    )
