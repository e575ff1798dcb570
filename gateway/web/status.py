"""``/status``: the snapshot, the history and the incidents as a page; badges for pages elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import hdrs, web

from contract.sentences import said
from frontend.catalogues import LANGUAGE
from frontend.pages import PAGES, Pages, Rendered, in_language
from gateway.core import history, incidents
from gateway.core.fleet import FleetSnapshot, MemberView, Policy, Status
from gateway.core.headline import headline
from gateway.core.history import WHOLE, Launches
from gateway.core.incidents import GATEWAY, Incident
from gateway.core.records import Book
from gateway.core.versions import skew
from gateway.core.words import state_word
from gateway.web.figures import in_seconds, percent, span
from gateway.web.kept import Kept
from gateway.web.live import seen_at_once
from gateway.web.parts import PARTS, Parts
from gateway.web.plots import BADGE_COLOURS, Badge, Plot, plot

#: Seconds after which a browser without scripts asks again.
REFRESH = 10

#: Incidents that are over and still shown on the page, and for how many seconds; the feed has more.
RECENT, RECENT_FOR = 10, 14 * 86400.0

#: Seconds for which what was drawn of the past is shown again: it is written once a minute.
DRAWN_EVERY = 15.0

#: Seconds for which the page is shown again, unless what people see at once has changed: all who watch ask for it then.
RENDERED_EVERY = 1.0

#: Badges may be a little old: they stand on pages that are read often.
_BADGE_HEADERS = {"Cache-Control": "public, max-age=30", "Access-Control-Allow-Origin": "*"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time for people and machines."""

    text: str
    iso: str
    ago: str


@dataclass(frozen=True, slots=True)
class Past:
    """How a member has fared."""

    day: Plot
    quarter: Plot
    launches: Launches


#: The page by language, and the past by member.
SHOWN = web.AppKey("SHOWN", Kept[Rendered])
PASTS = web.AppKey("PASTS", Kept[Past])


@dataclass(frozen=True, slots=True)
class Card:
    """A member as its card tells of it, for the page to say; ``facts`` are pairs of a name and a text or a number."""

    name: str
    url: str
    state: str
    level: str
    reasons: tuple[str, ...]
    since: Moment
    facts: Sequence[tuple[str, str | float]]
    past: Past


@dataclass(frozen=True, slots=True)
class Told:
    """An incident or a note as the page tells of it."""

    id: str
    title: str
    at: Moment
    lines: Sequence[tuple[Moment, str, str]]
    """Each with a state's word, or "", and what was said of it in English."""
    open: bool
    lasted: str


async def status_page(request: web.Request) -> web.Response:
    """What routing believes of each member, and how it has fared."""
    app = request.app
    parts, pages, now = app[PARTS], app[PAGES], app[PARTS].fleet.now()
    page = app[SHOWN].of(
        LANGUAGE.get(), now, lambda: _rendered(pages, parts, app[PASTS], now), seen_at_once(parts, now)
    )
    response = pages.answer(page, headers={hdrs.CACHE_CONTROL: "no-store"})
    response.enable_compression()
    return response


def _rendered(pages: Pages, parts: Parts, pasts: Kept[Past], now: float) -> Rendered:
    snapshot, away = parts.fleet.snapshot, parts.replicas.away_since
    found = incidents.incidents(parts.records.book)
    recent = [item for item in found if item.closed_at is not None and now - item.closed_at < RECENT_FOR]

    def past(name: str) -> Past:
        return pasts.of(name, now, lambda: _past(parts.records.book, name, now))

    return pages.rendered(
        "status.html",
        headline=headline(snapshot, now, degraded=away is not None),
        groups=_groups([_card(parts, snapshot, view, past(view.name), now) for view in snapshot.members], snapshot),
        launches=parts.launches.running,
        waiting=parts.launches.waiting,
        whole=past(WHOLE),
        away_for=None if away is None else span(now - away),
        # What befalls all of it goes first.
        standing=[
            _told(item, now)
            for item in sorted(found, key=lambda item: item.subject not in (WHOLE, GATEWAY))
            if item.closed_at is None
        ],
        recent=[_told(item, now) for item in recent[:RECENT]],
        notes=[
            Told(note.id, note.member, _moment(note.at, now), [(_moment(note.at, now), "", note.text)], False, "")
            for note in incidents.notes(parts.records.book)
        ],
        mode=parts.mode,
        shown_for=round(RECENT_FOR / 86400),
        at=_moment(now, now),
        refresh=REFRESH,
    )


def _past(book: Book, name: str, now: float) -> Past:
    return Past(
        plot(history.day_bars(book, name, now), said("The last 24 hours")),
        plot(history.quarter_bars(book, name, now), said("The last 90 days")),
        history.day_launches(book, name, now),
    )


