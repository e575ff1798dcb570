"""An append-only log of events that many readers follow, each at its own pace.

A launch or a build writes its events here once; every stream that watches it is a reader, so a late or reconnecting
listener gets what it missed and goes on.  Memory is bounded: when the log grows too large, its oldest log lines are
dropped (never an event that carries more than a message), and a reader that has missed some is told how many.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from contract.events import BuildEvent, Phase, event

#: Characters of messages kept, after which the oldest log lines are dropped.
DEFAULT_KEEP = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """The n-th event of a journal, counted from 0."""

    n: int
    event: BuildEvent


class Journal:
    """Append-only; complete once a final event (``ready`` or ``failed``) is in it."""

    def __init__(self, keep: int = DEFAULT_KEEP) -> None:
        self._entries: deque[Entry] = deque()
        self._next = 0
        self._keep = keep
        self._size = 0
        self._grown = asyncio.Event()
        self._final: Entry | None = None

    @property
    def final(self) -> BuildEvent | None:
        """The event that completed the journal; ``None`` while it grows."""
        return self._final.event if self._final else None

    @property
    def next_n(self) -> int:
        """The number that the next event will get."""
        return self._next

    def append(self, item: BuildEvent) -> Entry:
        """Add an event and wake all readers; raises ``ValueError`` if the journal is complete."""
        if self._final is not None:
            raise ValueError("the journal is complete")
        entry = Entry(self._next, item)
        self._next += 1
        self._entries.append(entry)
        self._size += len(item.message)
        if item.is_final:
            self._final = entry
        if self._size > self._keep:
            self._drop_oldest_lines()
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return entry

    async def follow(self, after: int = -1) -> AsyncGenerator[Entry, None]:
        """Yield each entry with a number above ``after``, then those to come; ends with the final one.

        A reader that the log's bound has overtaken gets one entry that says how many events are gone; it bears the
        number of the last of them.
        """
        seen = after
        while True:
            grown = self._grown
            for entry in self._since(seen):
                seen = entry.n
                yield entry
            # The end may have come while the reader was busy with an earlier entry.
            if self._final is not None and seen >= self._final.n:
                return
            if seen + 1 >= self._next:
                await grown.wait()

    def _since(self, seen: int) -> list[Entry]:
        entries: list[Entry] = []
        for entry in self._entries:
            if entry.n <= seen:
                continue
            missed = entry.n - seen - 1
            if missed > 0:
                notice = event(Phase.UNKNOWN, f"… {missed} earlier lines are not kept …\n")
                entries.append(Entry(entry.n - 1, notice))
            entries.append(entry)
            seen = entry.n
        return entries

    def _drop_oldest_lines(self) -> None:
        # Down to three quarters, so that a long log is not searched anew at each line.
        target = self._keep * 3 // 4
        kept: deque[Entry] = deque()
        for entry in self._entries:
            if self._size > target and not entry.event.fields and not entry.event.is_final:
                self._size -= len(entry.event.message)
            else:
                kept.append(entry)
        self._entries = kept
