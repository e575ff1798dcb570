"""A log file that does not grow without bound."""

from pathlib import Path
from types import TracebackType
from typing import Self

#: Bytes that are kept of one build's output.
MAX_LOG = 16 * 2**20


class BoundedLog:
    """Written line by line; once it is full, a notice ends it."""

    def __init__(self, path: Path, max_bytes: int = MAX_LOG) -> None:
        self._file = path.open("w", encoding="utf-8", errors="replace", buffering=1)
        self._room = max_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, text: str) -> None:
        """Add a line, if there is room."""
        if self._room <= 0:
            return
        self._room -= len(text.encode(errors="replace"))
        self._file.write(text if self._room > 0 else "… the rest of this log is not kept …\n")
