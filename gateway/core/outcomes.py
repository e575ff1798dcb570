"""What becomes of a member's launches, and when it leaves rotation for it.

A member may pass every check and still fail each launch.  So the launches themselves are a signal (Envoy: outlier
detection; the circuit breaker's closed, open and half-open): too many failures eject the member for a time, and then
one trial launch at a time decides whether it returns.

Only what is the member's failure counts, never a repository's.  Where that is in doubt (the session of a launch does
not start) a repository counts once, and again only for launches that became ready elsewhere: a repository whose server
never starts ejects nobody.
"""

from dataclasses import dataclass, replace
from itertools import takewhile

from contract.repos import RepoKey
from gateway.core.settings import EjectionSettings

#: Failures of launches less than this many seconds apart count once: what ended ten of them at once has happened once.
BURST = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A launch's attempt at a member, begun at a time; ``launch`` is the short launch id."""

    begun_at: float
    repo: RepoKey
    launch: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt, and when."""

    at: float
    ok: bool
    attempt: Attempt


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

    ``recent`` holds them oldest first: those of the window, and failures in a row however old, or a member to which
    few launches go would never leave for them.  ``ejection`` is the present one, ``last`` the one before, with the time
    at which the member had recovered from it.
    """

    recent: tuple[Outcome, ...] = ()
    ejection: Ejection | None = None
    last: tuple[Ejection, float] | None = None

    @property
    def failures_in_a_row(self) -> tuple[Outcome, ...]:
        """Failures since the last success, newest first."""
        return tuple(takewhile(lambda outcome: not outcome.ok, reversed(self.recent)))


def succeeded(outcomes: Outcomes, attempt: Attempt, now: float, settings: EjectionSettings) -> Outcomes:
    """After a launch that became ready; one begun since the ejection shows that the member has recovered."""
    ejection = outcomes.ejection
    if ejection is None:
        return _with(outcomes, Outcome(now, True, attempt), settings)
    if attempt.begun_at < ejection.at:
        return outcomes
    return Outcomes(last=(ejection, now))


def failed(
    outcomes: Outcomes,
    reason: str,
    attempt: Attempt,
    now: float,
    draw: float,
    settings: EjectionSettings,
    *,
    sure: bool,
) -> Outcomes:
    """After a launch that failed at the member; ``reason`` is a sentence, ``draw`` is from [0, 1).

    ``sure``: it is the member's failure without doubt, or the launch has become ready elsewhere since.
    """
    if outcomes.ejection is not None:
        # Those sent there before the time for trials, some for want of anybody else, tell nothing new.
        if not sure or attempt.begun_at < outcomes.ejection.until:
            return outcomes
        return _ejected(outcomes, f"A trial launch failed: {reason}", now, draw, settings)
    if _is_known(outcomes, attempt, now, sure=sure):
        return outcomes
    outcomes = _with(outcomes, Outcome(now, False, attempt), settings)
    in_a_row = len(outcomes.failures_in_a_row)
    if in_a_row >= settings.consecutive_failures:
        return _ejected(outcomes, f"{in_a_row} launches in a row failed there: {reason}", now, draw, settings)
    of = sum(_in_window(outcome, now, settings) for outcome in outcomes.recent)
    bad = sum(not outcome.ok and _in_window(outcome, now, settings) for outcome in outcomes.recent)
    if bad >= settings.failures and 2 * bad > of:
        return _ejected(outcomes, f"{bad} of {of} launches failed there: {reason}", now, draw, settings)
    return outcomes


def _is_known(outcomes: Outcomes, attempt: Attempt, now: float, *, sure: bool) -> bool:
    """Whether a failure says nothing that earlier ones have not said."""
    failures = outcomes.failures_in_a_row
    if sure and any(other.attempt == attempt for other in failures):
        return True
    if not sure and any(other.attempt.repo == attempt.repo for other in failures):
        return True
    return sure and bool(failures) and now - failures[0].at < BURST


def _with(outcomes: Outcomes, outcome: Outcome, settings: EjectionSettings) -> Outcomes:
    in_a_row = () if outcome.ok else outcomes.failures_in_a_row
    kept = (other for other in outcomes.recent if other in in_a_row or _in_window(other, outcome.at, settings))
    return replace(outcomes, recent=(*kept, outcome))


def _in_window(outcome: Outcome, now: float, settings: EjectionSettings) -> bool:
    return outcome.at > now - settings.window


def _ejected(outcomes: Outcomes, reason: str, now: float, draw: float, settings: EjectionSettings) -> Outcomes:
    before = outcomes.ejection
    if before is None and outcomes.last is not None and now - outcomes.last[1] < settings.forget_after:
        before = outcomes.last[0]
    times = before.times + 1 if before else 1
    length = min(settings.base_time * times, settings.max_time) * (0.9 + 0.2 * draw)
    return Outcomes(ejection=Ejection(now, now + length, times, reason))
