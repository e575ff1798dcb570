"""The log: decisions, transitions and acts."""

import math
import time
from dataclasses import replace
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from contract.repos import repo_key
from contract.units import parse_duration
from gateway.core.log import KINDS, Entry, Query
from gateway.core.operators import Operator, Role
from gateway.core.ports import LogAwayError
from gateway.web.admin.asked import Asked, answer, unprocessable
from gateway.web.parts import Parts
from servicekit.problems import Problem

#: Entries that are shown at a time, at most.
MOST = 1000


async def show(asked: Asked) -> web.Response:
    """The latest entries, newest first: ``?kind=act,transition&member=&repo=&who=&since=2h&limit=100``."""
    entries = await entries_wire(asked.parts, asked.operator, _query(asked.request.query))
    return answer({"replica": asked.parts.replicas.name, "entries": entries})


async def entries_wire(parts: Parts, operator: Operator, query: Query) -> list[dict[str, Any]]:
    """The entries that an operator may read of those that are wanted, as JSON objects; raises :class:`Problem`."""
    try:
        entries = await parts.log.find(query)
    except LogAwayError as error:
        raise Problem(503, "No Log", f"The log cannot be read: {error}") from error
    return [_for(operator, entry).to_wire() for entry in entries]


def _for(operator: Operator, entry: Entry) -> Entry:
    """Where others work from is not for a member's operator to know."""
    if operator.role is not Role.MEMBER or entry.who == operator.name or not entry.body:
        return entry
    return replace(entry, body={key: value for key, value in entry.body.items() if key != "address"})


def _query(given: MultiMapping[str]) -> Query:
    if strange := sorted(set(given) - {"kind", "member", "repo", "who", "since", "limit"}):
        raise unprocessable(strange[0], "is not a filter (known: kind, limit, member, repo, since, who)")
    kinds = frozenset(item for text in given.getall("kind", []) for item in text.split(",") if item)
    if wrong := sorted(kinds - set(KINDS)):
        raise unprocessable("kind", f"{wrong[0][:40]!r} is not one of {', '.join(KINDS)}")
    repo = given.get("repo", "").strip()
    return Query(
        kinds=kinds or frozenset(KINDS),
        member=given.get("member", ""),
        repo=repo_key(repo) if repo else "",
        who=given.get("who", ""),
        since=_since(given.get("since", "")),
        limit=_limit(given.get("limit", "100")),
    )


def _since(text: str) -> float:
    """Unix time, from a duration before now or a Unix time; 0 where none is given."""
    if not text:
        return 0.0
    try:
        return time.time() - parse_duration(text)
    except ValueError:
        pass
    try:
        since = float(text)
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise unprocessable("since", "must be a duration before now, such as 2h, or a Unix time in seconds")
    return since


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise unprocessable("limit", f"must be a number from 1 to {MOST}")
    return int(text)
