"""Tokens that are made while the gateway runs: told once, kept as digests, revoked at once."""

import math
import re
import secrets
import time
from typing import Any

from aiohttp import web

from gateway.admin_settings import NAME
from gateway.core.operators import (
    LOGIN,
    SCOPES,
    TOKEN,
    TOKEN_USE,
    Operator,
    Role,
    Scope,
    digest_of,
    role_problem,
    token_operator,
    token_text,
    token_value,
)
from gateway.core.records import Change
from gateway.web.admin.asked import Asked, answer, done, duration, not_found, text, unprocessable
from servicekit.problems import Problem

#: Seconds for which a token holds unless something else is asked for, and at most.
USUAL, LONGEST = 90 * 86400.0, 3660 * 86400.0

#: Tokens that hold at a time.
MOST = 1000


async def show(asked: Asked) -> web.Response:
    """The tokens that were made here and the logins of people, unless revoked; no secrets."""
    book, now = asked.parts.records.book, time.time()
    records = [*book.of(TOKEN).values(), *book.of(LOGIN).values()]
    tokens = []
    for record in sorted(records, key=lambda item: item.stamp):
        value = record.value or {}
        operator = token_operator(record.key, value) if record.kind == TOKEN else asked.parts.operators.person(record)
        if operator is None or (record.kind == LOGIN and (operator.until or 0) <= now):
            continue
        used = book.get(TOKEN_USE, record.key)
        tokens.append(
            {
                "id": record.key,
                "by": operator.by,
                **_shown(operator),
                "made_by": value.get("made_by", operator.name),
                "made_at": value.get("made_at"),
                "expired": (operator.until or 0) <= now,
                "last_used_at": used.written_at if used else None,
            }
        )
    return answer({"tokens": tokens})


def _shown(operator: Operator) -> dict[str, Any]:
    return {
        "name": operator.name,
        "role": operator.role.value,
        "member": operator.member,
        "scopes": sorted(operator.scopes),
        "expires_at": operator.until,
    }


async def create(asked: Asked) -> web.Response:
    """Make a token: ``{"name", "role", "member"?, "scopes"?: [], "for"?: "90d"}``; the answer alone has the secret.

    Without ``for`` it holds for 90 days, or until the token ends that makes it.
    """
    wire = await asked.body("name", "role", "member", "scopes", "for")
    for_s = duration(wire, "for")
    now, token_id, secret = time.time(), secrets.token_hex(6), secrets.token_urlsafe(32)
    latest = _latest(asked.operator)
    until = min(now + USUAL, latest) if for_s is None else now + for_s
    if not now < until <= now + LONGEST:
        raise unprocessable("for", f"must be more than nothing, and at most {LONGEST / 86400:.0f}d")
    wanted = _wanted(wire, token_id, until)
    if until > latest:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(latest))
        await asked.refused(f"A token cannot make one that outlives it: that of {asked.operator.name} ends at {when}.")
    if beyond := sorted(wanted.may - asked.operator.may):
        detail = f"A token cannot make one that may do more than itself: {asked.operator.name} lacks {beyond[0]}."
        await asked.refused(detail)
    holding = [record for record in asked.parts.records.book.of(TOKEN).values() if _holds(record.value or {}, now)]
    if len(holding) >= MOST:
        raise Problem(409, "Too Many", f"There are {MOST} tokens; revoke some.")
    value = token_value(wanted, digest_of(secret), asked.operator.name, now)
    await asked.write(Change(TOKEN, token_id, value))
    made = {"made_by": asked.operator.name, "made_at": now}
    return answer({"id": token_id, **_shown(wanted), **made, "token": token_text(token_id, secret)}, 201)


async def revoke(asked: Asked) -> web.Response:
    """End a token, or a login with its tokens: ``?id=``.

    Its record stays as a tombstone, so that no stale replica revives it.
    """
    token_id, book = asked.request.query.get("id", ""), asked.parts.records.book
    kind = next((kind for kind in (TOKEN, LOGIN) if token_id in book.of(kind)), None)
    if kind is None:
        known = "`manybinder admin tokens list` shows those that there are."
        raise not_found(f"There is no token {token_id[:100]!r}; {known}")
    await asked.write(Change(kind, token_id, None), quietly=[Change(TOKEN_USE, token_id, None)])
    return done()


def _latest(maker: Operator) -> float:
    """When a token that they make must end (Unix time): with their own, unless they have logged in as themselves.

    Else a token that somebody has lost could be made to hold for ever.
    """
    return math.inf if maker.until is None or maker.by == "login" else maker.until


def _wanted(wire: dict[str, object], token_id: str, until: float) -> Operator:
    name, member = text(wire, "name"), text(wire, "member")
    if not re.fullmatch(NAME, name):
        raise unprocessable("name", "must be 1 to 100 letters, digits or any of @._+-")
    try:
        role = Role(text(wire, "role"))
    except ValueError:
        raise unprocessable("role", f"must be one of {', '.join(Role)}") from None
    given = wire.get("scopes")
    if given is not None and not isinstance(given, list):
        raise unprocessable("scopes", "must be a list")
    try:
        scopes = frozenset(Scope(item) for item in given or SCOPES[role])
    except ValueError:
        raise unprocessable("scopes", f"may hold {', '.join(Scope)}") from None
    if problem := role_problem(role, member, scopes):
        raise unprocessable("member" if "member" in problem.partition(",")[0] else "scopes", problem)
    return Operator(name, role, member, scopes, "token", token_id, until)


def _holds(value: object, now: float) -> bool:
    until = value.get("expires_at") if isinstance(value, dict) else None
    return isinstance(until, int | float) and until > now
