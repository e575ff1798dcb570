"""The member's own queue before the Hub, which times out when too many servers start at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable


class LaunchQueue:
    """Lets ``concurrent`` launches through at a time, first come, first served."""

    def __init__(self, concurrent: int) -> None:
        self._free = concurrent
        self._waiting: list[asyncio.Event] = []

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def slot(self, on_position: Callable[[int], None]) -> AsyncIterator[None]:
        """Wait for a slot and hold it; ``on_position`` is told the place (1 = next) whenever it changes."""
        await self._wait(on_position)
        try:
            yield
        finally:
            self._free += 1
            self._wake()

    async def _wait(self, on_position: Callable[[int], None]) -> None:
        moved = asyncio.Event()
        self._waiting.append(moved)
        told = 0
        try:
            while (place := self._waiting.index(moved) + 1) > 1 or not self._free:
                if place != told:
                    told = place
                    on_position(place)
                moved.clear()
                await moved.wait()
            self._free -= 1
        finally:
            self._waiting.remove(moved)
            self._wake()

    def _wake(self) -> None:
        for moved in self._waiting:
            moved.set()
