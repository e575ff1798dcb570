"""``/api/v1/archive``: the public archive of launches, as the files that it consists of."""

import asyncio
import re
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from aiohttp import hdrs, web

from servicekit.problems import Problem

#: Where the archive is; ``None``: there is none.
DIRECTORY: web.AppKey[Path | None] = web.AppKey("ARCHIVE_DIRECTORY")

#: The form in which a line is a JSON value.
CONTENT_TYPE = "application/x-ndjson"

_DAY = re.compile(r"events-(?P<date>\d{4}-\d\d-\d\d)\.jsonl", re.ASCII)

# A launch that ended just before midnight may be written after it; what is older does not change.
_MAY_CHANGE, _STANDS = "public, max-age=60", "public, max-age=86400"


async def index(request: web.Request) -> web.StreamResponse:
    """The days that there are, one a line."""
    return await _file(request, "index.jsonl", _MAY_CHANGE)


async def day(request: web.Request) -> web.StreamResponse:
    """The launches of a day, one a line."""
    name = request.match_info["name"]
    match = _DAY.fullmatch(name)
    try:
        found = date.fromisoformat(match["date"]) if match else None
    except ValueError:
        found = None
    if found is None:
        raise Problem(404, "Not Found", "The archive has files of the form events-YYYY-MM-DD.jsonl, and index.jsonl.")
    today = datetime.fromtimestamp(time.time(), UTC).date()
    return await _file(request, name, _STANDS if found < today - timedelta(days=1) else _MAY_CHANGE)


async def _file(request: web.Request, name: str, caching: str) -> web.StreamResponse:
    directory = request.app[DIRECTORY]
    if directory is None or not await asyncio.to_thread((directory / name).is_file):
        raise Problem(404, "Not Found", "The archive of launches has no such file.")
    headers = {
        hdrs.CONTENT_TYPE: CONTENT_TYPE,
        hdrs.CACHE_CONTROL: caching,
        # It is public: any page may read it.
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
    }
    return web.FileResponse(directory / name, headers=headers)
