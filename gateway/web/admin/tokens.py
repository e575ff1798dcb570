"""Tokens that are made while the gateway runs: told once, kept as digests, revoked at once."""

import re
import secrets
import time

from aiohttp import web

from gateway.admin_settings import NAME
from gateway.core.operators import (
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
    """The tokens that were made here and are not revoked; no secrets."""
    book, now = asked.parts.records.book, time.time()
    tokens = []
    for token_id, record in sorted(book.of(TOKEN).items(), key=lambda item: item[1].stamp):
        operator = token_operator(token_id, record.value or {})
        if operator is None:
            continue
        used = book.get(TOKEN_USE, token_id)
        wire = {key: value for key, value in (record.value or {}).items() if key != "digest"}
        expired = operator.until is not None and operator.until <= now
        tokens.append({"id": token_id, **wire, "expired": expired, "last_used_at": used.written_at if used else None})
    return answer({"tokens": tokens})


async def create(asked: Asked) -> web.Response:
    """Make a token: ``{"name", "role", "member"?, "scopes"?: [], "for"?: "90d"}``; the answer alone has the secret."""
    wire = await asked.body("name", "role", "member", "scopes", "for")
    for_s = duration(wire, "for")
    for_s = USUAL if for_s is None else for_s
    if not 0 < for_s <= LONGEST:
        raise unprocessable("for", f"must be more than nothing, and at most {LONGEST / 86400:.0f}d")
    now, token_id, secret = time.time(), secrets.token_hex(6), secrets.token_urlsafe(32)
    wanted = _wanted(wire, token_id, now + for_s)
    if beyond := sorted(wanted.may - asked.operator.may):
        detail = f"A token cannot make one that may do more than itself: {asked.operator.name} lacks {beyond[0]}."
        await asked.refused(detail)
    holding = [record for record in asked.parts.records.book.of(TOKEN).values() if _holds(record.value or {}, now)]
    if len(holding) >= MOST:
        raise Problem(409, "Too Many", f"There are {MOST} tokens; revoke some.")
    value = token_value(wanted, digest_of(secret), asked.operator.name, now)
    await asked.write(Change(TOKEN, token_id, value))
    shown = {key: item for key, item in value.items() if key != "digest"}
    return answer({"id": token_id, **shown, "token": token_text(token_id, secret)}, 201)


async def revoke(asked: Asked) -> web.Response:
    """End a token: ``?id=``.  Its record stays as a tombstone, so that no stale replica revives it."""
    token_id = asked.request.query.get("id", "")
    if token_id not in asked.parts.records.book.of(TOKEN):
        raise not_found(
            f"There is no token {token_id[:100]!r}; `manybinder admin tokens list` shows those that there are."
        )
    await asked.write(Change(TOKEN, token_id, None), Change(TOKEN_USE, token_id, None))
    return done()


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
