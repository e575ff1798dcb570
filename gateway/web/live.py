"""``/api/v1/federation/events``: the federation's state as server-sent events, told anew when it has changed.

One watcher looks for all streams.  What people see at once (a member's state, an incident, a note) is told within
:data:`LOOK_EVERY`; counts of sessions and their like at most every :data:`COUNTS_EVERY`.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from aiohttp import ClientConnectionError, web

from contract import sse
from gateway.core.incidents import writings
from gateway.web.federation import federation_wire
from gateway.web.parts import PARTS, Parts
from servicekit.problems import Problem
from servicekit.streams import KEEPALIVE_S, STREAM_HEADERS, WRITE_TIMEOUT_S

#: Seconds between two looks, and between two events that tell of counts only.
LOOK_EVERY, COUNTS_EVERY = 0.25, 5.0

#: Streams at a time; who comes then is asked to come again, and the page refreshes itself meanwhile.
MOST = 2000

#: Milliseconds after which a browser connects again.
COME_BACK_MS = 2000


def seen_at_once(parts: Parts, now: float) -> object:
    """What people see at once: equal as long as nothing of it has changed."""
    snapshot = parts.fleet.snapshot
    return (
        tuple((view.name, snapshot.status(view, now).state) for view in snapshot.members),
        parts.replicas.away_since,
        writings(parts.records.book),
    )


class Live:
    """The latest event, and who waits for the next one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._changed = asyncio.Event()
        self._version = 0
        self._event = b""
        self._shown: object = None
        self._counted = -1
        self._told_at = 0.0
        self.streams = 0
        """Open streams."""
        self.closed = False
        """Whether streams are to end: whoever reads them comes back to another replica."""

    async def run(self) -> None:
        """Look, until cancelled."""
        while not self.closed:
            self.look()
            await asyncio.sleep(LOOK_EVERY)

    def look(self) -> None:
        """Make a new event if something has changed."""
        parts = self._parts
        if parts.replicas.draining:
            self.close()
            return
        if not self.streams:
            return
        snapshot, now = parts.fleet.snapshot, parts.fleet.now()
        shown = seen_at_once(parts, now)
        counts = snapshot.version != self._counted and now - self._told_at >= COUNTS_EVERY
        if shown != self._shown or counts:
            self._shown, self._counted, self._told_at = shown, snapshot.version, now
            self._event = sse.encode(json.dumps(federation_wire(parts)), event="federation")
            self._version += 1
            self._wake()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def events(self, keepalive_s: float = KEEPALIVE_S) -> AsyncIterator[bytes]:
        """What to send to one reader: the present state at once, then each change; slow readers skip some."""
        yield sse.encode_retry(COME_BACK_MS)
        seen = self._version
        yield sse.encode(json.dumps(federation_wire(self._parts)), event="federation")
        while not self.closed:
            changed = self._changed
            if seen != self._version:
                seen = self._version
                yield self._event
                continue
            try:
                async with asyncio.timeout(keepalive_s):
                    await changed.wait()
            except TimeoutError:
                yield sse.KEEPALIVE


LIVE = web.AppKey("LIVE", Live)


async def events(request: web.Request) -> web.StreamResponse:
    """The stream; it never ends by itself but with the gateway."""
    live = request.app[LIVE]
    if live.streams >= MOST or live.closed:
        detail = "Too many streams are open here; ask /api/v1/federation now and then."
        raise Problem(503, "Too Many", detail, headers={"Retry-After": "30"})
    response = web.StreamResponse(headers=STREAM_HEADERS)
    response.content_type = sse.CONTENT_TYPE
    await response.prepare(request)
    live.streams += 1
    try:
        async for item in live.events():
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.write(item)
    except (ClientConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    finally:
        live.streams -= 1
    return response


def add_live(app: web.Application) -> None:
    """Serve the stream, and watch for as long as the application runs."""
    live = app[LIVE] = Live(app[PARTS])

    async def watching(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(live.run(), name="watch for the status page")
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def close(_: web.Application) -> None:
        live.close()

    app.cleanup_ctx.append(watching)
    app.on_shutdown.append(close)
    app.router.add_get(app[PARTS].site.path("api/v1/federation/events"), events, allow_head=False)
