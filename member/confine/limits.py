"""Limits of a command: those that the kernel keeps for each process, and what is watched of the whole tree."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from contract.units import format_size

#: Seconds in which a tree of processes has come to a stand, before it is killed in any case.
STOPPED_WITHIN_S = 1.0


class LimitExceededError(Exception):
    """A command that was ended because it took too much; the text is the end of a sentence for the visitor."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, processes and threads, bytes, seconds; all processes of a command together."""

    memory: int
    processes: int
    disk: int
    deadline_s: float | None = None


# A shell sets them, inside the sandbox, where processes are counted anew.  They bind one process each (but for the
# number of processes, and that not where the member runs as root), so the tree is watched too.
_ULIMITS = """
ulimit -c 0
ulimit -f {blocks} || exit 125
ulimit -d {kilobytes} || exit 125
ulimit -p {processes} 2>/dev/null || ulimit -u {processes} 2>/dev/null
exec "$@"
"""


def limited(command: Sequence[str], limits: Limits) -> list[str]:
    """The command, started with its limits."""
    script = _ULIMITS.format(
        blocks=limits.disk // 512, kilobytes=limits.memory // 1024, processes=limits.processes
    ).strip()
    return ["/bin/sh", "-c", script, "sh", *command]


def tree(pid: int) -> list[psutil.Process]:
    """A process and everything below it; empty if it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def breach_of_tree(pid: int, limits: Limits) -> str | None:
    """Which limit the processes break, as the end of a sentence; looks at processes and memory."""
    processes = tree(pid)
    threads = resident = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            threads += process.num_threads()
            resident += process.memory_info().rss
    if threads > limits.processes:
        return f"it ran more than {limits.processes} processes and threads"
    # What processes share counts once; that takes longer to find out, so only where it may matter.
    if resident > limits.memory and sum(map(_proportional, processes)) > limits.memory:
        return f"it used more than {format_size(limits.memory)} of memory"
    return None


async def disk_usage(paths: Sequence[Path]) -> int:
    """Bytes below the paths; ``du`` does not mind names, depths and permissions that a hostile program made."""
    existing = [str(path) for path in paths if path.exists()]
    if not existing:
        return 0
    process = await asyncio.create_subprocess_exec(
        "du",
        "-skx",
        "--",
        *existing,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    return sum(int(line.split()[0]) for line in output.splitlines() if line) * 1024


def kill_tree(pid: int) -> list[psutil.Process]:
    """Kill a process and everything below it; returns who was killed, to wait for.

    All are stopped first, so that none can start another in the meantime.  A signal takes a moment: who is just
    starting another finishes that before it stops.
    """
    stopped: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + STOPPED_WITHIN_S
    while True:
        fresh = [process for process in tree(pid) if process.pid not in stopped]
        if time.monotonic() > deadline or (not fresh and all(map(_stands_still, stopped.values()))):
            break
        if not fresh:
            time.sleep(0.001)
        for process in fresh:
            stopped[process.pid] = process
            with contextlib.suppress(psutil.Error):
                process.suspend()
    for process in stopped.values():
        with contextlib.suppress(psutil.Error):
            process.kill()
    return list(stopped.values())


def _stands_still(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP, psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


def _proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
