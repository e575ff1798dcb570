"""The logs of builds, in files: bounded each and in all, followed while they grow.

A log's id is random and gives access to it; it is told to those who follow the build, and to nobody else.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from io import FileIO
from pathlib import Path

logger = logging.getLogger(__name__)

#: Bytes that are kept of the beginning of a log, and of its end.
HEAD_BYTES = 4 * 2**20
TAIL_BYTES = 64 * 2**10

#: Bytes that are read at a time.
_CHUNK = 64 * 2**10

_ID = re.compile(r"[0-9a-f]{32}")
_INTERRUPTED = "The member was restarted while this build ran, and ended it.\n"


class BuildLog:
    """The log of a build that waits or runs; to be closed at its end."""

    def __init__(self, path: Path, log_id: str, url: str, ended: Callable[[], None]) -> None:
        self.id, self.url = log_id, url
        self.path = path
        self.closed = False
        self.grown = asyncio.Event()
        """Set at the next change, once; whoever waits for a later one takes the event of that time."""
        self._ended = ended
        self._room = HEAD_BYTES
        self._tail: deque[bytes] = deque()
        self._tail_size = self._left_out = 0
        try:
            self._file: FileIO | None = path.open("wb", buffering=0)
        except OSError as error:
            # A build is not to fail because its log cannot be kept.
            logger.warning("the log of a build cannot be written: %s", error)
            self._file = None

    def write(self, text: str) -> None:
        """Add a line."""
        if self.closed or not text:
            return
        data = text.encode(errors="replace")
        data += b"" if data.endswith(b"\n") else b"\n"
        if len(data) <= self._room:
            self._room -= len(data)
            self._put(data)
            return
        self._room = 0
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size > TAIL_BYTES and len(self._tail) > 1:
            dropped = len(self._tail.popleft())
            self._tail_size -= dropped
            self._left_out += dropped

    def close(self) -> None:
        """Nothing follows."""
        if self.closed:
            return
        if self._left_out:
            self._put(f"… {self._left_out} bytes are left out here …\n".encode())
        self._put(b"".join(self._tail))
        self._tail.clear()
        self.closed = True
        if self._file is not None:
            self._file.close()
            self._file = None
        self._ended()
        self._wake()

    def _put(self, data: bytes) -> None:
        if self._file is None or not data:
            return
        try:
            self._file.write(data)
        except OSError as error:
            logger.warning("the log of a build cannot be written any more: %s", error)
            self._file.close()
            self._file = None
        self._wake()

    def _wake(self) -> None:
        grown, self.grown = self.grown, asyncio.Event()
        grown.set()


class BuildLogs:
    """Logs in a directory; ``public_url`` (with a slash at its end) is where this member is reached.

    The oldest ones go when all together exceed ``most_bytes``, or after ``max_age_s``.
    """

    def __init__(
        self,
        directory: Path,
        public_url: str,
        *,
        most_bytes: int,
        max_age_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._public_url, self._wall = directory, public_url, wall
        self._most_bytes, self._max_age_s = most_bytes, max_age_s
        self._growing: dict[str, BuildLog] = {}

    def start(self) -> None:
        """Make the directory, and close what an earlier start of this member has left open.

        Raises ``OSError``.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in self._directory.glob("*.part"):
            with path.open("a") as file:
                file.write(_INTERRUPTED)
            path.rename(path.with_suffix(".log"))

    def open(self) -> BuildLog:
        """A new log."""
        log_id = secrets.token_hex(16)
        path = self._directory / f"{log_id}.part"
        url = f"{self._public_url}api/v1/builds/{log_id}/log"
        log = self._growing[log_id] = BuildLog(path, log_id, url, lambda: self._closed(log_id))
        return log

    def find(self, log_id: str) -> bool:
        """Whether there is such a log."""
        return self._path(log_id) is not None

    async def follow(self, log_id: str, *, live: bool = True) -> AsyncGenerator[bytes, None]:
        """A log from its beginning, to the end of its build or (not ``live``) as far as it goes now."""
        path, growing = self._path(log_id), self._growing.get(log_id)
        if path is None:
            return
        try:
            file = path.open("rb")
        except OSError:
            return
        with file:
            while True:
                ended = growing is None or growing.closed
                grown = growing.grown if growing is not None else asyncio.Event()
                chunk = await asyncio.to_thread(file.read, _CHUNK)
                if chunk:
                    yield chunk
                elif ended or not live:
                    return
                else:
                    await grown.wait()

    async def clean(self) -> None:
        """Remove what is too old or too much; what grows stays."""
        await asyncio.to_thread(self._clean)

    def _clean(self) -> None:
        found = []
        for path in self._directory.glob("*.log"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime, status.st_size, path))
        oldest, total = self._wall() - self._max_age_s, 0
        for written_at, size, path in sorted(found, reverse=True):
            total += size
            if written_at < oldest or total > self._most_bytes:
                path.unlink(missing_ok=True)

    def _closed(self, log_id: str) -> None:
        log = self._growing.pop(log_id)
        try:
            log.path.rename(log.path.with_suffix(".log"))
        except OSError as error:
            logger.warning("the log of a build cannot be kept: %s", error)

    def _path(self, log_id: str) -> Path | None:
        if not _ID.fullmatch(log_id):
            return None
        paths = (self._directory / f"{log_id}{suffix}" for suffix in (".part", ".log"))
        return next((path for path in paths if path.is_file()), None)
