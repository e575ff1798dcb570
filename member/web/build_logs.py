"""``/api/v1/builds/{id}/log``: a build's log as text, while it runs and afterwards."""

import asyncio
import contextlib

from aiohttp import ClientConnectionError, hdrs, web

from member.web.parts import PARTS
from servicekit.problems import Problem
from servicekit.streams import STREAM_HEADERS, WRITE_TIMEOUT_S


async def show_log(request: web.Request) -> web.StreamResponse:
    """The log from its beginning to the end of the build; ``?follow=false``: as far as it goes now."""
    logs, log_id = request.app[PARTS].logs, request.match_info["build_id"]
    if not logs.find(log_id):
        # Each replica keeps the logs of the builds that it has followed.
        if (answer := await request.app[PARTS].forwarding.first_that_knows(request)) is not None:
            return answer
        raise Problem(404, "Not Found", "There is no log of this build here (any more).")
    response = web.StreamResponse(headers=STREAM_HEADERS)
    response.content_type, response.charset = "text/plain", "utf-8"
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        return response
    live = request.query.get("follow", "").lower() != "false"
    try:
        async with contextlib.aclosing(logs.follow(log_id, live=live)) as chunks:
            async for chunk in chunks:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await response.write(chunk)
    except ClientConnectionError:
        pass
    except TimeoutError:
        # Closing would wait until it has read what it does not read.
        if request.transport is not None:
            request.transport.abort()
    return response
