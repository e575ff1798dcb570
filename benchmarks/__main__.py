"""Run all benchmarks: ``make bench``, which puts ``tests`` on the path for its helpers."""

import argparse
import asyncio
import json
import statistics
import sys

from benchmarks import federation_times


def main() -> None:
    """Measure, print one JSON object, then a table for people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs whose median is told")
    runs = parser.parse_args().runs
    measured = asyncio.run(federation_times.measure(runs))
    medians = {name: round(statistics.median(values), 2) for name, values in measured.seconds.items()}
    print(json.dumps({"median_s": medians, "runs_s": measured.seconds, "pss_mb": measured.pss_mb}))
    for name, median in medians.items():
        values = measured.seconds[name]
        print(
            f"{name:55} {median:7.2f} s   ({min(values):.2f} to {max(values):.2f}, {len(values)} runs)", file=sys.stderr
        )
    spawn = medians[federation_times.HUB_SPAWN]
    print(f"warm launch / Hub spawn: {medians[federation_times.WARM] / spawn:.2f}", file=sys.stderr)
    print(f"cold launch / Hub spawn: {medians[federation_times.COLD] / spawn:.2f}", file=sys.stderr)
    for name, size in sorted(measured.pss_mb.items(), key=lambda item: -item[1]):
        print(f"{name:55} {size:7.0f} MB", file=sys.stderr)


main()
