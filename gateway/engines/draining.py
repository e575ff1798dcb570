"""The end of a gateway in good order: what it has begun comes to its end here, as far as anybody waits for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.engines.launches import Launches
from gateway.engines.replicas import Replicas

logger = logging.getLogger(__name__)

#: Seconds from a connection to its request, for nearly all.
MOMENT = 0.5


class Draining:
    """``notice`` and ``timeout`` are in seconds; see the settings."""

    def __init__(self, launches: Launches, replicas: Replicas, notice: float, timeout: float) -> None:
        self._launches, self._replicas = launches, replicas
        self._notice, self._timeout = notice, timeout

    async def __call__(self, stop_listening: Callable[[], Awaitable[None]]) -> None:
        """Take no more visitors, and return when the last one has gone, or it takes too long."""
        self._replicas.draining = True
        await asyncio.sleep(self._notice)
        await stop_listening()
        # Who has just been let in has a moment to say what for.
        await asyncio.sleep(MOMENT)
        if self._launches.streams:
            logger.info("draining: waiting for %d streams", self._launches.streams)
        deadline = asyncio.get_running_loop().time() + self._timeout
        while self._launches.streams and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - no hurry
            await asyncio.sleep(0.1)
