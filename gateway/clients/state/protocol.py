"""The protocol of the shared state.

Times are seconds.  "Now" is the store's own clock, so that replicas whose clocks differ agree on who holds what.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class StateUnavailableError(Exception):
    """The store did not answer; whoever asked goes on with what is known here."""


class Hold(StrEnum):
    """Whose a launch is, for a replica that writes or renews."""

    MINE = "mine"
    #: Another replica has taken it over: write no more, follow.
    LOST = "lost"
    #: The store has forgotten it: write it anew, whole.
    GONE = "gone"


class Adoption(StrEnum):
    """What came of taking a launch over."""

    ADOPTED = "adopted"
    #: Its replica lives.
    HELD = "held"
    #: It has ended; there is nothing to run any more.
    OVER = "over"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Batch:
    """Some entries of a launch's journal, sealed, in the order of their numbers; ``last`` is the highest of these."""

    last: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Writing:
    """What a replica writes of a launch that it runs.

    ``meta`` says where the launch stands (sealed); ``whole``: the batches begin at the first entry that is kept, so the
    launch may be made of them; ``over``: the journal is complete.
    """

    meta: bytes
    batches: Sequence[Batch] = ()
    whole: bool = False
    over: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """Whose a launch is, and whether somebody wants it cancelled."""

    hold: Hold
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class StoredLaunch:
    """What the store holds of a launch: the batches above a reader's cursor, and where it stands."""

    meta: bytes
    batches: Sequence[Batch]
    over: bool


class LaunchState(Protocol):
    """Launches that any replica can go on with.

    ``key`` names a launch and gives no access to it.  The replica that runs a launch holds a lease on it; one whose
    lease has run out can be adopted by another.
    """

    async def write(self, key: str, owner: str, writing: Writing) -> Hold:
        """Append to a launch, begin it, or end it; renews the lease.  Entries that are there already stay."""

    async def renew(self, keys: Sequence[str], owner: str) -> Mapping[str, Renewal]:
        """Prolong the leases on launches."""

    async def adopt(self, key: str, owner: str) -> Adoption:
        """Take a launch over whose lease has run out or was given up."""

    async def read(self, cursors: Mapping[str, int]) -> Mapping[str, StoredLaunch]:
        """The launches of these keys that are there, each with the entries whose numbers lie above its cursor."""

    async def give_up(self, keys: Sequence[str], owner: str) -> None:
        """End the leases on launches, so that another replica can go on with them at once."""

    async def ask_to_cancel(self, key: str) -> bool:
        """Leave word for the replica that runs a launch; whether there is such a launch."""


class FactState(Protocol):
    """What one replica has learned and all should know: reports, outcomes of launches."""

    async def tell(self, facts: Sequence[bytes]) -> None:
        """Add facts; only the latest ones are kept."""

    async def hear(self, cursor: str) -> tuple[Sequence[bytes], str]:
        """The facts after a cursor, oldest first, and the cursor after these; "" = those of the last minute."""


class ReplicaState(Protocol):
    """Who serves."""

    async def beat(self, replica: str, said: bytes) -> Mapping[str, bytes]:
        """Say that a replica lives, and what it has to say to the others; returns what each living one has said."""

    async def leave(self, replica: str) -> None:
        """Say that a replica ends."""


class LimitState(Protocol):
    """Rates that hold across all replicas."""

    async def take(self, bucket: str, interval: float, burst: int) -> float:
        """Take one of a bucket that gets one each ``interval`` and holds ``burst``: 0, or seconds to wait.

        Source: the generic cell rate algorithm (ITU-T I.371, annex A).
        """


class SharedState(LaunchState, FactState, ReplicaState, LimitState, Protocol):
    """All of it; every method may raise :class:`StateUnavailableError`."""

    @property
    def shared(self) -> bool:
        """Whether other replicas can see it at all."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long and how much is kept; seconds, and bytes for each launch.

    ``lease``: without a sign of life a replica's launches may be adopted, and it counts as gone; ``keep``: after its
    last change a launch is forgotten.
    """

    lease: float = 6.0
    keep: float = 900.0
    keep_bytes: int = 1024 * 1024


#: Facts that are kept.
MAX_FACTS = 10_000

#: Seconds whose facts a new replica hears.
HEARD_AT_START = 60.0

#: Facts that are heard at a time.
HEARD_AT_ONCE = 500
