"""A supervisor: starts processes in order, restarts those that die, and ends all that ever came of them.

Three things hold even if the supervisor is killed by SIGKILL: programs of ours watch a pipe from it
(:mod:`servicekit.lifeline`), other programs are sent SIGTERM by the kernel when it dies, and what a killed child leaves
behind is adopted by the supervisor as long as it lives, and ended with the rest.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import psutil

from manybinder import descendants, linux
from servicekit import lifeline
from servicekit.processes import ProcessSpec
from servicekit.tasks import Tasks

#: A log larger than this (bytes) is put aside when its process starts; one old log is kept.
MAX_LOG = 20 * 1024 * 1024


class State(StrEnum):
    """What becomes of a process, in words that follow its name."""

    STARTING = "is starting"
    READY = "is ready"
    ENDED = "has ended"
    STOPPING = "is being stopped"
    STOPPED = "has stopped"


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a supervisor is; all in seconds."""

    first_delay: float = 0.2
    """Before the first restart; doubled at each further one."""
    max_delay: float = 10.0
    healthy_after: float = 30.0
    """A process that has run for so long is restarted after the first delay again."""
    grace: float = 10.0
    """From SIGTERM to SIGKILL."""
    probe_interval: float = 0.1
    """Between two looks at whether a process is ready."""
    reap_interval: float = 1.0
    """Between two looks for adopted processes that have ended."""


#: Is told of each change: the process, its new state, and why ("" where there is nothing to say).
Listener = Callable[[ProcessSpec, State, str], None]


