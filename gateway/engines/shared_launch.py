"""One launch between a replica and the store: sealed on its way there, opened on its way back."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from contract.journal import Entry
from gateway.clients.state.protocol import Batch, StoredLaunch, Writing
from gateway.clients.state.sealing import launch_key, launch_seal
from gateway.core.launch import Launch
from gateway.core.launch_records import dump_entries, dump_launch, load_entries, load_launch
from providers.base import ProviderError, RepoSpec
from servicekit.sealing import BrokenSealError, Seal

#: Bytes of events that are sealed in one piece, roughly: what the store drops for want of room, it drops by the piece.
BATCH_BYTES = 64 * 1024

_RECORD, _EVENTS = "the record of a launch", "the events of a launch"


class NotUnderstoodError(Exception):
    """What the store holds of a launch is not from a replica, or from one of a version that is too far ahead."""


@dataclass
class SharedLaunch:
    """A launch in the store: what of it has been written or read."""

    launch: Launch
    key: str
    seal: Seal
    cursor: int = -1
    """The number of the last entry that both sides have."""
    gone_since: float | None = None
    hidden_since: float | None = None
    """Since when what another replica writes of it cannot be read, or is not understood."""
    watched: bool = False
    """Whether somebody watches it at another replica, as far as is known."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def begun(cls, launch: Launch) -> "SharedLaunch":
        """One of this replica, of which the store has nothing yet."""
        return cls(launch, launch_key(launch.id), launch_seal(launch.id))

    @classmethod
    def found(cls, launch_id: str, stored: StoredLaunch, parse: Callable[[str], RepoSpec]) -> "SharedLaunch":
        """One of another replica, without its events; raises :class:`NotUnderstoodError`."""
        seal = launch_seal(launch_id)
        try:
            launch = load_launch(launch_id, seal.open(stored.meta, _RECORD), parse)
        except (BrokenSealError, ProviderError, ValueError) as error:
            raise NotUnderstoodError(str(error)) from error
        return cls(launch, launch_key(launch_id), seal)

    def take(self, stored: StoredLaunch, parse: Callable[[str], RepoSpec]) -> None:
        """Bring the launch up to date, as another replica has written it; raises :class:`NotUnderstoodError`."""
        launch = self.launch
        try:
            seen = load_launch(launch.id, self.seal.open(stored.meta, _RECORD), parse)
            entries = [entry for batch in stored.batches for entry in load_entries(self.seal.open(batch.body, _EVENTS))]
        except (BrokenSealError, ProviderError, ValueError) as error:
            raise NotUnderstoodError(str(error)) from error
        launch.trail, launch.member, launch.attempt = seen.trail, seen.member, seen.attempt
        launch.phase, launch.outcome = seen.phase, seen.outcome
        for entry in entries:
            if launch.journal.final is None:
                launch.journal.take(entry)
        self.cursor = max([self.cursor, *(batch.last for batch in stored.batches)])

    def writing(self) -> Writing:
        """What the store does not have yet, with where the launch stands."""
        entries, over = self.launch.journal.since(self.cursor), self.launch.journal.final is not None
        batches = [Batch(some[-1].n, self.seal.close(dump_entries(some), _EVENTS)) for some in _in_batches(entries)]
        meta = self.seal.close(dump_launch(self.launch), _RECORD)
        return Writing(meta, batches, whole=self.cursor < 0, over=over)

    def written(self, writing: Writing) -> None:
        """Take in that the store has taken it."""
        if writing.batches:
            self.cursor = writing.batches[-1].last


def _in_batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in pieces of a size that suits the store."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.event.message)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
