"""A supervisor as a program, for its tests: ``supervised.py SPECS CHANGES``.

SPECS is JSON; each change becomes a line in the file CHANGES.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from manybinder.signals import stop_signals
from manybinder.supervise import Pace, State, Supervisor
from servicekit.processes import ProcessSpec

PACE = Pace(first_delay=0.05, max_delay=0.4, healthy_after=3.0, grace=1.5, probe_interval=0.02, reap_interval=0.1)


def _note(path: str, *words: object) -> None:
    with Path(path).open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def supervise(specs_json: str, changes: str) -> None:
    """Supervise until told to end."""
    specs = [ProcessSpec(**{**spec, "argv": tuple(spec["argv"])}) for spec in json.loads(specs_json)]

    def listener(spec: ProcessSpec, state: State, why: str) -> None:
        _note(changes, spec.name, state.name, why)

    async def run() -> None:
        with stop_signals() as signals:
            async with Supervisor(specs, listener, pace=PACE, urgent=signals.urgent):
                await signals.told.wait()

    asyncio.run(run())
    _note(changes, "supervisor DONE")


def as_json(specs: list[ProcessSpec]) -> str:
    """Specs as :func:`supervise` reads them."""
    return json.dumps([asdict(spec) for spec in specs])


if __name__ == "__main__":
    supervise(*sys.argv[1:])