class _Child:
    """One process of many lives."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.keeper: asyncio.Task[None] | None = None


class Supervisor:
    """Runs processes for as long as the context lasts; raises ``ValueError`` for specs that do not fit together.

    To be entered in the main thread, by one supervisor a process.  ``keep_open`` names files that the processes
    inherit: a lock among them is held until the last of them has ended.  ``urgent``, once set, leaves them no grace.
    By ``clock`` (seconds) their lives are measured.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        listener: Listener,
        *,
        keep_open: Sequence[int] = (),
        pace: Pace | None = None,
        urgent: asyncio.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = {spec.name: _Child(spec) for spec in specs}
        if len(self._children) < len(specs):
            raise ValueError("two processes have the same name")
        check_order(specs)
        self._tell = listener
        self._keep_open = tuple(keep_open)
        self._pace = pace or Pace()
        self._tasks = Tasks()
        self._starting = 0
        self._strangers: frozenset[int] = frozenset()
        self._lifeline: tuple[int, int] | None = None
        self._http: aiohttp.ClientSession | None = None
        self._urgent = urgent or asyncio.Event()
        self._clock = clock

    async def __aenter__(self) -> Self:
        linux.adopt_orphans()
        self._strangers = frozenset(child.pid for child in psutil.Process().children())
        self._lifeline = os.pipe()
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2))
        for name, child in self._children.items():
            child.keeper = self._tasks.spawn(f"keep {name}", self._keep(child))
        self._tasks.every("reap orphans", self._pace.reap_interval, self._reap)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._stop_all()
        finally:
            await self._tasks.close()
            if self._http is not None:
                await self._http.close()
            self._cut_lifeline()
        await descendants.end_all(self._strangers, self._pace.grace, self._urgent)

    def pid(self, name: str) -> int | None:
        """The process id of a process that runs."""
        process = self._children[name].process
        return process.pid if process is not None and process.returncode is None else None

    def is_ready(self, name: str) -> bool:
        """Whether a process runs and is ready."""
        return self._children[name].ready.is_set()

    async def wait_ready(self) -> None:
        """Wait until every process has become ready; for ever, if one never does."""
        for child in self._children.values():
            await child.ready.wait()

    async def _keep(self, child: _Child) -> None:
        for name in child.spec.after:
            await self._children[name].ready.wait()
        delay = self._pace.first_delay
        while True:
            begun = self._clock()
            try:
                why = await self._live(child)
            except (OSError, subprocess.SubprocessError) as error:
                why = f"it cannot be started: {getattr(error, 'strerror', None) or error}"
            if self._clock() - begun >= self._pace.healthy_after:
                delay = self._pace.first_delay
            self._tell(child.spec, State.ENDED, f"{why}; it is restarted in {delay:g} s")
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._pace.max_delay)

    async def _live(self, child: _Child) -> str:
        """Run the process once; returns why it ended."""
        process = await self._start(child)
        poll = self._tasks.spawn(f"await {child.spec.name}", self._until_ready(child))
        try:
            return _reason(await process.wait())
        finally:
            poll.cancel()
            child.ready.clear()
            if process.returncode is None:
                await self._end(child, process)
            else:
                # What it has left in its process group, such as half of a build, would disturb its next life.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)

    async def _start(self, child: _Child) -> asyncio.subprocess.Process:
        spec = child.spec
        assert self._lifeline is not None  # noqa: S101 - made on entry
        watched = self._lifeline[0]
        environment = {**os.environ, **spec.env, lifeline.ENV: str(watched)}
        # Not to be reaped by us before asyncio knows of it.
        self._starting += 1
        try:
            with contextlib.closing(_OpenLog(Path(spec.log))) as log:
                self._tell(spec, State.STARTING, "")
                child.process = await asyncio.create_subprocess_exec(
                    *spec.argv,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log.fd,
                    stderr=subprocess.STDOUT,
                    pass_fds=(watched, *self._keep_open),
                    # A Ctrl-C at the terminal is for the supervisor alone, which ends the others in order.
                    start_new_session=True,
                    preexec_fn=linux.die_with_parent() if spec.foreign else None,
                )
        finally:
            self._starting -= 1
        return child.process

    async def _until_ready(self, child: _Child) -> None:
        begun = time.monotonic()
        while True:
            if await self._answers(child.spec.ready_url):
                break
            await asyncio.sleep(self._pace.probe_interval)
        child.ready.set()
        self._tell(child.spec, State.READY, f"after {time.monotonic() - begun:.1f} s")

    async def _answers(self, url: str | None) -> bool:
        if url is None:
            return True
        assert self._http is not None  # noqa: S101 - made on entry
        try:
            async with self._http.get(url, allow_redirects=False) as response:
                return response.status < 500
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _end(self, child: _Child, process: asyncio.subprocess.Process) -> None:
        self._tell(child.spec, State.STOPPING, "")
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(child.spec.stop)
        waiting = self._tasks.spawn(f"end {child.spec.name}", process.wait())
        urgent = self._tasks.spawn("urgent", self._urgent.wait())
        try:
            await asyncio.wait({waiting, urgent}, timeout=self._pace.grace, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            self._tell(child.spec, State.STOPPED, _reason(await waiting))
        finally:
            urgent.cancel()

    async def _stop_all(self) -> None:
        """Stop each process once all that need it have stopped."""
        stopping: dict[str, asyncio.Task[None]] = {}

        async def stop(child: _Child) -> None:
            for name, other in self._children.items():
                if child.spec.name in other.spec.after:
                    await stopping[name]
            if child.keeper is not None:
                child.keeper.cancel()
                await asyncio.gather(child.keeper, return_exceptions=True)

        for name, child in self._children.items():
            stopping[name] = self._tasks.spawn(f"stop {name}", stop(child))
        await asyncio.gather(*stopping.values())

    async def _reap(self) -> None:
        if not self._starting:
            own = {child.process.pid for child in self._children.values() if child.process is not None}
            descendants.reap(self._strangers | own)

    def _cut_lifeline(self) -> None:
        if self._lifeline is not None:
            for fd in self._lifeline:
                os.close(fd)
            self._lifeline = None


def check_order(specs: Sequence[ProcessSpec]) -> None:
    """Raises ``ValueError`` if a process is to start after one that is not there, or after itself."""
    after: Mapping[str, set[str]] = {spec.name: set(spec.after) for spec in specs}
    started: set[str] = set()
    while len(started) < len(after):
        possible = {name for name, needed in after.items() if name not in started and needed <= started}
        if not possible:
            stuck = ", ".join(sorted(after.keys() - started))
            raise ValueError(f"these processes wait for each other, or for one that is not there: {stuck}")
        started |= possible


class _OpenLog:
    """A log file that only its owner can read; an overgrown one is put aside first."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > MAX_LOG:
                path.replace(path.with_name(f"{path.name}.1"))
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def close(self) -> None:
        os.close(self.fd)


def _reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
