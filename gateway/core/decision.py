"""Who takes a launch.  A decision is data: the same object is acted on, logged, shown and explained."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from contract.rendezvous import uniform
from contract.repos import RepoKey
from gateway.core.fleet import CapacityState, FleetSnapshot, Health, MemberView, Policy, Status
from gateway.core.policies import POLICIES, Option, Tier
from gateway.core.rules import Ruling, rule_problems, ruling
from gateway.core.settings import RoutingSettings


class Standing(IntEnum):
    """In which order members are asked; policies decide within each."""

    #: A session of the visitor, who has logged in, runs there: the launch leads back to it.
    PINNED = -1
    #: Back from ejection: one launch at a time shows whether it has recovered.  Whoever fails it goes on elsewhere.
    TRIAL = 0
    #: The visitor was there last.
    STICKY = 1
    #: In rotation, with room or with capacity unknown.
    IN_ROTATION = 2
    #: In rotation, and in its slow start: this launch is not of the share that it takes by now.
    RETURNING = 3
    #: Ejected or failing, but too few others are left (panic): better than to drown them.
    PANIC = 4
    #: The visitor has just had a failure there.
    AVOIDED = 5
    #: Full as far as is known: it may have room by now, or it queues.
    FULL = 6
    #: Not probed yet: better than refusing while a gateway starts.
    UNPROBED = 7
    #: Ejected or failing, and yet better than nobody.
    LAST_RESORT = 8
    #: Has failed this launch; it may succeed the next time.
    AGAIN = 9


#: What a member's standing says of it, as a clause that follows its name.
_STANDINGS = {
    Standing.PINNED: "runs the visitor's own session",
    Standing.TRIAL: "is back from ejection and due for a trial launch",
    Standing.STICKY: "had this visitor last",
    Standing.RETURNING: "has come into rotation only now",
    Standing.PANIC: "is out of rotation, but too few others are left",
    Standing.AVOIDED: "has just failed this visitor",
    Standing.FULL: "is full",
    Standing.UNPROBED: "has not been probed yet",
    Standing.LAST_RESORT: "is out of rotation and the last resort",
    Standing.AGAIN: "has failed this launch before",
}

_TIERS = {
    Tier.WARM: "has the image, or builds it",
    Tier.PULL: "can pull the image",
    Tier.COLD: "can build it, and has no more than its share of the load",
    Tier.WARM_BUSY: "has the image, and little room left",
}


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What is to be launched, and for whom.

    ``commit`` is ``None`` before it is resolved; ``provider`` and ``origin`` may be empty.  ``client`` is the visitor's
    address.  ``asked`` is the member that the visitor asks for, ``sticky`` the one of last time.  ``tried`` members
    have failed this launch, each as often as it stands there; ``refused`` ones have just refused it; ``avoid`` are
    those that failed an earlier one of this visitor.  ``owner`` names the session of who has logged in
    ("" = nobody has).
    """

    repo: RepoKey
    commit: str | None = None
    provider: str = ""
    client: str = ""
    origin: str = ""
    asked: str = ""
    sticky: str = ""
    tried: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    owner: str = ""


