"""What only the kernel can promise about processes: prctl(2)."""

import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Looked up now: between fork and exec nothing may be imported or loaded.
_prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of process 1."""
    if _prctl is not None and _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def die_with_parent() -> Callable[[], None]:
    """A ``preexec_fn`` that has the child sent SIGTERM when its parent, this process, dies.

    The kernel means the thread that forks: start such children from one that lasts.
    """
    parent = os.getpid()

    def in_child() -> None:
        if _prctl is None:
            return
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child
