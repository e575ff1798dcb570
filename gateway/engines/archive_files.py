"""The files of the archive: appended to, mended, counted.  Blocking.

A process may end at any moment, and a disk may fill amid a line: whoever appends next drops the torn end first.  More
than one process may write to a directory; a lock keeps each append, and the index that follows it, in one piece.
"""

import contextlib
import fcntl
import itertools
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from contract.json_types import loads_object

INDEX = "index.jsonl"

#: Seconds that another process may hold the lock.
LOCK_TIMEOUT = 5.0

_NAME = re.compile(r"events-(?P<date>\d{4}-\d\d-\d\d)\.jsonl", re.ASCII)
_NEW_INDEX = f".{INDEX}.new"
_LOCK = ".lock"
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """An event as a line of a day's file, with its end of line."""

    day: date
    text: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What became of some lines; ``error`` is the last problem, which may be one of the index alone."""

    written: int
    lost: int
    error: OSError | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A day's file as this process left it."""

    size: int
    lines: int


def file_name(day: date) -> str:
    """The name of a day's file."""
    return f"events-{day.isoformat()}.jsonl"


def day_of(name: str) -> date | None:
    """The day of a file by its name; ``None`` if it is no day's file."""
    match = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(match["date"]) if match else None
    except ValueError:
        return None


class ArchiveFiles:
    """A directory of days.  One thread at a time may use it."""

    def __init__(self, directory: Path, keep_days: int | None = None) -> None:
        self._directory, self._keep_days = directory, keep_days
        self._known: dict[date, _Known] = {}
        self._uncounted: set[date] = set()
        """Days whose counts the index does not have yet."""
        self._mended = False
        self._tidied: date | None = None
        self.torn = 0
        """How many torn last lines have been dropped."""

    def write(self, lines: Iterable[Line], today: date) -> Written:
        """Append lines to the files of their days; the first time, mend what is there.

        A day's lines are written all or none, in the order in which they are given.
        """
        written = lost = 0
        error: OSError | None = None
        try:
            with self._locked():
                self._mend_once(today)
                self._tidy(today)
        except OSError as caught:
            error = caught
        for day, group in itertools.groupby(sorted(lines, key=lambda line: line.day), key=lambda line: line.day):
            texts = [line.text for line in group]
            try:
                with self._locked():
                    self._append(day, texts)
                    error = self._indexed() or error
            except OSError as caught:
                error = caught
                lost += len(texts)
            else:
                written += len(texts)
        if self._uncounted:
            try:
                with self._locked():
                    error = self._indexed() or error
            except OSError as caught:
                error = caught
        return Written(written, lost, error)

    def _indexed(self) -> OSError | None:
        """Bring the index up to date; where that fails, the events are there, and it follows with the next ones."""
        try:
            self._write_index(self._read_index())
        except OSError as error:
            return error
        return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise TimeoutError(f"another process has held {_LOCK} for {LOCK_TIMEOUT:g} s") from None
                    time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    def _append(self, day: date, texts: list[bytes]) -> None:
        path = self._directory / file_name(day)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            known = self._known.get(day)
            if known is None or known.size != os.fstat(fd).st_size:
                known = self._count(fd)
            try:
                size = known.size + _write_all(fd, b"".join(texts))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, known.size)
                    if known.size == 0:
                        path.unlink()
                raise
        finally:
            os.close(fd)
        self._known[day] = _Known(size, known.lines + len(texts))
        self._uncounted.add(day)

    def _count(self, fd: int) -> _Known:
        """Count the lines of a file, having dropped a torn last one."""
        size = lines = whole = 0
        while chunk := os.pread(fd, _CHUNK, size):
            lines += chunk.count(b"\n")
            if (last := chunk.rfind(b"\n")) >= 0:
                whole = size + last + 1
            size += len(chunk)
        if whole != size:
            os.ftruncate(fd, whole)
            self.torn += 1
        return _Known(whole, lines)

    def _mend_once(self, today: date) -> None:
        """Drop torn lines, and count what may have changed since the index was last written."""
        if self._mended:
            return
        index = self._read_index()
        try:
            indexed_at = (self._directory / INDEX).stat().st_mtime_ns
        except FileNotFoundError:
            indexed_at = -1
        days = self._days()
        for day, path in days.items():
            unchanged = day in index and path.stat().st_mtime_ns < indexed_at and day not in (today, max(days))
            if not unchanged or not _ends_whole(path):
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    self._known[day] = self._count(fd)
                finally:
                    os.close(fd)
                self._uncounted.add(day)
        self._write_index({day: count for day, count in index.items() if day in days})
        self._mended = True

    def _tidy(self, today: date) -> None:
        """Remove the days that are kept no longer."""
        if self._keep_days is None or self._tidied == today:
            return
        first = today - timedelta(days=min(self._keep_days, today.toordinal()) - 1)
        for day, path in self._days().items():
            if day < first:
                path.unlink(missing_ok=True)
                self._known.pop(day, None)
                self._uncounted.discard(day)
        self._write_index({day: count for day, count in self._read_index().items() if day >= first})
        self._tidied = today

    def _days(self) -> dict[date, Path]:
        found = ((day_of(path.name), path) for path in self._directory.iterdir())
        return {day: path for day, path in found if day is not None}

    def _read_index(self) -> dict[date, int]:
        """Counts by day; lines that are not readable count as missing."""
        counts = {}
        try:
            content = (self._directory / INDEX).read_bytes()
        except FileNotFoundError:
            return {}
        for line in content.splitlines():
            with contextlib.suppress(ValueError):
                entry = loads_object(line)
                day, count = day_of(str(entry.get("name"))), entry.get("count")
                if day is not None and type(count) is int:
                    counts[day] = count
        return counts

    def _write_index(self, counts: dict[date, int]) -> None:
        counts = counts | {day: self._lines(day) for day in self._uncounted}
        lines = [
            json.dumps({"name": file_name(day), "date": day.isoformat(), "count": counts[day]}) + "\n"
            for day in sorted(counts)
            if counts[day]
        ]
        new = self._directory / _NEW_INDEX
        try:
            new.write_text("".join(lines))
            new.replace(self._directory / INDEX)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        self._uncounted.clear()

    def _lines(self, day: date) -> int:
        """How many lines a file has by now: since it was last counted here, another process may have written to it."""
        path = self._directory / file_name(day)
        if (known := self._known.get(day)) is not None and known.size == path.stat().st_size:
            return known.lines
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._known[day] = self._count(fd)
        finally:
            os.close(fd)
        return self._known[day].lines


def _write_all(fd: int, data: bytes) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"\n", b"")
