"""What came of a simulation."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """How a launch ends for its visitor."""

    READY = "ready"
    REFUSED = "refused"
    #: Members have failed it too often.
    FAILED = "failed"


@dataclass
class Results:
    """Counts and times (in seconds) of one simulation."""

    policy: str
    endings: Counter[Ending] = field(default_factory=Counter)
    avoidable: int = 0
    """Launches that were refused while a member had room."""
    builds: int = 0
    pulls: int = 0
    attempts: int = 0
    failovers: int = 0
    """Attempts that another followed because of a member's fault."""
    refusals: int = 0
    """Attempts that a member refused."""
    into_grey: int = 0
    """Attempts at a member that failed all launches then."""
    lost_sessions: int = 0
    times_to_ready: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    """For each minute, the busiest member's share of its limit that is taken, over the mean share."""
    most: dict[str, int] = field(default_factory=dict)
    """Member → the most sessions that it had."""

    @property
    def launches(self) -> int:
        """All that have ended."""
        return sum(self.endings.values())

    def to_wire(self) -> dict[str, Any]:
        """As a JSON object; times in seconds, ``None`` where nothing was measured."""
        launches = max(1, self.launches)
        return {
            "policy": self.policy,
            "launches": self.launches,
            "builds_per_1000": round(1000 * self.builds / launches, 2),
            "pulls_per_1000": round(1000 * self.pulls / launches, 2),
            "refused_percent": round(100 * self.endings[Ending.REFUSED] / launches, 3),
            "avoidable_percent": round(100 * self.avoidable / launches, 3),
            "failed": self.endings[Ending.FAILED],
            "spread_p50": quantile(self.spreads, 0.5, 3),
            "spread_p95": quantile(self.spreads, 0.95, 3),
            "ready_p50_s": quantile(self.times_to_ready, 0.5),
            "ready_p99_s": quantile(self.times_to_ready, 0.99),
            "failovers": self.failovers,
            "refusals": self.refusals,
            "into_grey": self.into_grey,
            "lost_sessions": self.lost_sessions,
            "most_sessions": self.most,
        }


def quantile(values: Sequence[float], share: float, digits: int = 1) -> float | None:
    """The least of the values that at least this share of them does not exceed, rounded."""
    if not values:
        return None
    return round(sorted(values)[max(0, math.ceil(share * len(values)) - 1)], digits)
