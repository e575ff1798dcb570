"""``/status``: the snapshot as a page, without scripts."""

import time
from dataclasses import dataclass

from aiohttp import web

from frontend.pages import PAGES
from gateway.core.fleet import FleetSnapshot, MemberView
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
    rows = [_row(snapshot, view, now) for view in snapshot.members]
    return request.app[PAGES].response(
        "status.html",
        headers={"Cache-Control": "no-store"},
        rows=rows,
        available=sum(row.available for row in rows),
        launches=parts.launches.running,
        at=_clock(now),
        refresh=REFRESH,
    )


def _row(snapshot: FleetSnapshot, view: MemberView, now: float) -> Row:
    status = snapshot.status(view, now)
    report = view.received.report if view.received else None
    sessions = "not known"
    if report is not None and report.sessions.limit is not None:
        free = "?" if status.free is None else str(status.free)
        sessions = f"{free} of {report.sessions.limit} free, {report.sessions.running} running"
    elif report is not None:
        sessions = f"{report.sessions.running} running"
    return Row(
        name=view.name,
        url=view.member.url,
        state=status.state,
        available=status.available,
        reasons=status.reasons,
        since=_clock(view.since),
        since_for=_span(now - view.since),
        sessions=sessions,
        report_age=f"{_span(now - view.received.at)} ago" if view.received else "never",
        weight=f"{view.member.weight:g}",
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
