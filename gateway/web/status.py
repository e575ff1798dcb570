"""``/status``: the snapshot as a page, without scripts."""

import time
from dataclasses import dataclass

from aiohttp import web

from frontend.pages import PAGES
from gateway.core.fleet import FleetSnapshot, MemberView
from gateway.core.versions import skew
from gateway.web.parts import PARTS

#: Seconds after which a browser asks again.
REFRESH = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A member as its row tells of it."""

    name: str
    url: str
    state: str
    available: bool
    reasons: tuple[str, ...]
    since: str
    since_for: str
    sessions: str
    report_age: str
    weight: str
    versions: str


async def status_page(request: web.Request) -> web.Response:
    """What routing believes of each member."""
    parts = request.app[PARTS]
    snapshot, now = parts.fleet.snapshot, parts.fleet.now()
    rows = [_row(snapshot, view, now, parts.site.version) for view in snapshot.members]
    return request.app[PAGES].response(
        "status.html",
        headers={"Cache-Control": "no-store"},
        rows=rows,
        available=sum(row.available for row in rows),
        launches=parts.launches.running,
        away_for=None if parts.replicas.away_since is None else _span(now - parts.replicas.away_since),
        replicas=sorted(parts.replicas.known),
        mode=parts.mode,
        at=_clock(now),
        refresh=REFRESH,
    )


def _row(snapshot: FleetSnapshot, view: MemberView, now: float, own_version: str) -> Row:
    status = snapshot.status(view, now)
    counted = view.received.report.sessions if view.received else view.counted.sessions if view.counted else None
    counted_at = view.received.at if view.received else view.counted.at if view.counted else None
    sessions = "not known"
    if counted is not None and counted.limit is not None:
        free = "?" if status.free is None else str(status.free)
        sessions = f"{free} of {counted.limit} free, {counted.running} running"
    elif counted is not None:
        sessions = f"{counted.running} running"
    return Row(
        name=view.name,
        url=view.member.url,
        state=status.state,
        available=status.available,
        reasons=snapshot.reasons(view, now) + ((skewed,) if (skewed := skew(view.versions, own_version)) else ()),
        since=_clock(view.since),
        since_for=_span(now - view.since),
        sessions=sessions,
        report_age="never" if counted_at is None else f"{_span(now - counted_at)} ago",
        weight=f"{view.weight:g}",
        versions=", ".join(f"{name} {value}" for name, value in sorted(view.versions.items())) or "not known",
    )


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _span(seconds: float) -> str:
    """A span for people, in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
