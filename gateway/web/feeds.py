"""The history and the incidents as data: JSON, and an Atom feed (RFC 4287) in the language that its reader asks for."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from aiohttp import web

from contract.sentences import said
from frontend.catalogues import LANGUAGE
from frontend.pages import PAGES, Pages, in_language
from gateway.core import history, incidents
from gateway.core.history import WHOLE, Bar
from gateway.core.incidents import Incident, Note
from gateway.core.records import Book
from gateway.web.figures import span
from gateway.web.kept import Kept
from gateway.web.parts import PARTS, Parts

#: Entries of the feed.
ENTRIES = 50

# What XML cannot hold (XML 1.0, section 2.2), and a line end that it would change.
_NOT_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ATOM = "http://www.w3.org/2005/Atom"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

#: Seconds for which who reads may show them again; they are made anew no sooner, but for news.
LASTS = 10

_HEADERS = {"Cache-Control": f"public, max-age={LASTS}", "Access-Control-Allow-Origin": "*"}

#: The history and, in each language, the feed, as they are sent.
FEEDS = web.AppKey("FEEDS", Kept[str])


async def show_history(request: web.Request) -> web.Response:
    """How each member has fared, and all incidents and notes that are kept; times are Unix times in seconds."""
    parts = request.app[PARTS]
    response = web.json_response(text=_kept(request, "history", lambda: json.dumps(_wire(parts))), headers=_HEADERS)
    response.enable_compression()
    return response


def _kept(request: web.Request, name: str, make: Callable[[], str]) -> str:
    parts = request.app[PARTS]
    return request.app[FEEDS].of(name, parts.fleet.now(), make, incidents.writings(parts.records.book))


def _wire(parts: Parts) -> dict[str, Any]:
    book, now = parts.records.book, parts.fleet.now()
    return {
        "at": now,
        "federation": _history(book, WHOLE, now),
        "members": {view.name: _history(book, view.name, now) for view in parts.fleet.snapshot.members},
        "incidents": [incident_wire(item) for item in incidents.incidents(book)],
        "notes": [note_wire(item) for item in incidents.notes(book)],
    }


def incident_wire(item: Incident) -> dict[str, Any]:
    """An incident as a JSON object."""
    return {
        "id": item.id,
        "subject": item.subject,
        "title": item.title,
        "opened_at": item.opened_at,
        "closed_at": item.closed_at,
        "changes": [{"at": change.at, "state": change.state, "reason": change.reason} for change in item.changes],
    }


def note_wire(item: Note) -> dict[str, Any]:
    """A note as a JSON object."""
    return {"id": item.id, "at": item.at, "member": item.member, "text": item.text}


def _history(book: Book, name: str, now: float) -> dict[str, Any]:
    day, launches = history.day_bars(book, name, now), history.day_launches(book, name, now)
    return {
        "day": _bars(day),
        "quarter": _bars(history.quarter_bars(book, name, now)),
        "share_well_24h": history.total(day).share_well,
        "launches_24h": {
            "ready": launches.ready,
            "failed": launches.failed,
            "success_rate": launches.rate,
            "median_ready_s": launches.median,
        },
    }


def _bars(bars: Sequence[Bar]) -> dict[str, Any]:
    """Bars of equal width, oldest first, each as seconds well, in trouble, taken out; the rest was not watched."""
    first = bars[0]
    return {
        "from": first.start,
        "width_s": first.end - first.start,
        "bars": [[round(seconds) for seconds in bar.seconds] for bar in bars],
    }


async def atom(request: web.Request) -> web.Response:
    """Incidents and notes as a feed, the latest first; why something happened, and notes, are as they were written."""
    language = LANGUAGE.get()
    text = _kept(request, f"feed {language}", lambda: _atom(request.app[PARTS], request.app[PAGES], language))
    headers = in_language(language, _HEADERS)
    return web.Response(text=text, content_type="application/atom+xml", charset="utf-8", headers=headers)


def _atom(parts: Parts, pages: Pages, language: str) -> str:
    book, page = parts.records.book, f"{parts.site.public_url}status"
    entries = [_of_incident(item, page, pages) for item in incidents.incidents(book)]
    entries += [_of_note(item, page, pages) for item in incidents.notes(book)]
    entries.sort(key=lambda item: item[0], reverse=True)
    feed = ET.Element("feed", {"xmlns": _ATOM, _LANG: language})
    _add(feed, "id", page)
    what = pages.text("incidents and notes")
    _add(feed, "title", f"{parts.site.name}: {what}")
    _add(feed, "updated", _iso(entries[0][0] if entries else 0.0))
    author = ET.SubElement(feed, "author")
    _add(author, "name", parts.site.name)
    ET.SubElement(feed, "link", href=page)
    ET.SubElement(feed, "link", rel="self", href=f"{page}.atom")
    feed.extend(entry for _, entry in entries[:ENTRIES])
    body: bytes = ET.tostring(feed, encoding="utf-8", xml_declaration=True)
    return body.decode()


def _of_incident(item: Incident, page: str, pages: Pages) -> tuple[float, ET.Element]:
    changed = max(change.at for change in item.changes) if item.changes else item.opened_at
    lines = []
    for change in item.changes:
        word = pages.say(item.word(change))
        lines.append(f"{_iso(change.at)} {word}{': ' if word else ''}{change.reason}")
    title = item.title
    if item.closed_at is not None:
        title = said("%(title)s (over, after %(span)s)", title=title, span=span(item.closed_at - item.opened_at))
    entry = _entry(f"{page}#incident-{item.id}", pages.say(title), item.opened_at, changed, "\n".join(lines))
    return changed, entry


def _of_note(item: Note, page: str, pages: Pages) -> tuple[float, ET.Element]:
    title = said("A note about %(member)s", member=item.member) if item.member else said("A note from the operators")
    return item.at, _entry(f"{page}#note-{item.id}", pages.say(title), item.at, item.at, item.text)


def _entry(url: str, title: str, begun: float, changed: float, text: str) -> ET.Element:
    entry = ET.Element("entry")
    for name, value in (("id", url), ("title", title), ("published", _iso(begun)), ("updated", _iso(changed))):
        _add(entry, name, value)
    ET.SubElement(entry, "link", href=url)
    _add(entry, "content", text).set("type", "text")
    return entry


def _add(parent: ET.Element, name: str, text: str) -> ET.Element:
    child = ET.SubElement(parent, name)
    # A member's own words may be anything.
    child.text = _NOT_XML.sub(" ", text)
    return child


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
