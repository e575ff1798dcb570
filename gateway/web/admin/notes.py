"""What operators say to visitors on the status page."""

import secrets

from aiohttp import web

from gateway.core.incidents import NOTE, notes
from gateway.core.operators import Scope
from gateway.core.records import Change
from gateway.web.admin.asked import Asked, answer, done, not_found, text, unprocessable
from gateway.web.feeds import note_wire
from servicekit.problems import Problem

#: Characters of a note, and notes that stand at a time.
LONGEST, MOST = 2000, 50


async def show(asked: Asked) -> web.Response:
    """The notes that stand, the latest first."""
    return answer({"notes": [note_wire(item) for item in notes(asked.parts.records.book)]})


async def put(asked: Asked) -> web.Response:
    """Say something: ``{"text", "member"?: whom it is about}``; a member's own operator may, of that member."""
    wire = await asked.body("text", "member")
    said, member = text(wire, "text").strip(), text(wire, "member")
    if not said or len(said) > LONGEST:
        raise unprocessable("text", f"must be a text of 1 to {LONGEST} characters")
    if member and asked.parts.fleet.snapshot.get(member) is None:
        raise not_found(f"No member of the name {member[:100]!r} is registered here.")
    await _allowed(asked, member)
    if len(notes(asked.parts.records.book)) >= MOST:
        raise Problem(409, "Too Many", f"There are {MOST} notes; take some back.")
    note_id = secrets.token_hex(6)
    await asked.write(Change(NOTE, note_id, {"text": said, "member": member}))
    return answer({"id": note_id, "text": said, "member": member}, 201)


async def drop(asked: Asked) -> web.Response:
    """Take a note back: ``?id=``."""
    note_id = asked.request.query.get("id", "")
    found = next((item for item in notes(asked.parts.records.book) if item.id == note_id), None)
    if found is None:
        raise not_found(f"There is no note {note_id[:40]!r}.")
    await _allowed(asked, found.member)
    await asked.write(Change(NOTE, note_id, None))
    return done()


async def _allowed(asked: Asked, member: str) -> None:
    """What is said of the whole federation is for who decides for it."""
    if member:
        await asked.require(Scope.ROUTE, member)
    else:
        await asked.require(Scope.MEMBERS)
