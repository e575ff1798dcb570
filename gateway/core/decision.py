"""Who takes a launch.  A decision is data: the same object is acted on, logged, shown and explained."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from contract.repos import RepoKey
from gateway.core.fleet import CapacityState, FleetSnapshot, Health, MemberView, Policy, Status
from gateway.core.policies import POLICIES
from gateway.core.settings import RoutingSettings


class Tier(IntEnum):
    """What comes first, before any score."""

    #: Available, with room or with capacity unknown.
    ROOM = 0
    #: Available, and full as far as is known: it may have room by now, or it queues.
    FULL = 1
    #: Not probed yet: better than refusing while a gateway starts.
    UNPROBED = 2


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What is to be launched; ``commit`` is ``None`` before it is resolved.  ``tried`` names members that failed it."""

    repo: RepoKey
    commit: str | None = None
    tried: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member that may take the launch; ``free`` of ``limit`` sessions are believed free (``None`` = not known)."""

    member: str
    tier: Tier
    score: float
    warm: bool
    free: int | None
    limit: int | None

    @property
    def reason(self) -> str:
        """Why it stands where it does, as a clause that follows its name."""
        clauses = []
        if self.tier == Tier.UNPROBED:
            clauses.append("has not been probed yet")
        if self.warm:
            clauses.append("has an image of it, or builds one")
        if self.tier == Tier.FULL:
            clauses.append("is full")
        elif self.free is None:
            clauses.append("does not say how much is free")
        else:
            of = f" of {self.limit}" if self.limit else ""
            clauses.append(f"has {self.free}{of} sessions free")
        return f"{', '.join(clauses)} and scores {self.score:.3g}"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A member that may not take the launch; ``reason`` is a clause that follows its name."""

    member: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The members for a launch, best first, and those that are out of the question."""

    request: LaunchRequest
    policy: str
    at: float
    candidates: tuple[Candidate, ...]
    rejected: tuple[Rejected, ...]

    @property
    def chosen(self) -> Candidate | None:
        """Who takes it; ``None``: nobody can."""
        return self.candidates[0] if self.candidates else None

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
            "at": self.at,
            "member": self.chosen.member if self.chosen else None,
            "sentence": self.explain(),
            "candidates": [
                {
                    "member": item.member,
                    "tier": item.tier.name.lower(),
                    "score": item.score,
                    "warm": item.warm,
                    "free": item.free,
                    "reason": item.reason,
                }
                for item in self.candidates
            ],
            "rejected": [{"member": item.member, "reason": item.reason} for item in self.rejected],
        }


def decide(
    snapshot: FleetSnapshot, request: LaunchRequest, settings: RoutingSettings, now: float, draw: float
) -> Decision:
    """Order the members for a launch.

    Candidates are ordered by tier, then score, then name.  Deterministic in its arguments; ``draw`` (from [0, 1)) is
    all the chance there is.
    """
    candidates, rejected = [], []
    for view in snapshot.members:
        status = snapshot.status(view, now)
        if view.name in request.tried:
            rejected.append(Rejected(view.name, "has failed this launch"))
        elif (tier := _tier(status)) is None:
            rejected.append(Rejected(view.name, _rejection(status)))
        else:
            candidates.append(_candidate(view, status, tier, request, settings, draw))
    candidates.sort(key=lambda item: (item.tier, -item.score, item.member))
    rejected.sort(key=lambda item: item.member)
    return Decision(request, settings.policy, now, tuple(candidates), tuple(rejected))


def _tier(status: Status) -> Tier | None:
    if status.available:
        return Tier.FULL if status.capacity == CapacityState.FULL else Tier.ROOM
    if status.policy == Policy.ACTIVE and status.health == Health.UNKNOWN:
        return Tier.UNPROBED
    return None


def _rejection(status: Status) -> str:
    reasons = " ".join(status.reasons).rstrip(".")
    return f"{status.state}: {reasons}" if reasons else status.state


def _candidate(
    view: MemberView, status: Status, tier: Tier, request: LaunchRequest, settings: RoutingSettings, draw: float
) -> Candidate:
    warm = view.holds(request.repo, request.commit)
    # Among full members free capacity says nothing; their weights do.
    free = settings.assumed_free if not status.free else float(status.free)
    size = view.member.weight * view.slow_start * free * (settings.warm_factor if warm else 1.0)
    score = POLICIES[settings.policy](view.name, size, request.repo, draw)
    limit = view.received.report.sessions.limit if view.received else None
    return Candidate(view.name, tier, score, warm, status.free, limit)


def settings_problem(settings: RoutingSettings) -> str | None:
    """What is wrong with a policy's name; ``None`` = nothing."""
    if settings.policy in POLICIES:
        return None
    return f"unknown policy {settings.policy!r} (known: {', '.join(sorted(POLICIES))})"
