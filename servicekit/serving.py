"""Serving an aiohttp application as this process: signals, lifeline, a sentence where the address cannot be had."""

import asyncio
import contextlib
import logging
import signal

from aiohttp import web

from servicekit import lifeline

logger = logging.getLogger(__name__)

#: Seconds that open requests are given at the end.
SHUTDOWN_TIMEOUT_S = 5.0


class CannotListenError(RuntimeError):
    """The address to listen on cannot be had; the text says why."""


async def serve(app: web.Application, host: str, port: int) -> None:
    """Serve until SIGTERM, SIGINT or the death of the supervisor; raises :class:`CannotListenError`."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if (fd := lifeline.inherited_fd()) is not None:
        lifeline.watch(loop, fd)
    # handler_cancellation: a visitor's departure is noticed at once.  An access log would cost more than routing does.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        logger.info("listening on %s:%d", host, port)
        await stop.wait()
        logger.info("ending")
