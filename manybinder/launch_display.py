"""How a launch is shown while it runs: phases and elapsed time, the log where it is wanted."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from contract.events import BuildEvent, Phase
from manybinder.terminal import plain

#: Lines of the log that are shown when a launch fails.
TAIL = 200

_REFRESH_PER_S = 8


class Display(Protocol):
    """Is shown every event."""

    def show(self, event: BuildEvent) -> None:
        """Take note of an event."""


class Quiet:
    """Shows nothing: the events themselves are what is printed."""

    def show(self, event: BuildEvent) -> None:
        """Nothing."""


class Lines:
    """A line a phase, and on a terminal a line below that moves."""

    def __init__(self, console: Console, *, log: bool) -> None:
        self._console = console
        self._log = log
        self._begun = self._phase_begun = time.monotonic()
        self._phase: Phase | None = None
        self._member = ""
        self._latest = ""
        self._rest = ""
        self._tail: deque[str] = deque(maxlen=TAIL)

    def show(self, event: BuildEvent) -> None:
        """Print what is new."""
        member = event.fields.get("member")
        if isinstance(member, str) and member:
            self._member = plain(member)
        lines = self._complete_lines(event)
        if event.phase not in (Phase.UNKNOWN, self._phase):
            self._change_phase(event, lines[-1] if lines else "")
        elif self._log:
            for line in lines:
                self._console.print(f"    {line}")
        self._tail.extend(lines)
        if lines:
            self._latest = lines[-1]
        if event.phase == Phase.FAILED and not self._log:
            self._show_tail(but=len(lines))

    def renderable(self) -> RenderableType:
        """The line that moves."""
        now = time.monotonic()
        phase = self._phase.value if self._phase else "connecting"
        where = f" on {self._member}" if self._member else ""
        text = f"{phase}{where}, {now - self._phase_begun:.0f} s ({now - self._begun:.0f} s in all)  {self._latest}"
        width = max(10, self._console.width - 4)
        return Spinner("dots", text[:width])

    def _complete_lines(self, event: BuildEvent) -> list[str]:
        """Lines that have come to their end; pieces of one (pip's progress) are put together."""
        *lines, rest = plain(self._rest + event.message).split("\n")
        if event.phase in (Phase.UNKNOWN, Phase.FETCHING, Phase.BUILDING, Phase.PUSHING) and len(rest) < TAIL:
            self._rest = rest
        else:
            lines.append(rest)
            self._rest = ""
        return [line.rstrip() for line in lines if line.strip()]

    def _change_phase(self, event: BuildEvent, line: str) -> None:
        self._phase, self._phase_begun = event.phase, time.monotonic()
        if event.phase == Phase.FAILED:
            return  # its message is the command's error
        if event.phase == Phase.READY:
            line = f"on {self._member}" if self._member else ""  # the URL is printed as the result
        elapsed = self._phase_begun - self._begun
        self._console.print(f"{elapsed:6.1f} s  {event.phase.value}" + (f": {line}" if line else ""))

    def _show_tail(self, but: int) -> None:
        """What led to the failure, without the failure itself."""
        lines = list(self._tail)
        for line in lines[: len(lines) - but]:
            self._console.print(f"    {line}")


@contextmanager
def display_for(console: Console, *, quiet: bool, log: bool) -> Iterator[Display]:
    """A display that fits the console, for as long as the context lasts."""
    if quiet:
        yield Quiet()
        return
    lines = Lines(console, log=log)
    if not console.is_terminal:
        yield lines
        return
    with Live(get_renderable=lines.renderable, console=console, transient=True, refresh_per_second=_REFRESH_PER_S):
        yield lines
