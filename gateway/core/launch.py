"""A launch as engines and web see it: a journal, and where it stands."""

from dataclasses import dataclass, field
from enum import StrEnum

from contract.events import Failure, Phase
from contract.journal import Journal
from contract.launches import short
from providers.base import RepoSpec


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
    by name; ``sticky`` is the one of last time, ``avoid`` are those that have just failed this visitor.
    """

    client: str = ""
    origin: str = ""
    build_token: bool = False
    request_origin: str = ""
    asked: str = ""
    sticky: str = ""
    avoid: frozenset[str] = frozenset()


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
    member: str | None = None
    attempt: int = 0
    commit: str | None = None
    phase: Phase = Phase.WAITING
    outcome: Outcome | None = None
    finished_at: float | None = None
    watchers: int = 0
    unwatched_since: float = 0.0

    @property
    def short(self) -> str:
        """What may be shown of its id."""
        return short(self.id)


def outcome_of(failure: Failure | None) -> Outcome:
    """The outcome of a launch that failed; one whose event does not say why is counted as the visitor's."""
    return Outcome(failure.value) if failure else Outcome.USER
