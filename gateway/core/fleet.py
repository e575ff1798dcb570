"""What the gateway believes of every member, as one immutable snapshot.

Health, capacity and policy are three things: a full member is not down, and a draining one is neither.  Only together
they make a member available.  All times are Unix times in seconds; whoever asks passes the present one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from contract.addresses import ClientForm
from contract.reports import CapacityReport, Check, Sessions
from contract.repos import RepoKey
from contract.sentences import said
from gateway.core.outcomes import Outcomes
from gateway.core.settings import HealthSettings
from gateway.core.words import state_word

#: What a member counts for at the start of its slow start.
SLOW_START_FLOOR = 0.1

#: Seconds after which a trial launch that has not ended (it may have a long build before it) bars no other one.
TRIAL_AT_MOST = 60.0


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
    """A member as it is registered.

    ``origins`` are those that its notebooks may be served from; ``providers`` those whose repositories it takes, all if
    empty; ``client_form`` is what it may know of visitors' addresses.  No more sessions and images than ``max_…`` are
    believed of it.  ``guarded``: it has said itself where it is, so not every address will do.
    """

    name: str
    url: str
    kind: str = "manybinder"
    weight: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    client_form: ClientForm = "full"
    max_sessions: int | None = None
    max_images: int | None = None
    guarded: bool = False


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
    what the member reports.  ``ready_at`` is when it became ready: the next report counts it in any case.  ``own``:
    this replica has sent it.  ``owner`` names whose session it will be (:func:`contract.reports.session_owner`).
    """

    launch: str
    repo: RepoKey
    commit: str
    made_at: float
    seen: bool = False
    ready_at: float | None = None
    own: bool = True
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """A member's latest report, and when it came."""

    report: CapacityReport
    at: float


@dataclass(frozen=True, slots=True)
class Counted:
    """Sessions that a probe found counted, and when; of members that send no reports."""

    sessions: Sessions
    at: float


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a member's state (the one word), when, and why, as a sentence."""

    at: float
    before: str
    after: str
    reason: str


class Status(NamedTuple):
    """What follows of a member's view at one moment."""

    health: Health
    capacity: CapacityState
    policy: Policy
    free: int | None
    """Sessions believed free: as reported, less what was sent there since; ``None`` where that is not known."""
    used: int
    """Sessions believed taken, what was sent there since it last said among them; only these where it does not say."""
    limit: int | None
    """Of how many; ``None`` where that is not known."""
    slow_start: float
    """What a new or returned member counts for, from 0 to 1."""

    @property
    def available(self) -> bool:
        """Whether a launch may be sent there: healthy and active.  A full member is available, and comes last."""
        return self.policy is Policy.ACTIVE and self.health in (Health.HEALTHY, Health.HALF_OPEN)

    @property
    def state(self) -> str:
        """One word for people."""
        if self.policy is not Policy.ACTIVE:
            return self.policy.value
        if self.health is not Health.HEALTHY:
            return self.health.value
        return "full" if self.capacity is CapacityState.FULL else "available"


