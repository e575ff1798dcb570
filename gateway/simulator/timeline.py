"""Virtual time: what is to happen, in order."""

import heapq
from collections.abc import Callable
from typing import Any

#: What happens: called with the time, and with what it was scheduled with.
Action = Callable[..., None]


class Timeline:
    """Runs actions in the order of their times; those of one time in the order in which they were scheduled."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._count = 0

    def schedule(self, at: float, action: Action, *args: Any) -> None:
        """Have ``action(at, *args)`` called then."""
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, action, args))

    def run(self) -> None:
        """Until nothing is left to happen."""
        heap = self._heap
        while heap:
            at, _, action, args = heapq.heappop(heap)
            action(at, *args)
