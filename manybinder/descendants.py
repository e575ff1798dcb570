"""Processes that this one has adopted: reaping those that have ended, ending those that have not."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Set as AbstractSet

import psutil

logger = logging.getLogger(__name__)

_INTERVAL_S = 0.05

# SIGKILL is obeyed at once, but for a process that hangs in the kernel.
_PATIENCE_S = 5.0


def reap(not_ours: AbstractSet[int]) -> None:
    """Take note of adopted processes that have ended, so that they vanish; ``not_ours`` are left to their keepers."""
    for child in psutil.Process().children():
        if child.pid in not_ours:
            continue
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


async def end_all(spared: AbstractSet[int], grace_s: float, urgent: asyncio.Event) -> None:
    """End every descendant that is not below one of ``spared`` (direct children), by SIGTERM and after a while SIGKILL.

    At first only direct children are told, so that each can end its own.
    """
    deadline = time.monotonic() + grace_s
    told: set[int] = set()
    while True:
        reap(spared)
        alive = [child for child in psutil.Process().children() if child.pid not in spared]
        if not alive:
            return
        if time.monotonic() >= deadline + _PATIENCE_S:
            logger.error("these processes cannot be ended: %s", ", ".join(str(child.pid) for child in alive))
            return
        if time.monotonic() >= deadline or urgent.is_set():
            _kill_trees(alive)
        for child in alive:
            if child.pid not in told:
                told.add(child.pid)
                with contextlib.suppress(psutil.Error):
                    child.terminate()
        await asyncio.sleep(_INTERVAL_S)


def _kill_trees(tops: list[psutil.Process]) -> None:
    for top in tops:
        with contextlib.suppress(psutil.Error):
            for process in [*top.children(recursive=True), top]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
