"""Being told to end: Ctrl-C, SIGTERM, and the terminal's hang-up."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """What this process has been told."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self.told = asyncio.Event()
        """Set by the first signal: end."""
        self.urgent = asyncio.Event()
        """Set by the second one: end at once."""

    def on_signal(self, number: signal.Signals) -> None:
        """Note a signal."""
        if self.first is None:
            self.first = number
            self.told.set()
        else:
            self.urgent.set()


class StoppedError(Exception):
    """A signal came before the work was done."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch the signals that tell a process to end, in the running event loop, for as long as the context lasts."""
    loop, signals = asyncio.get_running_loop(), StopSignals()
    for number in _SIGNALS:
        loop.add_signal_handler(number, signals.on_signal, number)
    try:
        yield signals
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def until_told(signals: StopSignals, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, unless a signal comes first: then it is cancelled, and :class:`StoppedError` raised."""
    task = asyncio.create_task(work, name="work")
    told = asyncio.create_task(signals.told.wait(), name="signals")
    try:
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        for each in (task, told):
            each.cancel()
        await asyncio.gather(task, told, return_exceptions=True)
    assert signals.first is not None  # noqa: S101 - what set `told`
    raise StoppedError(signals.first)
