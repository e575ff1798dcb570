"""People log in with OpenID Connect, and have a session in a cookie, or a token for the command line.

A notebook of anybody may be served from the same site as this gateway: SameSite keeps none of them out.  So each call
with a cookie that changes something must come from this API's own origin, and bear a token that its pages alone read.
"""

import logging
import re
import secrets
import time

from aiohttp import hdrs, web

from frontend.login_flow import LoginError, LoginFlow
from frontend.pages import PAGES
from gateway.admin_settings import NAME, OidcSettings
from gateway.clients.oidc import OidcProvider
from gateway.core.operators import (
    LOGIN,
    Operator,
    csrf_token,
    digest_of,
    is_proved,
    login_operator,
    login_value,
    token_text,
)
from gateway.core.records import Change, Record
from gateway.web.admin.asked import Asked, address_of, answer, done, write_act
from gateway.web.parts import PARTS, Parts
from servicekit.problems import Problem

logger = logging.getLogger(__name__)


async def begin(request: web.Request) -> web.Response:
    """Send a browser to the provider."""
    parts = request.app[PARTS]
    try:
        return await _flow(parts).begin(_provider(parts), request)
    except LoginError as error:
        raise error.problem() from error


async def finish(request: web.Request) -> web.Response:
    """Take somebody in who comes back from the provider."""
    parts = request.app[PARTS]
    provider, flow = _provider(parts), _flow(parts)
    try:
        begun = flow.begun(request)
        claims = await provider.claims(request.query.get("code", ""), flow.redirect_uri, begun.nonce, begun.verifier)
        response = await _taken_in(request, parts, provider, claims)
    except LoginError as error:
        logger.warning("a login from %s failed: %s", address_of(request, parts) or "an unknown address", error)
        raise error.problem() from error
    flow.forget(request, response)
    return response


async def _taken_in(
    request: web.Request, parts: Parts, provider: OidcProvider[OidcSettings], claims: dict[str, object]
) -> web.Response:
    settings, now = provider.settings, time.time()
    name = claims.get(settings.name_claim)
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise LoginError(f"the login provider gave no name that will do (claim {settings.name_claim})")
    if not is_proved(settings.name_claim, claims):
        # Whoever has a role by their groups could otherwise act in the log under the name of another.
        raise LoginError(f"the login provider has not verified the address {name}")
    login_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    value = login_value(name, claims, settings.grants, digest_of(secret), now, now + settings.session, bearer=False)
    operator = login_operator(login_id, value, settings.grants, settings.issuer)
    call, address = f"{request.method} login", address_of(request, parts)
    if operator is None:
        nobody = Operator(name, next(iter(settings.grants)).role, by="login")
        detail = f"{name} has logged in, and has no role here: ask for one in admin.oidc.roles."
        if parts.operators.is_news(name, call):
            await write_act(parts, nobody, call, address, outcome="refused", role="none", detail=detail)
        raise Problem(403, "No Role", detail)
    # What a provider has said of people is kept no longer than they are logged in.
    over = [Change(LOGIN, key, None) for key, record in parts.records.book.of(LOGIN).items() if _is_over(record, now)]
    change = Change(LOGIN, login_id, value)
    await write_act(parts, operator, call, address, change, quietly=over, detail="has logged in")
    response = web.Response(
        status=303, headers={hdrs.LOCATION: parts.site.path("admin"), hdrs.CACHE_CONTROL: "no-store"}
    )
    session = token_text(login_id, secret)
    set_cookie(parts, response, parts.operators.cookie("operator"), session, int(settings.session))
    return response


def _is_over(record: Record, now: float) -> bool:
    until = (record.value or {}).get("expires_at")
    return not isinstance(until, int | float) or until <= now


async def show(asked: Asked) -> web.Response:
    """A page for who has logged in: as whom, and how to go on with the command line."""
    return _page(asked)


async def make_token(asked: Asked) -> web.Response:
    """A token for the command line, which ends with the session and has whatever role its person has."""
    operator, parts = asked.operator, asked.parts
    record = parts.records.book.of(LOGIN).get(operator.id)
    if record is None:
        raise Problem(409, "No Login", "Only who has logged in can have such a token; see POST tokens.")
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    login = dict(record.value or {})
    session = login.get("session", operator.id)
    value = {**login, "digest": digest_of(secret), "made_at": time.time(), "bearer": True, "session": session}
    await asked.write(Change(LOGIN, token_id, value))
    token = token_text(token_id, secret)
    if _is_for_people(asked.request):
        return _page(asked, token)
    return answer({"id": token_id, "token": token, "expires_at": operator.until}, 201)


async def end(asked: Asked) -> web.Response:
    """Log out."""
    parts = asked.parts
    if asked.operator.id not in asked.parts.records.book.of(LOGIN):
        raise Problem(409, "No Login", "Only who has logged in can log out; a token is revoked (DELETE tokens).")
    await asked.write(Change(LOGIN, asked.operator.id, None))
    response: web.Response = done()
    if _is_for_people(asked.request):
        headers = {"Cache-Control": "no-store"}
        response = asked.request.app[PAGES].response(
            "operator.html", headers=headers, operator=None, path=parts.public_path, own_path=parts.site.path
        )
    response.del_cookie(asked.parts.operators.cookie("operator"), path="/", secure=asked.parts.operators.over_https)
    return response


def _is_for_people(request: web.Request) -> bool:
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


def _page(asked: Asked, token: str = "") -> web.Response:
    parts, operator = asked.parts, asked.operator
    session = asked.request.cookies.get(parts.operators.cookie("operator"), "")
    return asked.request.app[PAGES].response(
        "operator.html",
        headers={hdrs.CACHE_CONTROL: "no-store", "X-Frame-Options": "DENY"},
        path=parts.public_path,
        own_path=parts.site.path,
        operator=operator,
        until=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(operator.until)) if operator.until else "",
        csrf=csrf_token(session) if session else "",
        token=token,
        admin_url=parts.operators.public_url,
    )


def _provider(parts: Parts) -> OidcProvider[OidcSettings]:
    if parts.operators.provider is None:
        raise Problem(404, "No Login", "This gateway has no login of people: admin.oidc is not set; use a token.")
    return parts.operators.provider


def _flow(parts: Parts) -> LoginFlow:
    operators = parts.operators
    redirect_uri = f"{operators.public_url}api/v1/admin/callback"
    return LoginFlow(operators.seal, operators.cookie("login"), redirect_uri, path="/", secure=operators.over_https)


def set_cookie(parts: Parts, response: web.Response, name: str, value: str, max_age: int) -> None:
    """Set a cookie of this API's, which no script reads."""
    response.set_cookie(
        name, value, max_age=max_age, path="/", secure=parts.operators.over_https, httponly=True, samesite="Lax"
    )
