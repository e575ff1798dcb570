"""The lifeline: a pipe from a supervisor whose end of file means that the supervisor is dead, however it died.

The supervisor keeps the writing end and writes nothing; each child inherits the reading end, whose number stands in
``MANYBINDER_LIFELINE_FD``.  The kernel closes the writing end even after ``kill -9``.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

logger = logging.getLogger(__name__)

ENV = "MANYBINDER_LIFELINE_FD"


def inherited_fd(environ: Mapping[str, str] = os.environ) -> int | None:
    """The reading end that this process inherited; ``None`` if it runs without a supervisor."""
    try:
        fd = int(environ[ENV])
        os.fstat(fd)
    except (KeyError, ValueError, OSError):
        return None
    return fd


def watch(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    """End this process by SIGINT when the supervisor dies: at once, for nobody is left who waits for a proper end."""

    def on_readable() -> None:
        if os.read(fd, 1) == b"":
            loop.remove_reader(fd)
            logger.warning("the supervisor is gone; ending")
            signal.raise_signal(signal.SIGINT)

    os.set_blocking(fd, False)
    loop.add_reader(fd, on_readable)
