"""The public archive of launches: a file of events a day, and an index of the files.

Its form is that of mybinder.org's archive: ``events-YYYY-MM-DD.jsonl`` with one event a line and times in whole
minutes, and ``index.jsonl``.  Days are UTC, by the time at which the launch ended.

No launch waits for the archive, and none fails with it.  What cannot be written is lost, and counted.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

from gateway.core.launch_events import ArchiveSettings, FinishedLaunch, launch_event
from gateway.engines.archive_files import ArchiveFiles, Line
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Events that wait to be written; one more is lost.
QUEUE_LIMIT = 10_000

#: Events that are written at a time.
BATCH = 1000

#: Seconds that an ending gateway gives the archive to write what it still holds.
FLUSH_TIMEOUT = 2.0

#: Seconds between two error messages.
COMPLAIN_EVERY = 60.0

#: Seconds between two looks for days that are kept no longer, where nothing is launched.
TIDY_EVERY = 3600.0


def archive_directory(settings: ArchiveSettings, data_dir: Path) -> Path | None:
    """Where the archive is; ``None``: there is none."""
    if not settings.enabled:
        return None
    return Path(settings.directory) if settings.directory else data_dir / "archive"


class Archive:
    """Takes finished launches and writes their events, one after the other.

    ``wall`` is Unix time in seconds, by which days are kept; ``clock`` counts the seconds between error messages.
    """

    def __init__(
        self,
        directory: Path,
        keep_days: int | None = None,
        *,
        queue_limit: int = QUEUE_LIMIT,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory, self._files = directory, ArchiveFiles(directory, keep_days)
        self._queue_limit, self._wall, self._clock = queue_limit, wall, clock
        self._queue: deque[Line] = deque()
        self._in_hand = 0
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._complained_at: float | None = None
        self.written = 0
        """Events that have been written."""
        self.lost = 0
        """Events that have not been, and will not be."""
        self.redacted = 0
        """Events whose spec was left out."""

    @property
    def torn(self) -> int:
        """How many last lines were dropped because a process had ended, or a disk was full, amid writing them."""
        return self._files.torn

    @property
    def waiting(self) -> int:
        """Events that wait to be written, or are being written."""
        return len(self._queue) + self._in_hand

    def start(self, tasks: Tasks) -> None:
        """Begin to write, after mending what an earlier process may have left half-written."""
        self._task = tasks.spawn("archive", self._run())

    def record(self, launch: FinishedLaunch) -> None:
        """Take a launch that has ended; to be called once for each, in the event loop.  Never waits, never raises."""
        try:
            event = launch_event(launch)
            # A second tells who it was to whoever saw them launch; the public archive of mybinder.org has minutes too.
            minute = datetime.fromtimestamp(event.at // 60 * 60, UTC)
            text = json.dumps(event.to_wire(minute.isoformat())) + "\n"
        except (ValueError, OverflowError, OSError) as error:
            self._lose(1, f"an event cannot be made: {error}")
            return
        if self._closing:
            self._lose(1, "the archive is closed")
        elif len(self._queue) >= self._queue_limit:
            self._lose(1, f"{self._queue_limit} events wait to be written")
        else:
            self.redacted += event.redacted
            self._queue.append(Line(minute.date(), text.encode()))
            self._awake.set()

    async def close(self) -> None:
        """Write what is left, for up to :data:`FLUSH_TIMEOUT` seconds; what is recorded later is lost."""
        self._closing = True
        self._awake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=FLUSH_TIMEOUT)
            # A write that hangs goes on in its thread; nobody will know what became of it.
            self._task.cancel()
            await asyncio.wait({self._task})
        if left := self.waiting:
            self._queue.clear()
            self._in_hand = 0
            self._lose(left, "this gateway has ended before they were written")

    async def _run(self) -> None:
        while True:
            self._awake.clear()
            await self._write([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            if self._queue:
                continue
            if self._closing:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TIDY_EVERY):
                    await self._awake.wait()

    async def _write(self, lines: list[Line]) -> None:
        self._in_hand = len(lines)
        try:
            result = await asyncio.to_thread(self._files.write, lines, self._today())
        except Exception:
            # Nobody knows of such an error; it must not end the archive for good.
            logger.exception("unexpected error writing launch events")
            self._in_hand = 0
            self.lost += len(lines)
            return
        self._in_hand = 0
        self.written += result.written
        if result.lost:
            self._lose(result.lost, str(result.error))
        elif result.error is not None:
            self._complain(f"the archive in {self._directory} has a problem: {result.error}")

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        self._complain(f"launch events are not written to {self._directory} ({self.lost} lost so far): {why}")

    def _complain(self, text: str) -> None:
        now = self._clock()
        if self._complained_at is None or now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            logger.error("%s", text)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._wall(), UTC).date()
