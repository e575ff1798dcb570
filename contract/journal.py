"""An append-only log of events that many readers follow, each at its own pace.

A launch or a build writes its events here once; every stream that watches it is a reader, so a late or reconnecting
listener gets what it missed and goes on.  Memory is bounded: when the log grows too large, its oldest log lines are
dropped, and only if those are not enough other events (never the final one).  A reader that has missed some is told
how many.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from contract.events import BuildEvent, Phase, event

#: Bytes, roughly, that a journal keeps.
DEFAULT_KEEP = 4 * 1024 * 1024

#: What an entry takes besides its texts; without it a log of empty lines would be free.
_ENTRY_BYTES = 250

#: Who sent an event: each of a gateway's bears these, and is a mere log line with them.
_ORIGIN = frozenset({"launch_id", "member", "attempt"})


@dataclass(frozen=True, slots=True)
class Entry:
    """An event of a journal and its number, which counts from 0; ``follows`` is the number of the one before it."""

    n: int
    event: BuildEvent
    follows: int


class Journal:
    """Append-only; complete once a final event (``ready`` or ``failed``) is in it."""

    def __init__(self, keep: int = DEFAULT_KEEP) -> None:
        self._entries: deque[Entry] = deque()
        self._next = 0
        self._last = -1
        self._keep = keep
        self._size = 0
        self._grown = asyncio.Event()
        self._final: Entry | None = None
        self._closed = False
        self.changed: Callable[[], None] = lambda: None
        """Is called at each new entry."""

    @property
    def final(self) -> BuildEvent | None:
        """The event that completed the journal; ``None`` while it grows."""
        return self._final.event if self._final else None

    @property
    def next_n(self) -> int:
        """The number that the next event will get."""
        return self._next

    @property
    def size(self) -> int:
        """Bytes that its entries take, roughly."""
        return self._size

    def append(self, item: BuildEvent) -> Entry:
        """Add an event and wake all readers; raises ``ValueError`` if the journal is complete."""
        entry = Entry(self._next, item, self._last)
        self.take(entry)
        return entry

    def take(self, entry: Entry) -> None:
        """Add an entry of another copy of this journal; one whose number is there already is passed over.

        Raises ``ValueError`` if the journal is complete.
        """
        if self._final is not None:
            raise ValueError("the journal is complete")
        if entry.n < self._next:
            return
        self._next, self._last = entry.n + 1, entry.n
        self._entries.append(entry)
        self._size += _weight(entry.event)
        if entry.event.is_final:
            self._final = entry
        if self._size > self._keep:
            self._drop_oldest(_is_line)
            self._drop_oldest(lambda other: not other.is_final)
        self._wake()

    def skip_to(self, n: int) -> None:
        """Let the next event have at least this number; readers are not told of the numbers between."""
        self._next = max(self._next, n)

    def close(self) -> None:
        """Let all readers end, though the journal may not be complete: it goes on elsewhere."""
        self._closed = True
        self._wake()

    def since(self, n: int) -> list[Entry]:
        """The entries with numbers above ``n`` that are kept, oldest first."""
        new: list[Entry] = []
        # From the end, where a reader nearly always is: looking through all that it has seen would be quadratic.
        for entry in reversed(self._entries):
            if entry.n <= n:
                break
            new.append(entry)
        new.reverse()
        return new

    async def follow(self, after: int = -1) -> AsyncGenerator[Entry, None]:
        """Yield each entry with a number above ``after``, then those to come; ends with the final one.

        A reader that the log's bound has overtaken gets one entry that says how many events are gone; it bears the
        number of the last of them.
        """
        seen = after
        while True:
            grown = self._grown
            for entry in self.since(seen):
                if (missed := entry.follows - seen) > 0:
                    notice = event(Phase.UNKNOWN, f"… {missed} earlier lines are not kept …\n")
                    yield Entry(entry.follows, notice, seen)
                seen = entry.n
                yield entry
            # The end may have come while the reader was busy with an earlier entry.
            if self._closed or (self._final is not None and seen >= self._final.n):
                return
            if not self.since(seen):
                await grown.wait()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        self.changed()

    def _drop_oldest(self, droppable: Callable[[BuildEvent], bool]) -> None:
        # Down to three quarters, so that a long log is not searched anew at each line.
        target = self._keep * 3 // 4
        if self._size <= target:
            return
        kept: deque[Entry] = deque()
        for entry in self._entries:
            if self._size > target and droppable(entry.event):
                self._size -= _weight(entry.event)
            else:
                kept.append(entry)
        self._entries = kept


def _is_line(item: BuildEvent) -> bool:
    return not item.is_final and _ORIGIN.issuperset(item.fields)


def _weight(item: BuildEvent) -> int:
    texts = (value if isinstance(value, str) else repr(value) for value in item.fields.values())
    return _ENTRY_BYTES + len(item.message) + sum(len(text) for text in texts)
