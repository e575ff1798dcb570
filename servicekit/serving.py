"""Serving an aiohttp application as this process: signals, lifeline, a sentence where the address cannot be had."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from servicekit import lifeline

logger = logging.getLogger(__name__)

#: Seconds that open requests are given at the end.
SHUTDOWN_TIMEOUT_S = 5.0


#: Ends an application's work before its end: it is given what stops listening, to be called when it is time.
Drain = Callable[[Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]


class CannotListenError(RuntimeError):
    """The address to listen on cannot be had; the text says why."""


async def serve(
    app: web.Application, host: str, port: int, *, reuse_port: bool = False, drain: Drain | None = None
) -> None:
    """Serve until SIGTERM, SIGINT or the death of the supervisor; raises :class:`CannotListenError`.

    With ``reuse_port`` several processes may listen on one port, and share what comes.  After SIGTERM ``drain`` is run
    first, and no longer than until the next signal.
    """
    loop = asyncio.get_running_loop()
    stop, now = asyncio.Event(), asyncio.Event()

    def end(*, at_once: bool) -> None:
        if at_once or stop.is_set():
            now.set()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, partial(end, at_once=False))
    loop.add_signal_handler(signal.SIGINT, partial(end, at_once=True))
    if (fd := lifeline.inherited_fd()) is not None:
        lifeline.watch(loop, fd)
    # handler_cancellation: a visitor's departure is noticed at once.  An access log would cost more than routing does.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
            await site.start()
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        logger.info("listening on %s:%d", host, port)
        await stop.wait()
        if drain is not None and not now.is_set():
            await _first(drain(site.stop), now.wait())
        logger.info("ending")


async def _first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run until one of them ends, and cancel the others; raises what that one raises."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