def _groups(cards: Sequence[Card], snapshot: FleetSnapshot) -> list[tuple[str, list[Card]]]:
    """The members by their label ``region``; those that have none stand last, all together where none has one."""
    regions: dict[str, list[Card]] = {}
    for card, view in zip(cards, snapshot.members, strict=True):
        regions.setdefault(view.labels.get("region", ""), []).append(card)
    named = sorted((name, found) for name, found in regions.items() if name)
    rest = [("", regions[""])] if "" in regions else []
    return named + rest


def _card(parts: Parts, snapshot: FleetSnapshot, view: MemberView, past: Past, now: float) -> Card:
    status = snapshot.status(view, now)
    skewed = skew(view.versions, parts.site.version)
    return Card(
        name=view.name,
        url=view.member.url,
        state=state_word(status.state),
        level=_level(status),
        reasons=snapshot.reasons(view, now) + ((skewed,) if skewed else ()),
        since=_moment(view.since, now),
        facts=_facts(view, status, past.launches, now),
        past=past,
    )


def _level(status: Status) -> str:
    """How well it is, as pages and badges show it by colours."""
    if status.state == "full":
        return "partly"
    return "good" if status.available else "out" if status.policy is not Policy.ACTIVE else "bad"


def _facts(view: MemberView, status: Status, launches: Launches, now: float) -> list[tuple[str, str | float]]:
    report = view.received.report if view.received else None
    at = view.received.at if view.received else view.counted.at if view.counted else None
    under_way = sum(item.ready_at is None for item in view.reservations)
    facts: list[tuple[str, str | float]] = [(said("Sessions"), _sessions(view, status))]
    if at is not None:
        facts.append((said("Last report"), said("%(span)s ago", span=span(now - at))))
    if report is not None:
        facts.append((said("Builds"), _of(report.builds.running, report.builds.limit)))
    facts.append((said("Launches under way"), str(under_way)))
    facts.append((said("Launches in 24 h"), str(launches.ready + launches.failed)))
    if (rate := launches.rate) is not None:
        facts.append((said("Success rate"), percent(rate)))
    if (median := launches.median) is not None:
        facts.append((said("Median time to ready"), in_seconds(median)))
    if view.weight != 1:
        facts.append((said("Weight"), view.weight))
    # A member of ours tells its builder's version twice, the second time where BinderHub does.
    versions = ", ".join(sorted({f"{_short(name)} {value}" for name, value in view.versions.items()}))
    return [*facts, (said("Versions"), versions or said("not known"))]


def _short(name: str) -> str:
    """What has the version: BinderHub tells of its builder by "builder_info.repo2docker-version"."""
    return name.rpartition(".")[2].removesuffix("-version")


def _sessions(view: MemberView, status: Status) -> str:
    counted = view.received.report.sessions if view.received else view.counted.sessions if view.counted else None
    if counted is None:
        return said("not known")
    if counted.limit is None:
        return said("%(running)s running", running=counted.running)
    free = "?" if status.free is None else status.free
    limit, running = counted.limit, counted.running
    return said("%(free)s of %(limit)s free, %(running)s running", free=free, limit=limit, running=running)


def _of(running: int, limit: int | None) -> str:
    if limit is None:
        return said("%(running)s running", running=running)
    return said("%(running)s of %(limit)s running", running=running, limit=limit)


def _told(item: Incident, now: float) -> Told:
    lines = [(_moment(change.at, now), item.word(change), change.reason) for change in item.changes]
    end = now if item.closed_at is None else item.closed_at
    lasted = span(end - item.opened_at)
    return Told(item.id, item.title, _moment(item.opened_at, now), lines, item.closed_at is None, lasted)


def _moment(at: float, now: float) -> Moment:
    moment = datetime.fromtimestamp(at, UTC)
    return Moment(time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at)), moment.isoformat(), span(now - at))


async def badge(request: web.Request) -> web.Response:
    """The state of the federation, or of the member that the address names, as an SVG image."""
    parts, pages = request.app[PARTS], request.app[PAGES]
    snapshot, now = parts.fleet.snapshot, parts.fleet.now()
    name = request.match_info.get("member")
    if name is None:
        found = headline(snapshot, now, degraded=parts.replicas.away_since is not None)
        return _badge(pages, parts.site.name, found.word, found.level.value)
    view = snapshot.get(name)
    if view is None:
        # An image with a broken link tells nothing.
        return _badge(pages, name[:63], said("no such member"), "out", 404)
    status = snapshot.status(view, now)
    return _badge(pages, name, state_word(status.state), _level(status))


def _badge(pages: Pages, name: str, word: str, level: str, status: int = 200) -> web.Response:
    language = LANGUAGE.get()
    svg = Badge(name, pages.say(word), BADGE_COLOURS[level], language).svg()
    headers = in_language(language, _BADGE_HEADERS)
    return web.Response(text=svg, status=status, content_type="image/svg+xml", headers=headers)