class Candidate(NamedTuple):
    """A member that may take the launch; ``free`` of ``limit`` sessions are believed free (``None`` = not known).

    ``unmet`` counts the operator's preferences that it does not meet; ``weight`` is its size beside the others'.
    """

    member: str
    standing: Standing
    unmet: int
    tier: Tier
    score: float
    warm: bool
    free: int | None
    limit: int | None
    weight: float

    @property
    def group(self) -> str:
        """One word for why it was chosen: its tier where it is simply in rotation, else its standing."""
        return (self.tier if self.standing == Standing.IN_ROTATION else self.standing).name.lower()

    @property
    def reason(self) -> str:
        """Why it stands where it does, as a clause that follows its name."""
        clauses = [_STANDINGS[self.standing]] if self.standing in _STANDINGS else []
        if self.tier in _TIERS:
            clauses.append(_TIERS[self.tier])
        elif self.warm:
            clauses.append("has the image, or builds it")
        if self.free is None:
            clauses.append("does not say how much is free")
        elif self.standing != Standing.FULL:
            of = f" of {self.limit}" if self.limit else ""
            clauses.append(f"has {self.free}{of} sessions free")
        if self.unmet:
            clauses.append("is not one that the operator prefers")
        return f"{', '.join(clauses)} and scores {self.score:.3g}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A member that may not take the launch; ``reason`` is a clause that follows its name.

    ``for_now``: with time it may be able to, without anybody's doing.  ``fits``: such launches are for it, and only its
    state stands against this one.
    """

    member: str
    reason: str
    for_now: bool = False
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The members for a launch, best first, and those that are out of the question.

    ``panic``: so few members are in rotation that those out of it are asked as well.
    """

    request: LaunchRequest
    policy: str
    at: float
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]
    panic: bool = False

    @property
    def chosen(self) -> Candidate | None:
        """Who takes it; ``None``: nobody can."""
        return self.candidates[0] if self.candidates else None

    @property
    def members(self) -> tuple[str, ...]:
        """Whom such launches are for, in whatever state they are: who waits for the same ones waits in one queue."""
        return (*(item.member for item in self.candidates), *(item.member for item in self.rejected if item.fits))

    @property
    def room(self) -> int:
        """Sessions believed free for such a launch; a member that does not say may have one."""
        return sum(1 if item.free is None else item.free for item in self.candidates)

    def explain(self) -> str:
        """One sentence for people."""
        parts = []
        if self.chosen is None:
            parts.append(f"Nobody can take {self.request.repo}")
        else:
            parts.append(f"{self.chosen.member} takes {self.request.repo}: it {self.chosen.reason}")
        if others := self.candidates[1:]:
            parts.append("after it " + ", then ".join(f"{item.member} ({item.reason})" for item in others))
        if self.rejected:
            parts.append("not asked: " + ", ".join(f"{item.member} ({item.reason})" for item in self.rejected))
        return "; ".join(parts) + "."

    def to_wire(self) -> dict[str, Any]:
        """The decision as a JSON object."""
        return {
            "repo": self.request.repo,
            "commit": self.request.commit,
            "policy": self.policy,
            "panic": self.panic,
            "at": self.at,
            "member": self.chosen.member if self.chosen else None,
            "sentence": self.explain(),
            "candidates": [
                {
                    "member": item.member,
                    "standing": item.standing.name.lower(),
                    "tier": item.tier.name.lower(),
                    "score": item.score,
                    "warm": item.warm,
                    "free": item.free,
                    "weight": item.weight,
                    "reason": item.reason,
                }
                for item in self.candidates
            ],
            "rejected": [{"member": item.member, "reason": item.reason} for item in self.rejected],
        }


class _Seen(NamedTuple):
    """A member on its way to becoming a candidate."""

    view: MemberView
    status: Status
    standing: Standing
    unmet: int
    warm: bool


def decide(
    snapshot: FleetSnapshot, request: LaunchRequest, settings: RoutingSettings, now: float, draw: float
) -> Decision:
    """Order the members for a launch.

    Candidates are ordered by standing, then by the operator's preferences, then as the policy places them, then by
    name.  Deterministic in its arguments; ``draw`` (from [0, 1)) is all the chance there is.
    """
    rules = ruling(settings.rules, request.repo, request.client, request.origin)
    statuses = [snapshot.status(view, now) for view in snapshot.members]
    panic = _panic(statuses, settings)
    seen: list[_Seen] = []
    rejected = []
    preferring = bool(rules.prefer)
    for view, status in zip(snapshot.members, statuses, strict=True):
        unfit = _unfit(view, request, rules)
        if unfit is not None and (status.policy is Policy.ACTIVE or request.asked):
            rejected.append(Rejected(view.name, unfit, fits=False))
            continue
        if view.name in request.refused:
            rejected.append(Rejected(view.name, "has refused this launch", for_now=True))
            continue
        standing = _standing(view, status, request, panic, now, draw)
        if standing is None:
            reasons = " ".join(snapshot.reasons(view, now)).rstrip(".")
            text = f"is {status.state}: {reasons}" if reasons else f"is {status.state}"
            rejected.append(Rejected(view.name, text, status.policy is Policy.ACTIVE, unfit is None))
            continue
        warm = view.holds(request.repo, request.commit)
        seen.append(_Seen(view, status, standing, rules.unmet(view.labels) if preferring else 0, warm))
    rejected.sort(key=lambda item: item.member)
    candidates = _placed(seen, request, settings, draw)
    return Decision(request, settings.policy, now, tuple(candidates), tuple(rejected), panic)


