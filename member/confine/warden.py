"""Runs one command under watch: its lines as they appear, its limits, and its end with everything that it started."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from member.confine.confinement import Invocation
from member.confine.ending import to_its_end
from member.confine.limits import LimitExceededError, Limits, breach_of_tree, disk_usage, kill_tree
from member.confine.lines import LineSplitter

logger = logging.getLogger(__name__)

#: Seconds between two looks at the processes.
INTERVAL_S = 1.0

#: Of a command that the kernel has ended for the size of one file, by itself or under a shell.
_FILE_TOO_LARGE = (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)

OnLine = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, as this machine sees it; ``watched`` are the directories that it may fill."""

    invocation: Invocation
    environ: Mapping[str, str]
    limits: Limits
    watched: Sequence[Path] = ()
    cwd: str = "/"


async def run(command: Command, on_line: OnLine | None = None) -> int:
    """Run to the end; returns the exit status.

    Output goes to ``on_line``, or where this process's own goes.  Raises :class:`LimitExceededError` if the command
    was ended for taking too much.  However this ends, cancellation included, nothing of the command runs afterwards.
    """
    piped = asyncio.subprocess.PIPE if on_line else None
    with command.invocation.opened() as (program, argv, fds):
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *argv,
                executable=program,
                env=dict(command.environ),
                cwd=command.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=piped,
                stderr=asyncio.subprocess.STDOUT if on_line else None,
                pass_fds=fds,
            )
        )
        try:
            process = await to_its_end(starting)
        except asyncio.CancelledError:
            # asyncio would kill the one process, and not what it has started by then.
            if not starting.cancelled() and starting.exception() is None:
                await _end(starting.result(), [])
            raise
    # Each by itself: counting files may take long, and processes are not to go unwatched for that time.
    watchers = {
        asyncio.create_task(_watch_processes(process.pid, command.limits), name=f"watch {process.pid}"),
        asyncio.create_task(_watch_disk(command), name=f"watch the disk of {process.pid}"),
    }
    waiting = asyncio.create_task(process.wait(), name=f"wait {process.pid}")
    tasks: list[asyncio.Task[Any]] = [*watchers, waiting]
    if on_line and process.stdout:
        tasks.append(asyncio.create_task(_read(process.stdout, on_line), name=f"read {process.pid}"))
    try:
        pending = set(tasks)
        # Nobody is left who could hold the pipe open once the command has ended, but its reader may be slow.
        while pending - watchers:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a watcher's is an error if a limit is broken, the reader's if its caller fails
        status = waiting.result()
        if status in _FILE_TOO_LARGE:
            raise LimitExceededError(_wrote_too_much(command.limits))
        return status
    finally:
        await _end(process, tasks)


def _wrote_too_much(limits: Limits) -> str:
    return f"it wrote more than {limits.disk / 2**30:.1f} GiB to disk"


async def _end(process: asyncio.subprocess.Process, tasks: list[asyncio.Task[Any]]) -> None:
    """Kill what runs and wait until it is gone, cancelled or not, because directories are removed next."""
    killed: list[psutil.Process] = []
    if process.returncode is None:
        # Not process.kill(), which would take the exit status from the one who waits for it.
        killed = kill_tree(process.pid)
    for task in tasks:
        task.cancel()
    await to_its_end(_gone(process, tasks, killed))


async def _gone(
    process: asyncio.subprocess.Process, tasks: list[asyncio.Task[Any]], killed: list[psutil.Process]
) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    await process.wait()
    deadline = time.monotonic() + 10
    # No event tells of the end of another's child.
    while any(item.is_running() and _alive(item) for item in killed) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


async def _read(stream: asyncio.StreamReader, on_line: OnLine) -> None:
    splitter = LineSplitter()
    while chunk := await stream.read(64 * 1024):
        for line in splitter.feed(chunk):
            await on_line(line)
    for line in splitter.flush():
        await on_line(line)


async def _watch_processes(pid: int, limits: Limits) -> None:
    """Return never; raises :class:`LimitExceededError`."""
    begun = time.monotonic()
    while True:
        if limits.deadline_s is not None and time.monotonic() - begun > limits.deadline_s:
            raise LimitExceededError(f"it took longer than {limits.deadline_s:g} seconds")
        if breach := breach_of_tree(pid, limits):
            raise LimitExceededError(breach)
        until_deadline = INTERVAL_S if limits.deadline_s is None else begun + limits.deadline_s - time.monotonic()
        await asyncio.sleep(min(INTERVAL_S, max(0.01, until_deadline)))


async def _watch_disk(command: Command) -> None:
    """Return never; raises :class:`LimitExceededError`."""
    pause = INTERVAL_S
    while True:
        await asyncio.sleep(pause)
        begun = time.monotonic()
        if await disk_usage(command.watched) > command.limits.disk:
            raise LimitExceededError(_wrote_too_much(command.limits))
        # Counting many files takes a while; at most a tenth of the time goes into it.
        pause = max(INTERVAL_S, 9 * (time.monotonic() - begun))
