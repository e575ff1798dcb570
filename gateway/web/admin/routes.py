"""Every call of the API with the scope that it needs: who lacks it is refused here, and told the role that has it."""

import logging

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler as WebHandler

from gateway.core.operators import Scope
from gateway.web.admin import bans, joining, log, login, members, notes, quotas, state, tokens, whoami
from gateway.web.admin.asked import Asked, Handler, address_of
from gateway.web.parts import PARTS
from servicekit.problems import Problem

logger = logging.getLogger(__name__)

#: Below all routes of this API.
PREFIX = "api/v1/admin/"

#: A route with ``{member}`` is about that member, which a member's own operator must be that of.
ROUTES: tuple[tuple[str, str, Scope, Handler], ...] = (
    ("GET", "whoami", Scope.READ, whoami.show),
    ("GET", "members", Scope.READ, members.show),
    ("PUT", "members/{member}/policy", Scope.ROUTE, members.put_policy),
    ("PUT", "members/{member}/weight", Scope.ROUTE, members.put_weight),
    ("DELETE", "members/{member}/weight", Scope.ROUTE, members.drop_weight),
    ("DELETE", "members/{member}", Scope.MEMBERS, joining.remove),
    ("POST", "members/{member}/accept", Scope.MEMBERS, joining.accept),
    ("POST", "members/{member}/check", Scope.ROUTE, joining.check),
    ("GET", "join-tokens", Scope.READ, joining.show_tokens),
    ("POST", "join-tokens", Scope.MEMBERS, joining.make_token),
    ("DELETE", "join-tokens", Scope.MEMBERS, joining.revoke_token),
    ("GET", "alerts", Scope.READ, joining.alerts),
    ("GET", "bans", Scope.READ, bans.show),
    ("PUT", "bans", Scope.BANS, bans.put),
    ("DELETE", "bans", Scope.BANS, bans.lift),
    ("DELETE", "proposals", Scope.BANS, bans.dismiss),
    ("GET", "quotas", Scope.READ, quotas.show),
    ("PUT", "quotas", Scope.QUOTAS, quotas.put),
    ("DELETE", "quotas", Scope.QUOTAS, quotas.drop),
    ("GET", "notes", Scope.READ, notes.show),
    # Whom a note is about decides who may write it.
    ("POST", "notes", Scope.READ, notes.put),
    ("DELETE", "notes", Scope.READ, notes.drop),
    ("GET", "tokens", Scope.READ, tokens.show),
    ("POST", "tokens", Scope.TOKENS, tokens.create),
    ("DELETE", "tokens", Scope.TOKENS, tokens.revoke),
    ("GET", "log", Scope.READ, log.show),
    # An export writes down that it was made.
    ("POST", "export", Scope.STATE, state.export),
    ("POST", "import", Scope.STATE, state.take),
    ("GET", "session", Scope.READ, login.show),
    ("POST", "session/token", Scope.READ, login.make_token),
    ("POST", "session/end", Scope.READ, login.end),
)

#: What somebody asks who is not known yet.
OPEN: tuple[tuple[str, WebHandler], ...] = (("login", login.begin), ("callback", login.finish))


def add_admin_routes(app: web.Application) -> None:
    """Serve the API for operators."""
    site = app[PARTS].site
    for method, route, scope, handler in ROUTES:
        app.router.add_route(method, site.path(PREFIX + route), _guarded(scope, handler))
    for route, open_handler in OPEN:
        # A HEAD of either would begin something.
        app.router.add_get(site.path(PREFIX + route), open_handler, allow_head=False)
    app.on_response_prepare.append(_keep_to_itself)


async def _keep_to_itself(request: web.Request, response: web.StreamResponse) -> None:
    """No page of another origin reads this API, whatever may read the rest."""
    if request.path.startswith(request.app[PARTS].site.path(PREFIX)):
        response.headers.popall(hdrs.ACCESS_CONTROL_ALLOW_ORIGIN, None)


def _guarded(scope: Scope, handler: Handler) -> WebHandler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        parts = request.app[PARTS]
        call, address = f"{request.method} {request.path.partition(PREFIX)[2]}", address_of(request, parts)
        try:
            operator = await parts.operators.identify(request)
        except Problem as problem:
            # Who is nobody writes nothing that is kept for good; whoever guesses or has stolen something is seen.
            if parts.operators.is_news("", address):
                logger.warning("the call %r from %s was refused: %s", call[:200], address, problem.detail)
            raise
        asked = Asked(request, parts, operator, call, address)
        await asked.require(scope, request.match_info.get("member"))
        return await handler(asked)

    return guarded
