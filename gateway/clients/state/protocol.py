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
    """Whose a launch is, whether somebody wants it cancelled, and whether somebody watches it at another replica."""

    hold: Hold
    cancelled: bool = False
    watched: bool = False


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

    async def watch(self, keys: Sequence[str]) -> None:
        """Say, for as long as a lease, that launches are watched at a replica that does not run them."""

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


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of taking one of a bucket: it was there if ``wait`` is 0, else one will be in ``wait`` seconds.

    ``left``: how many more there are; in ``full_in`` seconds it will be full.
    """

    wait: float
    left: int
    full_in: float


@dataclass(frozen=True, slots=True)
class Quota:
    """A number of places: ``taken`` are counted to be taken already, the claims of the launches ``seen`` among them."""

    name: str
    limit: int
    taken: int = 0
    seen: Sequence[str] = ()


class LimitState(Protocol):
    """Rates and quotas that hold across all replicas."""

    async def take(self, bucket: str, interval: float, burst: int) -> Taken:
        """Take one of a bucket that gets one each ``interval`` and holds ``burst``.

        Source: the generic cell rate algorithm (ITU-T I.371, annex A).
        """

    async def claim(self, launch: str, quotas: Sequence[Quota], lease: float) -> int | None:
        """Claim a place under each quota, for a while, or prolong the claim.

        Returns ``None``, or which of the quotas is full; then none is claimed.
        """

    async def give_back(self, launch: str, quotas: Sequence[str]) -> None:
        """End a launch's claims on quotas, by their names."""


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """How long a queue may be, in all, for one client and for one repository; how it is fair.

    Whoever asks again comes ``client_spacing`` seconds after the last time, and a repository ``repo_spacing``: who asks
    often does not stand before who asks once.  ``lease``: seconds for which a place is kept without a sign of life.
    """

    limit: int
    client_limit: int
    repo_limit: int
    client_spacing: float = 30.0
    repo_spacing: float = 2.0
    lease: float = 15.0


class QueueBound(StrEnum):
    """Which bound of a queue is reached."""

    ALL = "all"
    CLIENT = "client"
    REPO = "repo"


@dataclass(frozen=True, slots=True)
class Queued:
    """A place in a queue, from 0; ``turn`` gets it again in another store."""

    place: int
    turn: float


@dataclass(frozen=True, slots=True)
class Line:
    """How a queue stands: its length, how many were served within a window, and places by ticket, if they have one."""

    length: int
    served: int
    places: Mapping[str, int]


#: Times of having been served that are kept of a queue.
KEPT_TIMES = 200


class QueueState(Protocol):
    """Queues across all replicas."""

    async def enter(
        self, queue: str, ticket: str, client: str, repo: str, terms: QueueTerms, turn: float | None = None
    ) -> Queued | QueueBound:
        """Join a queue, or stay in it; ``client`` may be "" (each such one is another)."""

    async def leave_queue(self, queue: str, ticket: str, *, served: bool) -> None:
        """Leave a queue: one was served, or waits no more."""

    async def line(self, queue: str, tickets: Sequence[str], terms: QueueTerms, window: float) -> Line:
        """How a queue stands; keeps the places of ``tickets``."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record (:mod:`gateway.core.records`), sealed; ``stamp`` orders its writings."""

    name: str
    stamp: str
    body: bytes
    instead_of: str = ""
    """It takes the place of a writing with this stamp, whatever its own: of one that no replica has written."""


@dataclass(frozen=True, slots=True)
class RecordCursor:
    """How far a reader of records has come; ``life`` is the store's: another one, and it was emptied meanwhile."""

    life: str = ""
    change: int = 0


#: Records that are read or written at a time.
RECORDS_AT_ONCE = 200


class RecordState(Protocol):
    """What operators have decided, for all replicas; each holds a copy of its own."""

    async def put_records(self, records: Sequence[StoredRecord]) -> str:
        """Write records, at most :data:`RECORDS_AT_ONCE`; of each the latest stamp wins.  Returns the store's life."""

    async def get_records(self, cursor: RecordCursor) -> tuple[Sequence[StoredRecord], RecordCursor]:
        """Some of the records that have changed since, and how far that brings the reader; none = all were told."""


class SharedState(LaunchState, FactState, ReplicaState, LimitState, QueueState, RecordState, Protocol):
    """All of it; every method may raise :class:`StateUnavailableError`."""

    @property
    def shared(self) -> bool:
        """Whether other replicas can see it at all."""

    @property
    def left_alone(self) -> bool:
        """Whether it has failed only just now: whoever asks hears so at once."""

    def steady(self) -> float:
        """For how many seconds it has answered, since it was away last; infinite if it never was."""

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

#: Seconds for which a fact is kept: longer than any replica that lives takes to hear it.
FACTS_KEPT = 300.0

#: Seconds whose facts a new replica hears.
HEARD_AT_START = 60.0

#: Facts that are heard at a time.
HEARD_AT_ONCE = 500
