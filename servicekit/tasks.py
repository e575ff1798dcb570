"""Background tasks that are named, guarded and ended with their owner.

No task is fired and forgotten: one that ends by an exception is logged with its name and counted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

#: Seconds after which a task that was cancelled and still runs is cancelled again.
CANCEL_AGAIN_S = 5.0


class Tasks:
    """A set of tasks with one owner; :meth:`close` cancels what still runs and waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.crashes: dict[str, int] = {}
        """How often tasks of a name have ended by an exception."""

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def every(self, name: str, interval_s: float, step: Callable[[], Awaitable[object]]) -> asyncio.Task[Any]:
        """Run ``step`` now and then every so many seconds after it has ended, whatever it raises."""
        return self.spawn(name, self._loop(name, interval_s, step))

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended.

        One that does not end is cancelled again: what it waits for may have swallowed that (``asyncio.wait_for`` of
        Python 3.11 does at times: python/cpython#86296).
        """
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            done, _ = await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN_S)
            self._tasks.difference_update(done)

    async def _loop(self, name: str, interval_s: float, step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
            except Exception:
                self.crashes[name] = self.crashes.get(name, 0) + 1
                logger.exception("%s failed; it is tried again in %g s", name, interval_s)
            await asyncio.sleep(interval_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        name = task.get_name()
        self.crashes[name] = self.crashes.get(name, 0) + 1
        logger.error("task %s ended by an error", name, exc_info=task.exception())
