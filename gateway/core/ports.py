"""What ``web`` may ask of engines, without importing them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from contract.joining import JoinToken
from gateway.core.admission import Rules
from gateway.core.alerts import Alert, AlertName
from gateway.core.decision import Decision
from gateway.core.facts import Replica
from gateway.core.fleet import FleetSnapshot, Member
from gateway.core.launch import Launch, Visitor
from gateway.core.log import Entry, Query
from gateway.core.records import Book, Change, Record
from gateway.core.registration import Offer
from gateway.core.settings import FederationSettings
from gateway.core.tallies import Tallies
from providers.base import RepoSpec


class ReportRefusedError(ValueError):
    """A report that is not believed; ``status`` is the HTTP status that fits, the text a sentence for the member.

    ``member`` is whose it claims to be, if it is known here; ``alert`` the one that it raises.
    """

    def __init__(
        self, status: int, title: str, message: str, *, member: str = "", alert: AlertName | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.title, self.member, self.alert = status, title, member, alert


class JoinRefusedError(Exception):
    """A member is not taken in, changed or let go; ``status`` is the HTTP status that fits, the text a sentence."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status, self.title = status, title


class LaunchLimitError(Exception):
    """So many launches are running that no other one is begun."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("Too many launches are running here. Try again soon.")
        self.retry_after_s = retry_after_s


class NotAdmittedError(Exception):
    """A launch that is not begun; ``status`` is BinderHub's for it, the text what its visitor is told."""

    def __init__(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after_s = status, retry_after_s


class RecordsAwayError(Exception):
    """What an operator has decided could not be kept; the text says why."""


class LogAwayError(Exception):
    """The log cannot be read; the text says why."""


class LaunchAwayError(Exception):
    """A launch may be another replica's, which cannot be asked just now."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How a client stands after a launch: so many of so many are left, and all are there again in seconds."""

    limit: int
    left: int
    full_in: float


class FleetPort(Protocol):
    """Where the snapshot is read."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """What is believed of all members."""

    @property
    def settings(self) -> FederationSettings:
        """The rules as of now."""

    def now(self) -> float:
        """The present time on the clock of the snapshot."""


class LaunchesPort(Protocol):
    """The launches of this process."""

    @property
    def tallies(self) -> Tallies:
        """What has been counted so far."""

    @property
    def running(self) -> int:
        """How many launches are not finished."""

    @property
    def waiting(self) -> int:
        """How many launches wait for a member that can take them."""

    @property
    def streams(self) -> int:
        """How many streams there are, those among them that were only asked for yet."""

    def start(self, spec: RepoSpec, visitor: Visitor) -> Launch:
        """Begin a launch; raises :class:`LaunchLimitError`."""

    async def keep(self, launch: Launch) -> None:
        """Let other replicas know a launch before its visitor hears of it, if they can be told at once."""

    async def find(self, launch_id: str) -> Launch | None:
        """A launch that runs, or that has finished not long ago, at any replica; raises :class:`LaunchAwayError`."""

    def streaming(self) -> AbstractContextManager[None]:
        """Count a stream, for as long as the context lasts: from when it is asked for, before its launch is known."""

    def watching(self, launch: Launch) -> AbstractContextManager[None]:
        """Count somebody as a watcher, for as long as the context lasts."""

    async def cancel(self, launch: Launch) -> None:
        """End a launch by its visitor's wish; one that has finished stays as it is.

        Raises :class:`LaunchAwayError`.
        """


class AdmissionPort(Protocol):
    """Who may begin a launch."""

    @property
    def rules(self) -> Rules:
        """The rules as of now."""

    def check_client(self, client: str) -> None:
        """Raises :class:`NotAdmittedError` for a client that is banned."""

    def check(self, spec: RepoSpec, client: str) -> None:
        """Raises :class:`NotAdmittedError` for a launch that is banned."""

    async def take(self, client: str) -> RateLimit | None:
        """Count a launch of a client; ``None`` if it is not counted.  Raises :class:`NotAdmittedError`."""


class RecordsPort(Protocol):
    """What operators have decided."""

    @property
    def book(self) -> Book:
        """All of it."""

    async def write(self, *changes: Change, merged: Sequence[Record] = ()) -> None:
        """Write records for all replicas, and take in ``merged`` as they were written elsewhere, all or none.

        Of the latter those count that are newer than what there is.  Raises :class:`RecordsAwayError`.
        """

    async def sync(self) -> None:
        """Take in what other replicas have written, if they can be asked."""


class LogPort(Protocol):
    """What was decided, what changed, and who did what."""

    async def find(self, query: Query) -> list[Entry]:
        """The entries that are wanted, latest first; raises :class:`LogAwayError`."""


class RedirectsPort(Protocol):
    """Redirect mode: who is sent where."""

    @property
    def build_token_secrets(self) -> Mapping[str, str]:
        """The secrets of the build tokens that are made here for members, by member."""

    def choose(self, spec: RepoSpec, visitor: Visitor) -> tuple[Member | None, Decision]:
        """The member for a launch, and why; ``None``: nobody can take it."""


class ArchiveCounts(Protocol):
    """What has become of launch events."""

    @property
    def written(self) -> int:
        """Events that have been written."""

    @property
    def lost(self) -> int:
        """Events that could not be written."""


class ReplicasPort(Protocol):
    """The replicas of this gateway."""

    @property
    def name(self) -> str:
        """This one."""

    @property
    def shared(self) -> bool:
        """Whether there can be others."""

    @property
    def draining(self) -> bool:
        """Whether this replica is about to end."""

    @property
    def known(self) -> Mapping[str, Replica]:
        """Those that lived at the last beat, by name."""

    @property
    def away_since(self) -> float | None:
        """Since when the shared state does not answer (Unix time); ``None`` while it does."""


class JoiningPort(Protocol):
    """How members come and go; every method may raise :class:`JoinRefusedError`."""

    def make_token(self, offer: Offer) -> tuple[JoinToken, Change]:
        """A new join token, and the record to write of it."""

    async def join(self, bearer: str, body: str, address: str) -> str:
        """Register a member, by its join token and its signed request; returns its welcome, signed."""

    async def change_keys(self, body: str) -> None:
        """Go by other keys of a member from now on."""

    async def leave(self, body: str) -> None:
        """Let a member go that holds no sessions any more."""

    def removal(self, name: str) -> list[Change]:
        """What to write so that a member belongs here no more."""

    def acceptance(self, name: str) -> list[Change]:
        """What to write so that a member that is pending takes launches."""

    def check_request(self, name: str) -> list[Change]:
        """What to write so that a member is checked (again)."""

    def refresh(self) -> None:
        """Put in force what was written."""

    def notice(self, name: str) -> str:
        """What a member is told with each report that is taken, signed."""


class AlertsPort(Protocol):
    """What is wrong with members."""

    @property
    def standing(self) -> Sequence[Alert]:
        """The alerts that stand now."""


class ReportsPort(Protocol):
    """Where reports arrive."""

    def receive(self, token: str) -> str:
        """Take a signed report, and return whose it is; raises :class:`ReportRefusedError`."""
