"""``/admin``: the federation for operators, as a page of forms that needs no scripts.

Each form does what a call of the API does, by the same handler and with the same scope; :data:`FORMS` says which.  Who
has no login logs in with a token, which the browser then holds sealed in a cookie.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler as WebHandler

from contract.sentences import said
from frontend.pages import PAGES
from gateway.core import incidents
from gateway.core.admission import QUOTA
from gateway.core.headline import headline
from gateway.core.log import ACT, DECISION, TRANSITION, Query
from gateway.core.operators import Operator, Scope, csrf_token, refusal
from gateway.core.words import state_word
from gateway.web.admin.asked import Asked, Handler, address_of
from gateway.web.admin.bans import bans_wire
from gateway.web.admin.log import entries_wire
from gateway.web.admin.login import set_cookie
from gateway.web.admin.members import members_wire
from gateway.web.admin.operators import TYPED_FOR, TYPED_PREFIX
from gateway.web.admin.routes import ROUTES
from gateway.web.figures import span
from gateway.web.parts import PARTS, Parts
from servicekit.problems import Problem

logger = logging.getLogger(__name__)

#: Numbers that are greater are Unix times (2001).
LONG_AGO = 1e9

#: Entries of each kind of the log that are shown.
SHOWN = 15

_API: Mapping[tuple[str, str], tuple[Scope, Handler]] = {
    (method, route): (scope, handler) for method, route, scope, handler in ROUTES
}

Form = Mapping[str, str]


def _texts(*names: str) -> Callable[[Form], dict[str, Any]]:
    return lambda form: {name: form[name].strip() for name in names if form.get(name, "").strip()}


def _weight(form: Form) -> dict[str, Any]:
    try:
        weight = float(form.get("weight", ""))
    except ValueError:
        weight = math.nan
    # What is no number is refused with the field's name.
    return {"weight": weight if math.isfinite(weight) else None}


def _quota(form: Form) -> dict[str, Any]:
    limit = form.get("limit", "").strip()
    is_number = limit.isdecimal() and len(limit) < 20
    return {"name": form.get("name", "").strip(), "limit": int(limit) if is_number else limit or None}


@dataclass(frozen=True, slots=True)
class FormOf:
    """A form of the page: the call that it stands for, what it says there, and what is said when that is done."""

    method: str
    route: str
    fields: Callable[[Form], dict[str, Any]]
    done: str
    section: str


#: By their addresses below ``admin/``.
FORMS: Mapping[str, FormOf] = {
    "members/{member}/policy": FormOf(
        "PUT", "members/{member}/policy", _texts("policy"), said("It is set."), "members"
    ),
    "members/{member}/weight": FormOf("PUT", "members/{member}/weight", _weight, said("The weight is set."), "members"),
    "members/{member}/registered": FormOf(
        "DELETE", "members/{member}/weight", _texts(), said("It has the weight of its registration."), "members"
    ),
    "members/{member}/accept": FormOf("POST", "members/{member}/accept", _texts(), said("It is accepted."), "members"),
    "members/{member}/check": FormOf(
        "POST", "members/{member}/check", _texts(), said("It is being checked."), "members"
    ),
    "notes/add": FormOf(
        "POST", "notes", _texts("text", "member"), said("Visitors see it on the status page."), "notes"
    ),
    "notes/drop": FormOf("DELETE", "notes", _texts(), said("The note is taken back."), "notes"),
    "bans/add": FormOf(
        "PUT", "bans", _texts("kind", "value", "reason", "for", "proposal"), said("It is banned."), "bans"
    ),
    "bans/lift": FormOf("DELETE", "bans", _texts(), said("The ban is lifted."), "bans"),
    "proposals/dismiss": FormOf("DELETE", "proposals", _texts(), said("The proposal is dismissed."), "bans"),
    "quotas/set": FormOf("PUT", "quotas", _quota, said("The quota is set."), "quotas"),
    "quotas/drop": FormOf("DELETE", "quotas", _texts(), said("The configuration counts again."), "quotas"),
}


def add_admin_page(app: web.Application) -> None:
    """Serve the page and its forms."""
    site = app[PARTS].site
    app.router.add_get(site.path("admin"), show)
    app.router.add_post(site.path("admin/login"), log_in)
    app.router.add_post(site.path("admin/logout"), log_out)
    for route, form in FORMS.items():
        app.router.add_post(site.path(f"admin/{route}"), _doing(form))


async def show(request: web.Request) -> web.Response:
    """The page, or the way in."""
    try:
        operator = await request.app[PARTS].operators.identify(request)
    except Problem as problem:
        # Who comes without anything is told how to get in, and not that something is wrong.
        came_with = hdrs.AUTHORIZATION in request.headers or _cookie(request)
        return _entrance(request, 401, problem.detail if came_with else "")
    done = FORMS.get(request.query.get("done", ""))
    if done is not None:
        # Another replica may have done it.
        await request.app[PARTS].records.sync()
    return await _page(request, operator, form=done)


async def log_in(request: web.Request) -> web.Response:
    """Take in who types a token."""
    parts = request.app[PARTS]
    try:
        # Else a page elsewhere could log somebody in as somebody else.
        parts.operators.check_origin(request)
    except Problem as problem:
        return _entrance(request, problem.status, problem.detail)
    token = str((await request.post()).get("token", "")).strip()
    operator = await parts.operators.known(token) if token.isascii() else None
    if operator is None or (operator.until is not None and operator.until <= time.time()):
        address = address_of(request, parts)
        if parts.operators.is_news("", address):
            logger.warning("a login with a token that is not known, from %s", address or "an unknown address")
        return _entrance(request, 401, said("This token is not known here, has expired, or was revoked."))
    response = _see(parts, "")
    session = parts.operators.session_of(token)
    set_cookie(parts, response, parts.operators.cookie("operator"), session, int(TYPED_FOR))
    return response


async def log_out(request: web.Request) -> web.Response:
    """Forget the token that was typed here."""
    parts = request.app[PARTS]
    response = _see(parts, "")
    if _cookie(request):
        try:
            await parts.operators.identify(request)
        except Problem as problem:
            if problem.status == 403:
                return _entrance(request, 403, problem.detail)
    response.del_cookie(parts.operators.cookie("operator"), path="/", secure=parts.operators.over_https)
    return response


def _doing(form: FormOf) -> WebHandler:
    """What a form does: the same as its call of the API."""
    scope, handler = _API[form.method, form.route]

    async def act(request: web.Request) -> web.StreamResponse:
        parts = request.app[PARTS]
        try:
            operator = await parts.operators.identify(request)
        except Problem as problem:
            return _entrance(request, problem.status, problem.detail)
        given = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        call = f"{form.method} {form.route.format(**request.match_info)}"
        asked = Asked(request, parts, operator, call, address_of(request, parts), form.fields(given))
        try:
            await asked.require(scope, request.match_info.get("member"))
            await handler(asked)
        except Problem as problem:
            return await _page(request, operator, status=problem.status, form=form, error=problem.detail, given=given)
        route = next(name for name, item in FORMS.items() if item is form)
        return _see(parts, f"?done={route.replace('{member}', '%7Bmember%7D')}#{form.section}")

    return act


def _see(parts: Parts, rest: str) -> web.Response:
    """Go on to the page, which a reload then asks for, and not for the same act again."""
    location = parts.site.path("admin") + rest
    return web.Response(status=303, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})


def _cookie(request: web.Request) -> str:
    return request.cookies.get(request.app[PARTS].operators.cookie("operator"), "")


_HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Frame-Options": "DENY"}


def _entrance(request: web.Request, status: int, error: str) -> web.Response:
    parts = request.app[PARTS]
    return request.app[PAGES].response(
        "admin_login.html",
        status=status,
        headers=_HEADERS,
        path=parts.public_path,
        own_path=parts.site.path,
        error=error,
        people=parts.operators.provider is not None,
    )


async def _page(
    request: web.Request,
    operator: Operator,
    *,
    status: int = 200,
    form: FormOf | None = None,
    error: str = "",
    given: Form = MappingProxyType({}),
) -> web.Response:
    """The page, which says of a form that it is done, or why not; then what was ``given`` stands there again."""
    parts, now = request.app[PARTS], request.app[PARTS].fleet.now()
    log = {
        kind: await entries_wire(parts, operator, Query(kinds=frozenset({kind}), limit=SHOWN))
        for kind in (DECISION, TRANSITION, ACT)
    }
    quotas, banned = parts.admission.rules.quotas, bans_wire(parts)
    session = _cookie(request)
    return request.app[PAGES].response(
        "admin.html",
        status=status,
        headers=_HEADERS,
        path=parts.public_path,
        own_path=parts.site.path,
        error=error,
        done=form.done if form and not error else "",
        section=form.section if form else "",
        given=given,
        operator=operator,
        until=_clock(operator.until) if operator.until else "",
        may=lambda scope, member=None: refusal(operator, Scope(scope), member) is None,
        csrf=csrf_token(session) if session else "",
        typed=session.startswith(TYPED_PREFIX),
        headline=headline(parts.fleet.snapshot, now, degraded=parts.replicas.away_since is not None),
        alerts=parts.alerts.standing,
        members=members_wire(parts),
        notes=incidents.notes(parts.records.book),
        quotas={"total": quotas.total, "per_repo": quotas.per_repo, **dict(sorted(quotas.repos.items()))},
        set_quotas=sorted(parts.records.book.of(QUOTA)),
        log=log,
        clock=_clock,
        iso=lambda at: datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds"),
        ago=lambda at: span(now - at),
        in_words=_in_words,
        state_word=state_word,
        bans=banned["bans"],
        proposals=banned["proposals"],
    )


def _clock(at: float, shape: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return time.strftime(shape, time.gmtime(at))


def _in_words(value: Mapping[str, Any]) -> str:
    """What a record has been set to; what says nothing is left out, and Unix times are told as such."""
    parts = []
    for name, item in value.items():
        if isinstance(item, dict):
            if inner := _in_words(item):
                parts.append(f"{name} ({inner})")
        elif isinstance(item, float) and item > LONG_AGO:
            parts.append(f"{name.removesuffix('_at')} {_clock(item)}")
        elif item or (item == 0 and item is not False):
            parts.append(f"{name} {' '.join(map(str, item)) if isinstance(item, list) else item}")
    return ", ".join(parts)
