"""``/canary.git``: the repository that members are checked with, for Git clients."""

from aiohttp import hdrs, web

from gateway.core import canary
from servicekit.problems import Problem


async def file(request: web.Request) -> web.Response:
    """One of its files."""
    _, files = canary.repository()
    body = files.get(request.match_info["path"])
    if body is None:
        raise Problem(404, "Not Found", "The repository that members are checked with has no such file.")
    return web.Response(
        body=body, content_type="application/octet-stream", headers={hdrs.CACHE_CONTROL: "public, max-age=300"}
    )