@dataclass(frozen=True, slots=True)
class MemberView:
    """All that is believed of one member."""

    member: Member
    since: float
    """When its state (the one word) last changed."""
    state: str = "unknown"
    policy: Policy = Policy.ACTIVE
    weight_set: float | None = None
    """Its weight by the word of an operator, over that of its registration."""
    reachable: Layer = Layer()
    passing: Layer = Layer()
    outcomes: Outcomes = field(default_factory=Outcomes)
    settled_health: Health = Health.UNKNOWN
    """Its health when the state was last looked at."""
    returned_at: float | None = None
    """When it came into rotation, or back; its slow start begins there.  ``None``: it was there from the start."""
    starting_until: float | None = None
    """Until then it may come into rotation at full weight: federations start as a whole, and nobody is the busier for
    it.  ``None``: no longer, or not at all."""
    checks: tuple[Check, ...] = ()
    received: Received | None = None
    counted: Counted | None = None
    full_until: float | None = None
    """It has refused a launch for want of room: believed until then, or until it reports."""
    reservations: tuple[Reservation, ...] = ()
    launches_seen: frozenset[str] = frozenset()
    """Short ids of the launches that its latest report counts."""
    warm: frozenset[tuple[RepoKey, str]] = frozenset()
    """(repo, commit) of the images that it holds."""
    warm_repos: frozenset[RepoKey] = frozenset()
    registries: frozenset[str] = frozenset()
    """The registries that it names with its images, and pulls from."""
    answered_versions: Mapping[str, str] = field(default_factory=dict)
    """What it last answered when it was asked for its versions."""
    probed_at: float | None = None
    history: tuple[Transition, ...] = ()
    """Its latest transitions, oldest first."""

    @property
    def name(self) -> str:
        """The member's name."""
        return self.member.name

    @property
    def weight(self) -> float:
        """Its weight as of now."""
        return self.member.weight if self.weight_set is None else self.weight_set

    @property
    def labels(self) -> Mapping[str, str]:
        """What it says of itself, and over that what it is registered with."""
        reported = self.received.report.labels if self.received else {}
        return {**reported, **self.member.labels} if reported else self.member.labels

    @property
    def versions(self) -> Mapping[str, str]:
        """Of its parts, as it last answered and reported."""
        reported = self.received.report.versions if self.received else {}
        return {**self.answered_versions, **reported} if reported else self.answered_versions

    @property
    def providers(self) -> tuple[str, ...]:
        """Whose repositories it takes; empty = all, as far as is known."""
        return self.member.providers or (self.received.report.providers if self.received else ())

    def health(self, now: float) -> Health:
        """Its health, from the layers: the first that fails says what it is."""
        if self.reachable.ok is None:
            return Health.UNKNOWN
        if not self.reachable.ok:
            return Health.UNREACHABLE
        if self.passing.ok is None:
            return Health.UNKNOWN
        if not self.passing.ok:
            return Health.FAILING
        if self.outcomes.ejection is not None:
            return Health.EJECTED if now < self.outcomes.ejection.until else Health.HALF_OPEN
        return Health.HEALTHY

    def on_trial(self, now: float) -> bool:
        """Whether a launch that was sent there since its ejection, and not long ago, has not ended yet."""
        ejection = self.outcomes.ejection
        return ejection is not None and any(
            item.made_at >= ejection.until and item.ready_at is None and now - item.made_at < TRIAL_AT_MOST
            for item in self.reservations
        )

    def effective_policy(self, now: float, settings: HealthSettings) -> Policy:
        """What holds for it: a member may drain itself, as long as it says so, and one without weight takes nothing."""
        report = self.report(now, settings) if self.policy == Policy.ACTIVE else None
        drains = self.weight == 0 or (report is not None and report.draining)
        return Policy.DRAINING if self.policy == Policy.ACTIVE and drains else self.policy

    def slow_start(self, now: float, settings: HealthSettings) -> float:
        """What it counts for, from 0 to 1: it grows evenly from its return on (Envoy: slow start)."""
        if self.returned_at is None:
            return 1.0
        return min(1.0, max(SLOW_START_FLOOR, (now - self.returned_at) / settings.probes.slow_start))

    def report(self, now: float, settings: HealthSettings) -> CapacityReport | None:
        """Its report, if that is fresh enough to be believed."""
        if self.received is None or now - self.received.at > settings.probes.report_max_age:
            return None
        return self.received.report

    def sessions(self, now: float, settings: HealthSettings) -> Sessions | None:
        """Its sessions as it last counted them, if that is fresh enough to be believed."""
        report = self.report(now, settings)
        if report is not None:
            return report.sessions
        if self.counted is None or now - self.counted.at > settings.probes.report_max_age:
            return None
        return self.counted.sessions

    def _room(self, now: float, settings: HealthSettings) -> tuple[int | None, int, int | None]:
        """Sessions believed free, taken, and in all; see :class:`Status`."""
        # A list, for it is counted at every decision, and nothing counts faster.
        unseen = [item.seen for item in self.reservations].count(False)
        refuses = self.full_until is not None and now < self.full_until
        sessions = self.sessions(now, settings)
        if sessions is None or sessions.free is None:
            return 0 if refuses else None, unseen, None
        limit = sessions.limit if sessions.limit is not None else sessions.running + sessions.pending + sessions.free
        free = 0 if refuses else max(0, sessions.free - unseen)
        return free, max(0, limit - sessions.free) + unseen, limit

    def free(self, now: float, settings: HealthSettings) -> int | None:
        """Sessions believed free; ``None`` = not known."""
        return self._room(now, settings)[0]

    def holds(self, repo: RepoKey, commit: str | None) -> bool:
        """Whether it holds an image of the repository (at that commit, where one is given), or builds one for us."""
        if repo in self.warm_repos if commit is None else (repo, commit) in self.warm:
            return True
        # A loop, for it is asked at every decision, and nothing answers faster.
        for item in self.reservations:  # noqa: SIM110
            if item.repo == repo and commit in (None, item.commit):
                return True
        return False

    def serves(self, owner: str) -> bool:
        """Whether a session of this owner runs there, as far as is known, or starts for us."""
        if owner == "":
            return False
        reported = self.received is not None and owner in self.received.report.session_owners
        return reported or any(item.owner == owner for item in self.reservations)

    def status(self, now: float, settings: HealthSettings) -> Status:
        """What follows of all this now."""
        free, used, limit = self._room(now, settings)
        capacity = CapacityState.UNKNOWN if free is None else CapacityState.FREE if free > 0 else CapacityState.FULL
        slow_start = 1.0 if self.returned_at is None else self.slow_start(now, settings)
        return Status(self.health(now), capacity, self.effective_policy(now, settings), free, used, limit, slow_start)

    def reasons(self, now: float, settings: HealthSettings) -> tuple[str, ...]:
        """Why it is in its state, as sentences."""
        return tuple(
            self._policy_reasons(now, settings) + self._health_reasons(now) + self._capacity_reasons(now, settings)
        )

    def _policy_reasons(self, now: float, settings: HealthSettings) -> list[str]:
        policy = self.effective_policy(now, settings)
        if policy == Policy.DRAINING and self.policy == Policy.ACTIVE:
            return [said("Its weight is 0.") if self.weight == 0 else said("It drains itself.")]
        if policy == Policy.PENDING:
            return [said("It has joined, and takes no launches before it was checked and accepted.")]
        if policy == Policy.ACTIVE:
            return []
        return [said("An operator has set it to %(state)s: it gets no new launches.", state=state_word(policy.value))]

    def _health_reasons(self, now: float) -> list[str]:
        health = self.health(now)
        if health == Health.UNKNOWN:
            return [said("It has not been probed yet.")]
        if health == Health.UNREACHABLE:
            return [self.reachable.reason]
        if health == Health.FAILING:
            return [self.passing.reason]
        ejection = self.outcomes.ejection
        if ejection is None:
            return []
        if health == Health.EJECTED:
            return [ejection.reason, said("It is tried again in %(seconds)s s.", seconds=f"{ejection.until - now:.0f}")]
        trial = said("A trial launch is on its way.") if self.on_trial(now) else said("The next launch is a trial.")
        return [ejection.reason, trial]

    def _capacity_reasons(self, now: float, settings: HealthSettings) -> list[str]:
        reasons: list[str] = []
        if self.full_until is not None and now < self.full_until:
            reasons.append(said("It has refused a launch for want of room."))
        elif self.free(now, settings) == 0:
            reasons.append(said("All its sessions are taken."))
        elif self.received is not None and self.report(now, settings) is None:
            age = f"{now - self.received.at:.0f}"
            reasons.append(said("Its last capacity report came %(seconds)s s ago and has expired.", seconds=age))
        slow_start = self.slow_start(now, settings)
        in_rotation = self.health(now) == Health.HEALTHY and self.effective_policy(now, settings) == Policy.ACTIVE
        if slow_start < 1 and in_rotation:
            age = f"{now - (self.returned_at or now):.0f}"
            reasons.append(said("It has come into rotation %(seconds)s s ago, slowly at first.", seconds=age))
        return reasons


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """Every member's view; ``version`` counts its changes.  Members stand in the order of their names."""

    members: tuple[MemberView, ...]
    settings: HealthSettings
    version: int = 0

    def get(self, name: str) -> MemberView | None:
        """A member's view; ``None`` for one that is not registered."""
        return next((view for view in self.members if view.name == name), None)

    def status(self, view: MemberView, now: float) -> Status:
        """What follows of a view now."""
        return view.status(now, self.settings)

    def reasons(self, view: MemberView, now: float) -> tuple[str, ...]:
        """Why a member is in its state, as sentences."""
        return view.reasons(now, self.settings)

    @property
    def probed(self) -> bool:
        """Whether each member has been probed at least once."""
        return all(view.probed_at is not None for view in self.members)
