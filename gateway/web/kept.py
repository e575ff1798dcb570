"""What many ask for is made now and then, and shown to all meanwhile."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Things by key, each shown for at most ``lasts`` seconds; all keys are remembered, so they must be few."""

    def __init__(self, lasts: float) -> None:
        self._lasts = lasts
        self._made: dict[Hashable, tuple[float, object, T]] = {}

    def of(self, key: Hashable, now: float, make: Callable[[], T], seen: object = None) -> T:
        """What is kept under ``key``, made anew where it is too old, or was made while ``seen`` was another."""
        made = self._made.get(key)
        if made is None or not 0 <= now - made[0] < self._lasts or made[1] != seen:
            made = self._made[key] = (now, seen, make())
        return made[2]
