"""What people see while processes start, and when one dies."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console

from manybinder.supervise import State
from manybinder.terminal import plain
from servicekit.processes import ProcessSpec

_TAIL_LINES = 5
_TAIL_BYTES = 8192


class Progress:
    """Lines on a console, and on a terminal a spinner that says what is waited for.

    :meth:`on_change` is a supervisor's listener.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._pending: set[str] = set()
        self._known: set[str] = set()
        """Those that have been ready, or whose log has been shown."""

    def starting(self) -> AbstractContextManager[object]:
        """Show the spinner for as long as the context lasts."""
        return self._status if self._status is not None else nullcontext()

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text)

    def on_change(self, spec: ProcessSpec, state: State, why: str) -> None:
        """Tell a change of a process."""
        name = title(spec.name)
        match state:
            case State.STARTING:
                self._pending.add(name)
                self.say(f"{name} {state} …")
            case State.READY:
                self._pending.discard(name)
                self._known.add(name)
                self.say(f"{name} {state} {why}")
            case State.ENDED:
                self._pending.add(name)
                self.say(f"{name} {state}: {why}; its log: {spec.log}")
                if name not in self._known:
                    self._known.add(name)
                    self._show_end(Path(spec.log))
            case State.STOPPED if why == "by SIGKILL":
                self.say(f"{name} did not end when asked, and was killed")
            case _:
                pass
        if self._status is not None:
            self._status.update("waiting for " + (", ".join(sorted(self._pending)) or "the members' health"))

    def _show_end(self, log: Path) -> None:
        """The last lines of the log of a process that does not even start."""
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:
            return
        for line in plain(text).splitlines()[-_TAIL_LINES:]:
            self.say(f"    {line}")


def title(name: str) -> str:
    """A process's name for people: ``member-1: hub``."""
    return name.replace("/", ": ", 1)
