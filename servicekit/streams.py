"""A journal told as server-sent events over aiohttp, and bodies that are read up to a bound."""

import asyncio
from collections.abc import AsyncGenerator, Mapping

from aiohttp import ClientConnectionError, StreamReader, web

from contract import sse
from contract.journal import Entry
from contract.launches import event_id

#: Seconds of silence after which a comment is sent, as BinderHub does, so that proxies keep the stream open.
KEEPALIVE_S = 25.0

#: Seconds after which a client that takes nothing is gone, whatever its connection says: it holds what was sent to it
#: in memory here.
WRITE_TIMEOUT_S = 60.0

#: Tell caches and buffering proxies (nginx) to pass every event on at once.
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def read_up_to(content: StreamReader, most: int) -> bytes:
    """A body, or its first bytes, ``most`` of them, if it is longer.

    ``content.read(most)`` gives what has arrived by now, which may be less.
    """
    body = bytearray()
    while len(body) < most and (chunk := await content.read(most - len(body))):
        body += chunk
    return bytes(body)


async def stream_entries(
    request: web.Request,
    entries: AsyncGenerator[Entry, None],
    launch_id: str,
    headers: Mapping[str, str] | None = None,
    keepalive_s: float = KEEPALIVE_S,
    write_timeout_s: float = WRITE_TIMEOUT_S,
) -> web.StreamResponse:
    """Answer with the entries as they come, each with its event id, and return when they end or the client is gone.

    A client that reads nothing for ``write_timeout_s`` is cut off; it may come back and go on.
    """
    response = web.StreamResponse(headers={**STREAM_HEADERS, **(headers or {})})
    response.content_type = sse.CONTENT_TYPE
    await response.prepare(request)
    pending: asyncio.Future[Entry] | None = None

    async def send(body: bytes) -> None:
        async with asyncio.timeout(write_timeout_s):
            await response.write(body)

    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(entries))
            done, _ = await asyncio.wait({pending}, timeout=keepalive_s)
            if not done:
                await send(sse.KEEPALIVE)
                continue
            entry = pending.result()
            pending = None
            await send(sse.encode(entry.event.to_json(), event_id=event_id(launch_id, entry.n)))
    except (StopAsyncIteration, ClientConnectionError):
        pass
    except TimeoutError:
        # Closing would wait until it has read what it does not read.
        if request.transport is not None:
            request.transport.abort()
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await entries.aclose()
    return response
