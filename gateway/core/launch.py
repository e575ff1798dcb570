"""A launch as engines and web see it: a journal, and where it stands."""

from dataclasses import dataclass, field
from enum import StrEnum

from contract.events import Failure, Phase
from contract.journal import Journal
from contract.launches import short
from providers.base import RepoSpec, Resolved


class Outcome(StrEnum):
    """What became of a launch."""

    READY = "ready"
    USER = "user"
    MEMBER = "member"
    GATEWAY = "gateway"
    REFUSED = "refused"
    #: By its visitor.
    CANCELLED = "cancelled"
    #: Nobody watched it any more.
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks for a launch, and for what beside the repository.

    ``client`` is an address, ``origin`` the Origin of the page that asks (may be empty); ``asked`` the member asked for
    by name; ``sticky`` is the one of last time, ``avoid`` are those that have just failed this visitor.  ``force``: a
    build that has failed not long ago is to be tried again.  ``build_only``: no session is wanted.  ``user`` is who has
    logged in, "" where nobody does.
    """

    client: str = ""
    origin: str = ""
    build_token: bool = False
    request_origin: str = ""
    asked: str = ""
    sticky: str = ""
    avoid: frozenset[str] = frozenset()
    force: bool = False
    build_only: bool = False
    user: str = ""


@dataclass
class Trail:
    """What a launch has been through: with it another replica can go on."""

    resolved: Resolved | None = None
    attempting: bool = False
    """Whether the member has been asked and has not failed."""
    heard: int = -1
    """The number of the member's last event of this attempt that is in the journal."""
    tried: tuple[str, ...] = ()
    """The members that have failed the launch, in that order."""
    begun: int = 0
    """How many of these had begun with it."""
    met: dict[str, str] = field(default_factory=dict)
    """What the launch has met at each member, as a clause."""


@dataclass
class Launch:
    """One launch; ``id`` gives access to it and is never logged or shown whole.

    Engines write all fields but ``watchers``, which counts the streams that read the journal.
    """

    id: str
    spec: RepoSpec
    created_at: float
    visitor: Visitor = Visitor()
    journal: Journal = field(default_factory=Journal)
    trail: Trail = field(default_factory=Trail)
    member: str | None = None
    attempt: int = 0
    phase: Phase = Phase.WAITING
    outcome: Outcome | None = None
    finished_at: float | None = None
    watchers: int = 0
    unwatched_since: float = 0.0

    @property
    def short(self) -> str:
        """What may be shown of its id."""
        return short(self.id)

    @property
    def own_fields(self) -> dict[str, str | int | None]:
        """What each of its events tells, besides what is a member's to tell."""
        return {"launch_id": self.short, "member": self.member, "attempt": self.attempt or None}

    @property
    def commit(self) -> str | None:
        """What is launched, once it is known."""
        return self.trail.resolved.commit if self.trail.resolved else None


def outcome_of(failure: Failure | None) -> Outcome:
    """The outcome of a launch that failed; one whose event does not say why is counted as the visitor's."""
    return Outcome(failure.value) if failure else Outcome.USER
