"""Holds a command together where nothing confines it: ``python shim.py COMMAND…``.

What the command starts and leaves behind becomes a child of this process, which ends it; and this process ends when
the one that started it does.  Imports the standard library only, because it runs as a plain script.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the command and end what it leaves; returns its exit status."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _end)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Python ignores them for itself.
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    command = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, setsid=True, setsigdef=defaults)
    while True:
        pid, status = os.wait()
        if pid == command:
            break
    _kill_all()
    code = os.waitstatus_to_exitcode(status)
    # As a shell tells it.
    return 128 - code if code < 0 else code


def _end(_signal: int, _frame: FrameType | None) -> None:
    _kill_all()
    os._exit(143)


def _kill_all() -> None:
    """Until there is no child: the children of a child that is killed become this process's own."""
    while True:
        for child in _descendants(os.getpid()):
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(below for child in children for below in _descendants(child))]


if __name__ == "__main__":
    sys.exit(main())
