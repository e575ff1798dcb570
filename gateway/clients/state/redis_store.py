"""One Redis (7 or later) or Valkey: scripts, keys and what happens while it is away.

Each step that reads and writes is one Lua script, which Redis runs atomically.  A store that fails is left alone for a
moment: whoever asks meanwhile hears at once that it is away, and waits for nothing.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.clients.state.protocol import StateUnavailableError

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Seconds for which a store that has failed is left alone.
LEFT_ALONE = 1.0

#: Steps at a time; further ones wait for a connection, of which a client has 100.
AT_ONCE = 50


class RedisStore:
    """Speaks to one Redis (through Sentinel, where ``client`` does); every key begins with ``prefix``.

    ``timeout`` bounds each step, in seconds.
    """

    shared = True

    def __init__(self, client: Redis, prefix: str, timeout: float) -> None:
        self._redis: Any = client
        self._prefix, self._timeout = prefix, timeout
        folder = resources.files("gateway.clients.state") / "scripts"
        self._scripts = {
            item.name.removesuffix(".lua"): client.register_script(item.read_text())
            for item in folder.iterdir()
            if item.name.endswith(".lua")
        }
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._away_until = 0.0
        self._back_at: float | None = None
        self.away_since: float | None = None
        """Since when it does not answer (Unix time); ``None`` while it does."""

    @property
    def left_alone(self) -> bool:
        """Whether it has failed only just now: whoever asks hears so at once."""
        return time.monotonic() < self._away_until

    def steady(self) -> float:
        """For how many seconds it has answered, since it was away last; infinite if it never was."""
        if self.away_since is not None:
            return 0.0
        return math.inf if self._back_at is None else time.monotonic() - self._back_at

    async def close(self) -> None:
        """Close the connections, those to Sentinels too."""
        await self._redis.aclose()
        sentinel = getattr(self._redis.connection_pool, "sentinel_manager", None)
        for client in sentinel.sentinels if sentinel else ():
            await client.aclose()

    def _name(self, rest: str) -> str:
        return f"{self._prefix}{rest}"

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        return await self._guarded(lambda: self._scripts[script](keys=keys, args=arguments))

    async def _guarded(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """One step, within its time; raises :class:`StateUnavailableError`."""
        cancelled = _cancellations()
        try:
            async with self._at_once:
                if self.left_alone:
                    raise StateUnavailableError("Redis did not answer a moment ago")
                async with asyncio.timeout(self._timeout):
                    answer = await ask()
        except (RedisError, OSError, TimeoutError) as error:
            _end_if_cancelled(cancelled)
            self._away_until = time.monotonic() + LEFT_ALONE
            if self.away_since is None:
                self.away_since = time.time()
                logger.warning("Redis is away: %s", error or "it does not answer")
            raise StateUnavailableError(str(error) or "Redis does not answer") from error
        _end_if_cancelled(cancelled)
        if self.away_since is not None:
            logger.warning("Redis is back after %.0f s", time.time() - self.away_since)
            self.away_since, self._back_at = None, time.monotonic()
        return answer


def _cancellations() -> int:
    """How often the present task was asked to end."""
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _end_if_cancelled(before: int) -> None:
    """End the present task if it was asked to since: the client uses ``asyncio.wait_for``, which swallows that at
    times in Python 3.11 (python/cpython#86296)."""
    if _cancellations() > before:
        raise asyncio.CancelledError


def ms(seconds: float) -> int:
    """Milliseconds, as scripts count."""
    return int(seconds * 1000)
