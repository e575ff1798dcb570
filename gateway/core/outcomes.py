"""What becomes of a member's launches, and when it leaves rotation for it.

A member may pass every check and still fail each launch.  So the launches themselves are a signal (Envoy: outlier
detection; the circuit breaker's closed, open and half-open): too many failures eject the member for a time, and then
one trial launch at a time decides whether it returns.  Only what is the member's failure counts, never a
repository's.
"""

from dataclasses import dataclass, replace

from gateway.core.settings import EjectionSettings

#: Failures of launches less than this many seconds apart count once: what ended ten of them at once has happened once.
BURST = 1.0


@dataclass(frozen=True, slots=True)
class Ejection:
    """Out of rotation from ``at`` to ``until``, and half-open from then on; the ``times``-th one in a row."""

    at: float
    until: float
    times: int
    reason: str


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of a member's launches.

    ``recent`` holds (time, whether it succeeded), oldest first; ``ejection`` is the present one, ``last`` the one
    before, with the time at which the member had recovered from it.
    """

    recent: tuple[tuple[float, bool], ...] = ()
    ejection: Ejection | None = None
    last: tuple[Ejection, float] | None = None

    @property
    def failures_in_a_row(self) -> int:
        """Failures since the last success."""
        count = 0
        for _, ok in reversed(self.recent):
            if ok:
                break
            count += 1
        return count


def succeeded(outcomes: Outcomes, begun_at: float, now: float, settings: EjectionSettings) -> Outcomes:
    """After a launch that became ready; one begun since the ejection shows that the member has recovered."""
    ejection = outcomes.ejection
    if ejection is None:
        return replace(outcomes, recent=_recent(outcomes, True, now, settings))
    if begun_at < ejection.at:
        return outcomes
    return Outcomes(last=(ejection, now))


def failed(
    outcomes: Outcomes, reason: str, begun_at: float, now: float, draw: float, settings: EjectionSettings
) -> Outcomes:
    """After a launch that failed for the member's own fault; ``reason`` is a sentence, ``draw`` is from [0, 1)."""
    if outcomes.ejection is not None:
        # Those that were on their way when it was ejected tell nothing new.
        if begun_at < outcomes.ejection.at:
            return outcomes
        return _ejected(outcomes, f"A trial launch failed: {reason}", now, draw, settings)
    if outcomes.recent and not outcomes.recent[-1][1] and now - outcomes.recent[-1][0] < BURST:
        return outcomes
    outcomes = replace(outcomes, recent=_recent(outcomes, False, now, settings))
    in_a_row, bad = outcomes.failures_in_a_row, sum(not ok for _, ok in outcomes.recent)
    if in_a_row >= settings.consecutive_failures:
        return _ejected(outcomes, f"{in_a_row} launches in a row failed there: {reason}", now, draw, settings)
    of = len(outcomes.recent)
    if bad >= settings.failures and 2 * bad > of:
        return _ejected(outcomes, f"{bad} of {of} launches failed there: {reason}", now, draw, settings)
    return outcomes


def _recent(outcomes: Outcomes, ok: bool, now: float, settings: EjectionSettings) -> tuple[tuple[float, bool], ...]:
    return (*(item for item in outcomes.recent if item[0] > now - settings.window), (now, ok))


def _ejected(outcomes: Outcomes, reason: str, now: float, draw: float, settings: EjectionSettings) -> Outcomes:
    before = outcomes.ejection
    if before is None and outcomes.last is not None and now - outcomes.last[1] < settings.forget_after:
        before = outcomes.last[0]
    times = before.times + 1 if before else 1
    length = min(settings.base_time * times, settings.max_time) * (0.9 + 0.2 * draw)
    return Outcomes(ejection=Ejection(now, now + length, times, reason))
