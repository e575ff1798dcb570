"""Quotas."""

from aiohttp import web

from gateway.core.admission import QUOTA, quota_key
from gateway.core.records import Change
from gateway.web.admin.asked import Asked, answer, done, not_found, text, unprocessable


async def show(asked: Asked) -> web.Response:
    """The quotas as of now, with those of single repositories and owners."""
    quotas = asked.parts.admission.rules.quotas
    return answer(
        {
            "total": quotas.total,
            "per_repo": quotas.per_repo,
            "per_repo_higher": quotas.per_repo_higher,
            "repos": dict(quotas.repos),
        }
    )


async def put(asked: Asked) -> web.Response:
    """Set a quota: ``{"name": "total" | "per_repo" | "github.com/org[/repo]", "limit": n | null}``."""
    wire = await asked.body("name", "limit")
    limit = wire.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= 10**9):
        raise unprocessable("limit", "must be a count of sessions, or null for no limit")
    key = _key(text(wire, "name"))
    await asked.write(Change(QUOTA, key, {"limit": limit}))
    return answer({"name": key, "limit": limit})


async def drop(asked: Asked) -> web.Response:
    """Go by the configuration again: ``?name=``."""
    key = _key(asked.request.query.get("name", ""))
    if key not in asked.parts.records.book.of(QUOTA):
        raise not_found(f"No quota of the name {key[:200]!r} was set here.")
    await asked.write(Change(QUOTA, key, None))
    return done()


def _key(name: str) -> str:
    try:
        return quota_key(name)
    except ValueError as error:
        raise unprocessable("name", str(error)) from error
