"""How often one visitor may launch here without a page of ours; pure but for its own memory."""

from dataclasses import dataclass, field

#: Visitors after which those that may launch as often as ever are forgotten.
_MANY = 10_000

#: Parts of an interval that floats may lose.
_LOST = 1e-6


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking: seconds to wait (0 = go on), what is left, and seconds until all is there again."""

    wait_s: float
    left: int
    full_in_s: float


@dataclass
class Rates:
    """``burst`` launches at once, and one more each ``interval_s``: the generic cell rate algorithm (ITU-T I.371)."""

    burst: int
    interval_s: float
    _full_at: dict[str, float] = field(default_factory=dict)

    def take(self, visitor: str, now: float) -> Taken:
        """Count a launch, unless there were too many; ``now`` in seconds of any clock."""
        if len(self._full_at) > _MANY:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        before = max(now, self._full_at.get(visitor, now))
        wait = before - now - (self.burst - 1) * self.interval_s
        if wait > _LOST * self.interval_s:
            return Taken(wait, 0, before - now)
        after = self._full_at[visitor] = before + self.interval_s
        left = self.burst - (after - now) / self.interval_s
        return Taken(0.0, max(0, int(left + _LOST)), after - now)
