"""Standard output as commands have it: where it cannot be written, that is an error with a name."""

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class CannotWriteError(OSError):
    """Standard output takes nothing: its disk is full, say.

    A pipe whose reader has gone is no such error: it remains a ``BrokenPipeError``.
    """


class _Descriptor(io.FileIO):
    """Throws away what comes after an error: what is in buffers yet would fail again when the process ends."""

    _failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            written = super().write(data)
            if written is None:  # there is no room, and it is set not to wait for any
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except OSError as error:
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            raise CannotWriteError(error.errno, error.strerror) from error
        return written


def prepare() -> None:
    """Have whatever is printed from now on raise :class:`CannotWriteError` where that cannot be."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return  # it is closed
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(sys.stdout.fileno(), "w", closefd=False)),
        encoding=sys.stdout.encoding,
        # Half a surrogate pair in somebody's message has no UTF-8; escaped like this it is good JSON.
        errors="backslashreplace",
        line_buffering=sys.stdout.line_buffering,
    )
