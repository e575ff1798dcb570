"""Who may join, and who belongs here no more."""

import re
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from gateway.core.ports import JoinRefusedError
from gateway.core.records import Change
from gateway.core.registration import JOIN_TOKEN, Offer, read_offer, read_terms
from gateway.web.admin.asked import Asked, answer, done, duration, not_found, text, unprocessable
from gateway.web.join import problem_of

#: Seconds for which a join token holds unless something else is asked for, and at most.
USUAL, LONGEST = 86400.0, 30 * 86400.0

_TERMS = ("hosts", "weight", "labels", "client_addresses", "max_sessions", "max_images")

#: As in the configuration, for members of manybinder.
_NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

_HOST = r"(\*\.)?[a-z0-9_:.-]{1,253}"


async def make_token(asked: Asked) -> web.Response:
    """Make a join token: ``{"name", "hosts": [], "weight"?, "labels"?, "client_addresses"?, "max_sessions"?,
    "max_images"?, "for"?: "24h", "replace"?: true}``; the answer alone has it."""
    wire = await asked.body("name", "for", "replace", *_TERMS)
    name, for_s = text(wire, "name"), duration(wire, "for")
    if not re.fullmatch(_NAME, name):
        raise unprocessable("name", "must be lower-case letters, digits and hyphens, at most 63")
    for_s = USUAL if for_s is None else for_s
    if not 0 < for_s <= LONGEST:
        raise unprocessable("for", f"must be more than nothing, and at most {LONGEST / 86400:.0f}d")
    if not isinstance(wire.get("replace", False), bool):
        raise unprocessable("replace", "must be true or false")
    given = {key: wire[key] for key in _TERMS if wire.get(key) is not None}
    try:
        terms = read_terms(given)
    except ValueError as error:
        field, _, problem = str(error).partition(": ")
        raise unprocessable(field, problem) from error
    if wrong := [host for host in terms.hosts if not re.fullmatch(_HOST, host)]:
        raise unprocessable("hosts", f"{wrong[0][:100]!r} is no host name, such as hub.example.org or *.example.org")
    offer = Offer(name, terms, time.time() + for_s, replaces=wire.get("replace", False))
    try:
        token, change = asked.parts.joining.make_token(offer)
    except JoinRefusedError as refusal:
        raise problem_of(refusal) from refusal
    await asked.write(change)
    return answer({**_shown(token.digest, offer), "token": token.text}, 201)


async def show_tokens(asked: Asked) -> web.Response:
    """The join tokens that were made and not revoked; no secrets."""
    tokens = []
    for digest, record in sorted(asked.parts.records.book.of(JOIN_TOKEN).items(), key=lambda item: item[1].stamp):
        try:
            tokens.append(_shown(digest, read_offer(record.value or {})))
        except ValueError:
            continue
    return answer({"join_tokens": tokens})


async def revoke_token(asked: Asked) -> web.Response:
    """End a join token: ``?id=``."""
    token_id = asked.request.query.get("id", "")
    found = [key for key in asked.parts.records.book.of(JOIN_TOKEN) if token_id and key.startswith(token_id)]
    if len(found) != 1:
        raise not_found(f"There is no join token {token_id[:100]!r}.")
    await asked.write(Change(JOIN_TOKEN, found[0], None))
    return done()


async def remove(asked: Asked) -> web.Response:
    """Revoke a member at once, whatever it holds."""
    return await _act(asked, asked.parts.joining.removal)


async def accept(asked: Asked) -> web.Response:
    """Let a pending member take launches, whatever its check has found."""
    return await _act(asked, asked.parts.joining.acceptance)


async def check(asked: Asked) -> web.Response:
    """Check a member (again), from its health to a session of a tiny repository."""
    return await _act(asked, asked.parts.joining.check_request)


async def alerts(asked: Asked) -> web.Response:
    """The alerts that stand at this replica."""
    standing = asked.parts.alerts.standing
    wire = [
        {
            "name": item.name.value,
            "member": item.member,
            "since": item.since,
            "seen_at": item.seen_at,
            "said": item.said,
        }
        for item in standing
    ]
    return answer({"alerts": wire})


async def _act(asked: Asked, changes: Callable[[str], list[Change]]) -> web.Response:
    try:
        found = changes(asked.request.match_info["member"])
    except JoinRefusedError as refusal:
        raise problem_of(refusal) from refusal
    await asked.write(*found)
    asked.parts.joining.refresh()
    return done()


def _shown(digest: str, offer: Offer) -> dict[str, Any]:
    terms = offer.terms
    return {
        "id": digest[:12],
        "name": offer.member,
        "hosts": list(terms.hosts),
        "weight": terms.weight,
        "labels": dict(terms.labels or {}),
        "client_addresses": terms.client_form,
        "max_sessions": terms.max_sessions,
        "max_images": terms.max_images,
        "replace": offer.replaces,
        "expires_at": offer.expires_at,
        "expired": offer.expires_at <= time.time(),
        "used_at": offer.used_at,
    }
