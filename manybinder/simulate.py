"""``manybinder simulate``: launches replayed through the gateway's own decisions, in virtual time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from contract import json_types
from gateway.core.policies import POLICIES
from gateway.core.settings import RoutingSettings
from gateway.simulator.replay import replay
from gateway.simulator.setup import Outages, Setup
from gateway.simulator.trace import Arrival, TraceError, at_load, generate, read_trace
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people, print_result, table

#: What is told of each policy, by heading.
_COLUMNS = {
    "POLICY": "policy",
    "LAUNCHES": "launches",
    "BUILDS PER 1000": "builds_per_1000",
    "REFUSED %": "refused_percent",
    "AVOIDABLE %": "avoidable_percent",
    "FAILED": "failed",
    "BUSIEST/MEAN P50": "spread_p50",
    "P95": "spread_p95",
    "READY P50 S": "ready_p50_s",
    "P99 S": "ready_p99_s",
    "FAILOVERS": "failovers",
    "INTO GREY": "into_grey",
}


@dataclass(frozen=True)
class Options:
    """The command's arguments; ``trace`` = ``None``: launches are generated.  No policies means all of them."""

    trace: Path | None
    policies: Sequence[str]
    limits: Sequence[int]
    days: float
    load: float
    seed: int
    outages: bool
    shared_registry: bool
    demo: bool
    as_json: bool


def simulate(options: Options) -> Exit:
    """Print what comes of each policy; raises :class:`CommandError`."""
    arrivals = at_load(_arrivals(options), options.load)
    if not arrivals:
        raise CommandError("no launches come in so short a time", Exit.USAGE)
    rows = []
    console = for_people()
    for policy in dict.fromkeys(options.policies or sorted(POLICIES)):
        setup = Setup(
            limits=tuple(options.limits),
            seed=options.seed,
            shared_registry=options.shared_registry,
            outages=Outages() if options.outages else None,
            routing=RoutingSettings(policy=policy),
        )
        if not options.as_json and console.is_terminal:
            with console.status(f"{policy}: {len(arrivals)} launches"):
                row = replay(setup, arrivals).to_wire()
        else:
            row = replay(setup, arrivals).to_wire()
        if options.as_json:
            click.echo(json_types.dumps(row))
        rows.append(row)
    if not options.as_json:
        print_result(_table(rows))
    return Exit.DONE


def _arrivals(options: Options) -> list[Arrival]:
    if options.trace is None:
        return generate(options.days, seed=options.seed)
    try:
        return read_trace(options.trace, days=options.days, demo=options.demo, seed=options.seed)
    except TraceError as error:
        raise CommandError(str(error), Exit.USAGE) from error


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    cells = (["-" if row[key] is None else row[key] for key in _COLUMNS.values()] for row in rows)
    return table(tuple(_COLUMNS), cells, numbers=True)
