"""A supervisor as a program, for its tests: ``supervised.py SPECS CHANGES [GRACE]``.

SPECS is JSON; each change becomes a line in the file CHANGES.  Lives are measured by a clock that stands still at what
the file ``clock`` beside it says, at first 0, so that no life is long because the machine is slow.
"""

import asyncio
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from manybinder.signals import stop_signals
from manybinder.supervise import Pace, State, Supervisor
from servicekit.processes import ProcessSpec

PACE = Pace(first_delay=0.05, max_delay=0.4, healthy_after=30.0, grace=60.0, probe_interval=0.02, reap_interval=0.1)


def _note(path: str, *words: object) -> None:
    with Path(path).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def supervise(specs_json: str, changes: str, grace: str = str(PACE.grace)) -> None:
    """Supervise until told to end."""
    clock_file = Path(changes).with_name("clock")
    specs = [ProcessSpec(**{**spec, "argv": tuple(spec["argv"])}) for spec in json.loads(specs_json)]

    def listener(spec: ProcessSpec, state: State, why: str) -> None:
        _note(changes, spec.name, state.name, why)

    def clock() -> float:
        return float(clock_file.read_text()) if clock_file.exists() else 0.0

    async def run() -> None:
        pace = replace(PACE, grace=float(grace))
        with stop_signals() as signals:
            async with Supervisor(specs, listener, pace=pace, urgent=signals.urgent, clock=clock):
                await signals.told.wait()

    asyncio.run(run())
    _note(changes, "supervisor DONE")


def as_json(specs: list[ProcessSpec]) -> str:
    """Specs as :func:`supervise` reads them."""
    return json.dumps([asdict(spec) for spec in specs])


if __name__ == "__main__":
    supervise(*sys.argv[1:])
