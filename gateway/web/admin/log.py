"""The log."""

from typing import Any

from aiohttp import web

from gateway.core.records import AUDIT, Record
from gateway.web.admin.asked import Asked, answer

#: Acts that are shown of the audit log.
SHOWN = 500


async def show(asked: Asked) -> web.Response:
    """The latest acts of operators, newest first."""
    acts = sorted(asked.parts.records.book.of(AUDIT).values(), key=lambda record: record.stamp, reverse=True)
    return answer({"entries": [act_wire(item) for item in acts[:SHOWN]]})


def act_wire(record: Record) -> dict[str, Any]:
    """An act as an entry of the log."""
    act = dict(record.value or {})
    who, what, name = (act.pop(key, "") for key in ("operator", "kind", "key"))
    return {"kind": "act", "at": record.written_at, "who": who, "what": what, "name": name, **act}
