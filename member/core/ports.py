"""What ``web`` may ask of engines, without importing them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from contract.bans import Ban
from contract.reports import CapacityReport, Check
from contract.repos import RepoKey
from contract.signatures import BanList, LaunchClaims
from member.core.launching import Launch, LaunchOrder
from member.core.membership import Membership


class OlderBansError(Exception):
    """A list of bans that is older than the one that is in force."""


class BansPort(Protocol):
    """The bans of the federations that this member belongs to."""

    def find(self, spec: str, repo: RepoKey, client: str) -> Ban | None:
        """The ban in force that hits a launch."""

    def find_client(self, client: str) -> Ban | None:
        """The ban in force that hits all launches of a visitor."""

    async def take(self, told: BanList) -> None:
        """Take a gateway's list in place of its last one; raises :class:`OlderBansError`."""


class BuildLogsPort(Protocol):
    """The logs of builds."""

    def find(self, log_id: str) -> bool:
        """Whether there is such a log."""

    def follow(self, log_id: str, *, live: bool = True) -> AsyncGenerator[bytes, None]:
        """A log from its beginning, to the end of its build or (not ``live``) as far as it goes now."""


class FederationsPort(Protocol):
    """The federations that this member belongs to."""

    @property
    def any(self) -> bool:
        """Whether there is one."""

    @property
    def require_launch_token(self) -> bool:
        """Whether only gateways may start launches here."""

    def verify_launch(self, token: str) -> LaunchClaims:
        """The order in a launch token, which is good once; raises ``SignatureRefusedError``."""

    def verify_bans(self, token: str) -> BanList:
        """The bans in a token; raises ``SignatureRefusedError``."""


class LedgerError(Exception):
    """It cannot be told whose a launch is; the text is a sentence for the operator."""


class LedgerPort(Protocol):
    """Whose a launch is, where this member has several replicas."""

    async def take(self, order: LaunchOrder) -> str | None:
        """Make a launch this replica's, unless it is another one's: then that one's address.

        Raises :class:`LedgerError`, and ``SignatureRefusedError`` for an order that may have been used before.
        """

    async def find(self, launch_id: str) -> str | None:
        """The address of another replica whose a launch is; raises :class:`LedgerError`."""


class LaunchesPort(Protocol):
    """The launches of this process."""

    def start(self, order: LaunchOrder) -> Launch:
        """Begin a launch, or find the one that already has this id."""

    def find(self, launch_id: str) -> Launch | None:
        """A launch that runs, or that has finished not long ago."""

    def watching(self, launch: Launch) -> AbstractContextManager[None]:
        """Count a stream as a watcher, for as long as the context lasts."""

    def cancel(self, launch: Launch) -> None:
        """End a launch by its visitor's wish; one that has finished stays as it is."""


class HealthPort(Protocol):
    """The member's own checks."""

    async def checks(self) -> Sequence[Check]:
        """The results, not older than a few seconds."""


class CapacityPort(Protocol):
    """What this member can take."""

    async def report(self) -> CapacityReport:
        """The state now, as it would be told to a gateway."""

    async def report_to(self, membership: Membership) -> CapacityReport:
        """The state now, as a federation is told it: its share."""

    async def recent(self) -> CapacityReport:
        """The state of not more than a few seconds ago."""
