"""Bans, and what members propose."""

import time
from typing import Any

from aiohttp import web

from contract.bans import MAX_BANS, BanError, make_ban
from gateway.core.admission import BAN, PROPOSAL, ban_value, proposals_of
from gateway.core.records import Change
from gateway.web.admin.asked import Asked, answer, done, duration, not_found, text, unprocessable
from gateway.web.parts import Parts
from servicekit.problems import Problem


async def show(asked: Asked) -> web.Response:
    """Every ban in force, and what members propose."""
    return answer(bans_wire(asked.parts))


def bans_wire(parts: Parts) -> dict[str, list[dict[str, Any]]]:
    """Every ban in force, and what members propose, as a JSON object."""
    now = time.time()
    bans = [{**ban_value(ban), "name": ban.name} for ban in parts.admission.rules.bans if ban.holds(now)]
    proposals = [{**value, "name": name} for name, value in sorted(proposals_of(parts.records.book).items())]
    return {"bans": bans, "proposals": proposals}


async def put(asked: Asked) -> web.Response:
    """Ban: ``{"kind", "value", "reason"?, "for"?: "24h", "proposal"?: its name}``."""
    parts = asked.parts
    wire = await asked.body("kind", "value", "reason", "for", "proposal")
    kind, value, reason, proposal = (text(wire, name) for name in ("kind", "value", "reason", "proposal"))
    for_s = duration(wire, "for")
    try:
        ban = make_ban(kind, value, reason, None if for_s is None else time.time() + for_s)
    except BanError as error:
        raise unprocessable(error.path, str(error).partition(": ")[2]) from error
    book = parts.records.book
    if proposal and proposal not in book.of(PROPOSAL):
        raise not_found(f"There is no proposal {proposal[:200]!r}.")
    if ban.name not in book.of(BAN) and len(parts.admission.rules.bans) >= MAX_BANS:
        raise Problem(409, "Too Many", f"There are {MAX_BANS} bans; lift some, or ban a larger network or an owner.")
    answered = [Change(PROPOSAL, proposal, None)] if proposal else []
    await asked.write(Change(BAN, ban.name, ban_value(ban)), *answered)
    return answer({**ban_value(ban), "name": ban.name})


async def lift(asked: Asked) -> web.Response:
    """End a ban: ``?name=network:192.0.2.0/24``."""
    parts, name = asked.parts, asked.request.query.get("name", "")
    if name not in parts.records.book.of(BAN):
        if any(ban.name == name for ban in parts.admission.rules.bans):
            detail = f"The ban {name} stands in the gateway's configuration; take it out there."
            raise Problem(409, "Configured", detail)
        raise not_found(f"There is no ban {name[:200]!r}.")
    await asked.write(Change(BAN, name, None))
    return done()


async def dismiss(asked: Asked) -> web.Response:
    """Dismiss what a member proposes: ``?name=``."""
    name = asked.request.query.get("name", "")
    if name not in asked.parts.records.book.of(PROPOSAL):
        raise not_found(f"There is no proposal {name[:200]!r}.")
    await asked.write(Change(PROPOSAL, name, None))
    return done()
