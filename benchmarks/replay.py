"""What each policy comes to on days of real launches: ``make replay``, which takes minutes.

Reads the trace that ``--trace`` or ``MANYBINDER_TRACE`` names (as :func:`gateway.simulator.trace.read_trace` does), or
generates one.  The reference is the policy ``random``, in the same run.
"""

import argparse
import json
import os
import sys
import time
from itertools import product
from pathlib import Path

from gateway.core.policies import POLICIES
from gateway.core.settings import RoutingSettings
from gateway.simulator.replay import replay
from gateway.simulator.setup import Setup
from gateway.simulator.trace import Arrival, at_load, generate, read_trace

#: The members of mybinder.org, by their pod quotas.
LIMITS = (300, 180, 60)

COLUMNS = (
    "builds_per_1000",
    "refused_percent",
    "avoidable_percent",
    "failed",
    "spread_p50",
    "spread_p95",
    "ready_p99_s",
    "into_grey",
)


def main() -> None:
    """Replay, print one JSON object a line, and a table for people."""
    arguments = _arguments()
    print(f"{'policy':12}{'registries':12}{'load':>5}  " + "".join(f"{name:>19}" for name in COLUMNS), file=sys.stderr)
    launches = _launches(arguments)
    for load, registries, policy in product(arguments.load, ("apart", "shared"), arguments.policy or sorted(POLICIES)):
        begun = time.monotonic()
        setup = Setup(
            LIMITS,
            arguments.seed,
            shared_registry=registries == "shared",
            routing=RoutingSettings(policy=policy),
        )
        found = replay(setup, at_load(launches, load)).to_wire()
        found = {"registries": registries, "load": load, **found, "took_s": round(time.monotonic() - begun, 1)}
        print(json.dumps(found), flush=True)
        figures = "".join(f"{found[name]!s:>19}" for name in COLUMNS)
        print(f"{policy:12}{registries:12}{load:5}  {figures}", file=sys.stderr, flush=True)


def _launches(arguments: argparse.Namespace) -> list[Arrival]:
    if arguments.trace is None:
        return generate(arguments.days, seed=arguments.seed)
    return read_trace(arguments.trace, days=arguments.days, demo=arguments.demo, seed=arguments.seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    named = os.environ.get("MANYBINDER_TRACE")
    parser.add_argument("--trace", type=Path, default=Path(named) if named else None, help="CSV, may be gzipped")
    parser.add_argument("--days", type=float, default=28.0, help="of the trace, from its begin")
    parser.add_argument("--demo", action="store_true", help="with the trace's demonstrations")
    parser.add_argument("--load", type=float, nargs="+", default=[1.0, 1.4], help="times as fast as in the trace")
    parser.add_argument("--policy", nargs="+", choices=sorted(POLICIES), help="all, if none is named")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
