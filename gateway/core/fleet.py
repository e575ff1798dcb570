"""What the gateway believes of every member, as one immutable snapshot.

Health, capacity and policy are three things: a full member is not down, and a draining one is neither.  Only together
they make a member available.  All times are Unix times in seconds; whoever asks passes the present one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from contract.reports import CapacityReport, Check
from contract.repos import RepoKey
from gateway.core.settings import ProbeSettings


class Health(StrEnum):
    """Whether a member works, as far as is known."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    #: It answers, and says itself that something is broken.
    FAILING = "failing"
    UNREACHABLE = "unreachable"
    #: Out of rotation for what became of launches there.
    EJECTED = "ejected"
    #: Returning from ejection by trial launches.
    HALF_OPEN = "half_open"


class CapacityState(StrEnum):
    """Whether a member has room."""

    FREE = "free"
    FULL = "full"
    UNKNOWN = "unknown"


class Policy(StrEnum):
    """What operators want of a member."""

    PENDING = "pending"
    ACTIVE = "active"
    #: Takes no new launches; what runs goes on.
    DRAINING = "draining"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class Member:
    """A member as it is registered; ``origins`` are those that its notebooks may be served from."""

    name: str
    url: str
    kind: str = "manybinder"
    weight: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of health, with hysteresis.

    ``ok`` is what is believed (``None``: nothing yet) since ``since``, for ``reason``; ``against`` counts the
    observations in a row that contradict it.
    """

    ok: bool | None = None
    reason: str = ""
    since: float = 0.0
    against: int = 0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A launch that this gateway has sent to a member.

    ``launch`` is the short launch id.  Until a report shows that the member counts it (``seen``), it counts on top of
    what the member reports.  ``ready_at`` is when it became ready: the next report counts it in any case.
    """

    launch: str
    repo: RepoKey
    commit: str
    made_at: float
    seen: bool = False
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A member's latest report, and when it came."""

    report: CapacityReport
    at: float


@dataclass(frozen=True, slots=True)
class Status:
    """What follows of a member's view at one moment."""

    health: Health
    capacity: CapacityState
    policy: Policy
    free: int | None
    """Sessions believed free: as reported, less what was sent there since; ``None`` where that is not known."""
    available: bool
    """Whether a launch may be sent there: healthy and active.  A full member is available, and comes last."""
    state: str
    """One word for people."""
    reasons: tuple[str, ...]
    """Why it is in that state, as sentences."""


@dataclass(frozen=True, slots=True)
class MemberView:
    """All that is believed of one member."""

    member: Member
    since: float
    """When its state (the one word) last changed."""
    state: str = "unknown"
    policy: Policy = Policy.ACTIVE
    reachable: Layer = Layer()
    passing: Layer = Layer()
    slow_start: float = 1.0
    """What a new or returned member counts for, from 0 to 1."""
    checks: tuple[Check, ...] = ()
    received: Received | None = None
    reservations: tuple[Reservation, ...] = ()
    warm: frozenset[tuple[RepoKey, str]] = frozenset()
    """(repo, commit) of the images that it holds."""
    warm_repos: frozenset[RepoKey] = frozenset()
    versions: Mapping[str, str] = field(default_factory=dict)
    probed_at: float | None = None

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def health(self) -> Health:
        """Its health, from the layers: the first that fails says what it is."""
        if self.reachable.ok is None:
            return Health.UNKNOWN
        if not self.reachable.ok:
            return Health.UNREACHABLE
        if self.passing.ok is None:
            return Health.UNKNOWN
        return Health.HEALTHY if self.passing.ok else Health.FAILING

    @property
    def effective_policy(self) -> Policy:
        """What holds for it: a member may drain itself, and one without weight takes nothing."""
        drains = self.member.weight == 0 or (self.received is not None and self.received.report.draining)
        return Policy.DRAINING if self.policy == Policy.ACTIVE and drains else self.policy

    def report(self, now: float, settings: ProbeSettings) -> CapacityReport | None:
        """Its report, if that is fresh enough to be believed."""
        if self.received is None or now - self.received.at > settings.report_max_age:
            return None
        return self.received.report

    def free(self, now: float, settings: ProbeSettings) -> int | None:
        """Sessions believed free; ``None`` = not known."""
        report = self.report(now, settings)
        if report is None or report.sessions.free is None:
            return None
        return max(0, report.sessions.free - sum(not reservation.seen for reservation in self.reservations))

    def holds(self, repo: RepoKey, commit: str | None) -> bool:
        """Whether it holds an image of the repository (at that commit, where one is given), or builds one for us."""
        if commit is None:
            return repo in self.warm_repos or any(item.repo == repo for item in self.reservations)
        return (repo, commit) in self.warm or any(
            item.repo == repo and item.commit == commit for item in self.reservations
        )

    def status(self, now: float, settings: ProbeSettings) -> Status:
        """What follows of all this now."""
        health, policy, free = self.health, self.effective_policy, self.free(now, settings)
        capacity = CapacityState.UNKNOWN
        if free is not None:
            capacity = CapacityState.FREE if free > 0 else CapacityState.FULL
        available = policy == Policy.ACTIVE and health in (Health.HEALTHY, Health.HALF_OPEN)
        if policy != Policy.ACTIVE:
            state = policy.value
        elif not available:
            state = health.value
        else:
            state = "full" if capacity == CapacityState.FULL else "available"
        reasons = self._reasons(health, policy, capacity, now, settings)
        return Status(health, capacity, policy, free, available, state, reasons)

    def _reasons(
        self, health: Health, policy: Policy, capacity: CapacityState, now: float, settings: ProbeSettings
    ) -> tuple[str, ...]:
        reasons = []
        if policy == Policy.DRAINING and self.policy == Policy.ACTIVE:
            reasons.append("Its weight is 0." if self.member.weight == 0 else "It drains itself.")
        elif policy != Policy.ACTIVE:
            reasons.append(f"An operator has set it to {policy.value}.")
        if health == Health.UNKNOWN:
            reasons.append("It has not been probed yet.")
        elif health == Health.UNREACHABLE:
            reasons.append(self.reachable.reason)
        elif health == Health.FAILING:
            reasons.append(self.passing.reason)
        if capacity == CapacityState.FULL:
            reasons.append("All its sessions are taken.")
        elif self.received is not None and self.report(now, settings) is None:
            reasons.append(f"Its last capacity report came {now - self.received.at:.0f} s ago and has expired.")
        return tuple(reasons)


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Every member's view; ``version`` counts its changes.  Members stand in the order of their names."""

    members: tuple[MemberView, ...]
    settings: ProbeSettings
    version: int = 0

    def get(self, name: str) -> MemberView | None:
        """A member's view; ``None`` for one that is not registered."""
        return next((view for view in self.members if view.name == name), None)

    def status(self, view: MemberView, now: float) -> Status:
        """What follows of a view now."""
        return view.status(now, self.settings)

    @property
    def probed(self) -> bool:
        """Whether each member has been probed at least once."""
        return all(view.probed_at is not None for view in self.members)