def _panic(statuses: Sequence[Status], settings: RoutingSettings) -> bool:
    """Whether too few of the members that operators want are in rotation; full ones are."""
    active = [status.health for status in statuses if status.policy is Policy.ACTIVE]
    known = len(active) - active.count(Health.UNKNOWN)
    return active.count(Health.HEALTHY) < settings.panic_below * known


def _unfit(view: MemberView, request: LaunchRequest, rules: Ruling) -> str | None:
    """Why this launch is not for that member, whatever its state; a clause that follows its name."""
    if request.asked and view.name != request.asked:
        return f"is not {request.asked}, which the visitor asks for"
    providers = view.providers
    if request.provider and providers and request.provider not in providers:
        return f"takes no repositories of the provider {request.provider!r}"
    return rules.rejection(view.labels) if rules.restricts else None


def _tries(view: MemberView, status: Status, request: LaunchRequest, now: float) -> bool:
    """Whether a launch may be a trial of a member that is half-open; one that has failed once is not sent on trial."""
    return status.capacity is not CapacityState.FULL and not (view.on_trial(now) or request.tried or request.avoid)


def _standing(
    view: MemberView, status: Status, request: LaunchRequest, panic: bool, now: float, draw: float
) -> Standing | None:
    """Where a member stands for a launch; ``None`` = it can take none."""
    if status.policy is not Policy.ACTIVE or status.health is Health.UNREACHABLE:
        return None
    if view.name in request.tried:
        return Standing.AGAIN
    if view.serves(request.owner):
        return Standing.PINNED
    if status.health is not Health.HEALTHY:
        return _standing_out(view, status, request, panic, now)
    if status.capacity is CapacityState.FULL:
        return Standing.FULL
    if view.name in request.avoid:
        return Standing.AVOIDED
    # A chance of its own: policies place members by the draw, too.
    if status.slow_start < 1 and uniform(f"slow start {draw!r}", view.name) >= status.slow_start:
        return Standing.RETURNING
    return Standing.STICKY if view.name == request.sticky else Standing.IN_ROTATION


def _standing_out(view: MemberView, status: Status, request: LaunchRequest, panic: bool, now: float) -> Standing:
    """Where a member stands that can be reached, and is out of rotation."""
    if status.health is Health.UNKNOWN:
        return Standing.UNPROBED
    if status.health is Health.HALF_OPEN and _tries(view, status, request, now):
        return Standing.TRIAL
    return Standing.PANIC if panic else Standing.LAST_RESORT


def _placed(seen: Sequence[_Seen], request: LaunchRequest, settings: RoutingSettings, draw: float) -> list[Candidate]:
    if not seen:
        return []
    # Who shares a registry with a member that holds the image can pull it.
    registries: frozenset[str] = frozenset().union(*(item.view.registries for item in seen if item.warm))
    options = [_option(item, registries, settings) for item in seen]
    places = POLICIES[settings.policy](options, request.repo, draw, settings)
    candidates = [
        Candidate(
            item.view.name,
            item.standing,
            item.unmet,
            tier,
            score,
            item.warm,
            item.status.free,
            item.status.limit,
            option.weight,
        )
        for item, option, (tier, score) in zip(seen, options, places, strict=True)
    ]
    tries = request.tried.count
    candidates.sort(
        key=lambda item: (item.standing, tries(item.member), item.unmet, item.tier, -item.score, item.member)
    )
    return candidates


def _option(item: _Seen, registries: frozenset[str], settings: RoutingSettings) -> Option:
    view, status = item.view, item.status
    builds = view.received.report.builds if view.received else None
    limit = max(1, round(settings.assumed_limit)) if status.limit is None else status.limit
    pullable = bool(registries) and not registries.isdisjoint(view.registries)
    may_build = builds is None or builds.limit is None or builds.running + builds.queued < builds.limit
    return Option(view.member.name, view.weight, status.used, limit, item.warm, pullable, may_build)


def routing_problems(settings: RoutingSettings) -> list[str]:
    """What is wrong with the settings, each with its path below ``routing``; empty = nothing."""
    problems = rule_problems(settings.rules)
    if settings.policy not in POLICIES:
        problems.append(f"policy: unknown policy {settings.policy!r} (known: {', '.join(sorted(POLICIES))})")
    return problems
