"""``/api/v1/admin``: what operators decide while the gateway runs.  Each act is written down for all replicas."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from contract.bans import MAX_BANS, BanError, make_ban
from contract.json_types import loads_object
from contract.units import parse_duration
from gateway.core.admission import BAN, PROPOSAL, QUOTA, ban_value, proposals_of, quota_key
from gateway.core.fleet import Policy
from gateway.core.ports import RecordsAwayError
from gateway.core.records import AUDIT, POLICY, Change
from gateway.web.parts import PARTS, Parts
from servicekit.problems import Problem

#: Acts that are shown of the audit log.
SHOWN_ACTS = 500

_NO_STORE = {"Cache-Control": "no-store"}


async def show_bans(request: web.Request) -> web.Response:
    """Every ban in force, and what members propose."""
    parts, _ = _asked(request)
    now = time.time()
    bans = [{**ban_value(ban), "name": ban.name} for ban in parts.admission.rules.bans if ban.holds(now)]
    proposals = [{**value, "name": name} for name, value in sorted(proposals_of(parts.records.book).items())]
    return web.json_response({"bans": bans, "proposals": proposals}, headers=_NO_STORE)


async def put_ban(request: web.Request) -> web.Response:
    """Ban: ``{"kind", "value", "reason"?, "for"?: "24h", "proposal"?: its name}``."""
    parts, operator = _asked(request)
    wire = await _body(request, {"kind", "value", "reason", "for", "proposal"})
    kind, value, reason, proposal = (_text(wire, name) for name in ("kind", "value", "reason", "proposal"))
    until = None
    if wire.get("for") is not None:
        try:
            until = time.time() + parse_duration(str(wire["for"]))
        except ValueError as error:
            raise _unprocessable("for", str(error)) from error
    try:
        ban = make_ban(kind, value, reason, until)
    except BanError as error:
        raise _unprocessable(error.path, str(error).partition(": ")[2]) from error
    book = parts.records.book
    if proposal and proposal not in book.of(PROPOSAL):
        raise Problem(404, "Not Found", f"There is no proposal {proposal[:200]!r}.")
    if ban.name not in book.of(BAN) and len(parts.admission.rules.bans) >= MAX_BANS:
        raise Problem(409, "Too Many", f"There are {MAX_BANS} bans; lift some, or ban a larger network or an owner.")
    answered = [Change(PROPOSAL, proposal, None)] if proposal else []
    await _write(parts, operator, Change(BAN, ban.name, ban_value(ban)), *answered)
    return web.json_response({**ban_value(ban), "name": ban.name}, headers=_NO_STORE)


async def lift_ban(request: web.Request) -> web.Response:
    """End a ban: ``?name=network:192.0.2.0/24``."""
    parts, operator = _asked(request)
    name = request.query.get("name", "")
    if name not in parts.records.book.of(BAN):
        if any(ban.name == name for ban in parts.admission.rules.bans):
            detail = f"The ban {name} stands in the gateway's configuration; take it out there."
            raise Problem(409, "Configured", detail)
        raise Problem(404, "Not Found", f"There is no ban {name[:200]!r}.")
    await _write(parts, operator, Change(BAN, name, None))
    return web.Response(status=204)


async def dismiss_proposal(request: web.Request) -> web.Response:
    """Dismiss what a member proposes: ``?name=``."""
    parts, operator = _asked(request)
    name = request.query.get("name", "")
    if name not in parts.records.book.of(PROPOSAL):
        raise Problem(404, "Not Found", f"There is no proposal {name[:200]!r}.")
    await _write(parts, operator, Change(PROPOSAL, name, None))
    return web.Response(status=204)


async def show_quotas(request: web.Request) -> web.Response:
    """The quotas as of now, with those of single repositories and owners."""
    parts, _ = _asked(request)
    quotas = parts.admission.rules.quotas
    answer = {
        "total": quotas.total,
        "per_repo": quotas.per_repo,
        "per_repo_higher": quotas.per_repo_higher,
        "repos": dict(quotas.repos),
    }
    return web.json_response(answer, headers=_NO_STORE)


async def put_quota(request: web.Request) -> web.Response:
    """Set a quota: ``{"name": "total" | "per_repo" | "github.com/org[/repo]", "limit": n | null}``."""
    parts, operator = _asked(request)
    wire = await _body(request, {"name", "limit"})
    limit = wire.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= 10**9):
        raise _unprocessable("limit", "must be a count of sessions, or null for no limit")
    key = _quota_key(_text(wire, "name"))
    await _write(parts, operator, Change(QUOTA, key, {"limit": limit}))
    return web.json_response({"name": key, "limit": limit}, headers=_NO_STORE)


async def drop_quota(request: web.Request) -> web.Response:
    """Go by the configuration again: ``?name=``."""
    parts, operator = _asked(request)
    key = _quota_key(request.query.get("name", ""))
    if key not in parts.records.book.of(QUOTA):
        raise Problem(404, "Not Found", f"No quota of the name {key[:200]!r} was set here.")
    await _write(parts, operator, Change(QUOTA, key, None))
    return web.Response(status=204)


async def put_policy(request: web.Request) -> web.Response:
    """What is wanted of a member: ``{"policy": "active" | "draining" | "suspended"}``."""
    parts, operator = _asked(request)
    name = request.match_info["member"]
    if parts.fleet.snapshot.get(name) is None:
        raise Problem(404, "Not Found", f"No member of the name {name[:100]!r} is registered here.")
    policy = _text(await _body(request, {"policy"}), "policy")
    known = (Policy.ACTIVE, Policy.DRAINING, Policy.SUSPENDED)
    if policy not in known:
        raise _unprocessable("policy", f"must be one of {', '.join(known)}")
    await _write(parts, operator, Change(POLICY, name, {"policy": policy} if policy != Policy.ACTIVE else None))
    return web.json_response({"name": name, "policy": policy}, headers=_NO_STORE)


async def show_audit(request: web.Request) -> web.Response:
    """The latest acts of operators, newest first."""
    parts, _ = _asked(request)
    acts = sorted(parts.records.book.of(AUDIT).values(), key=lambda record: record.stamp, reverse=True)
    wire = [{"at": record.written_at, **(record.value or {})} for record in acts[:SHOWN_ACTS]]
    return web.json_response({"acts": wire}, headers=_NO_STORE)


def _asked(request: web.Request) -> tuple[Parts, str]:
    parts = request.app[PARTS]
    return parts, parts.operators.name(request)


async def _body(request: web.Request, known: set[str]) -> dict[str, Any]:
    try:
        wire = loads_object(await request.read())
    except ValueError as error:
        raise Problem(400, "Bad Request", f"The body must be a JSON object: {error}.") from error
    if strange := sorted(wire.keys() - known):
        raise _unprocessable(strange[0], f"is not a field of this (known: {', '.join(sorted(known))})")
    return wire


def _text(wire: Mapping[str, Any], name: str) -> str:
    value = wire.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _unprocessable(name, "must be a text")
    return value


def _quota_key(name: str) -> str:
    try:
        return quota_key(name)
    except ValueError as error:
        raise _unprocessable("name", str(error)) from error


def _unprocessable(field: str, problem: str) -> Problem:
    return Problem(422, "Unprocessable Content", f"{field}: {problem}", field=field)


async def _write(parts: Parts, operator: str, *changes: Change) -> None:
    """Write records, and who has done so; raises :class:`Problem`."""
    acts = [
        Change(AUDIT, secrets.token_hex(8), {"operator": operator, "kind": kind, "key": key, "value": value})
        for kind, key, value in changes
    ]
    try:
        await parts.records.write(*changes, *acts)
    except RecordsAwayError as error:
        raise Problem(
            503, "Not Kept", f"This cannot be kept on the gateway's disk, and was not done: {error}"
        ) from error
