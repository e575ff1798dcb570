"""How long one decision takes: ``python -m benchmarks.decide``, a part of ``make bench``.

The reference is the least that any hashing of a repository to members costs: a SHA-256 for each member, sorted.  Times
are of this thread on a processor: what else a machine does is no cost of a decision.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from contract.reports import Builds, CapacityReport, Image, Sessions
from contract.repos import RepoKey
from gateway.core import transitions
from gateway.core.decision import LaunchRequest, decide
from gateway.core.fleet import FleetSnapshot, Member, MemberView, Reservation
from gateway.core.settings import HealthSettings, RoutingSettings
from gateway.core.transitions import ProbeResult

NOW = 1000.0
HEALTH = HealthSettings()

#: Of each member: images that it holds, and launches that are on their way there.
IMAGES, RESERVATIONS = 400, 5

WARM, COLD = RepoKey("git.example/warm"), RepoKey("git.example/cold")


def fleet(count: int) -> FleetSnapshot:
    """Healthy members that have reported; every tenth holds the warm repository."""
    held = tuple(Image(RepoKey(f"git.example/{n}"), "c") for n in range(IMAGES))
    return FleetSnapshot(tuple(_view(n, held) for n in range(count)), HEALTH)


def _view(number: int, held: tuple[Image, ...]) -> MemberView:
    name = f"member-{number:04}"
    images = (*held, Image(WARM, "c")) if number % 10 == 0 else held
    used = number % 80
    report = CapacityReport(
        name,
        "boot",
        0,
        NOW,
        "",
        sessions=Sessions(used, 0, 100, 100 - used),
        builds=Builds(1, 0, 6),
        images=images,
        providers=("gh", "git"),
        labels={"site": "somewhere"},
    )
    view = MemberView(Member(name, f"https://{name}.example/"), since=0.0)
    view = transitions.reported(transitions.probed(view, ProbeResult(True, True), NOW, HEALTH), report, NOW, HEALTH)
    sent = tuple(Reservation(f"launch-{n}", RepoKey("git.example/other"), "c", NOW) for n in range(RESERVATIONS))
    return replace(view, reservations=sent)


def hashes(repo: str, names: list[str]) -> list[tuple[bytes, str]]:
    """The reference."""
    return sorted((hashlib.sha256(f"{repo}{name}".encode()).digest(), name) for name in names)


def median_ms(action: Callable[[], object], runs: int) -> float:
    """Milliseconds that one call takes."""
    times = []
    for _ in range(runs):
        begun = time.thread_time()
        action()
        times.append(time.thread_time() - begun)
    return 1000 * statistics.median(times)


def measure(runs: int) -> dict[str, float]:
    """Milliseconds by what was timed."""
    found = {}
    for count in (100, 1000):
        snapshot = fleet(count)
        names = [view.name for view in snapshot.members]
        found[f"reference: {count} hashes, sorted"] = median_ms(partial(hashes, WARM, names), runs)
        for kind, repo in (("cold", COLD), ("warm", WARM)):
            request = LaunchRequest(repo, "c", provider="gh")
            once = partial(decide, snapshot, request, RoutingSettings(), NOW, 0.5)
            found[f"decide over {count} members, {kind}"] = median_ms(once, runs)
    return found


def main() -> None:
    """Measure, print one JSON object, then a table for people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=301, help="decisions whose median is told")
    found = measure(parser.parse_args().runs)
    print(json.dumps({"decide_ms": {name: round(value, 4) for name, value in found.items()}}))
    for name, value in found.items():
        print(f"{name:55} {value:7.3f} ms", file=sys.stderr)


if __name__ == "__main__":
    main()
