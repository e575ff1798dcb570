"""The other replicas of this gateway: what they learn is heard, and what is learned here is told."""

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.clients.state.protocol import HEARD_AT_ONCE, SharedState, StateUnavailableError
from gateway.clients.state.sealing import BrokenSealError, Seal
from gateway.core.facts import (
    Fact,
    Replica,
    Reported,
    dump_fact,
    dump_replica,
    load_fact,
    load_replica,
)
from gateway.engines.fleet import Fleet

logger = logging.getLogger(__name__)

#: Seconds between two beats, and between two rounds of telling and hearing.
BEAT_EVERY = 1.0

#: Facts that wait for a store that is away; older ones are worth nothing by then.
MAX_WAITING = 2000

_FACT, _BEAT = "what a replica has learned", "what a replica says of itself"


class ReportReader(Protocol):
    """Who takes reports."""

    def hear(self, token: str) -> None:
        """Take a report that another replica has accepted, if it is new and good."""


class Replicas:
    """``seal`` is that of the federation; ``launches`` counts those that run here."""

    def __init__(
        self,
        name: str,
        version: str,
        state: SharedState,
        seal: Seal,
        fleet: Fleet,
        reports: ReportReader,
        launches: Callable[[], int],
    ) -> None:
        self.name = name
        self.draining = False
        """Whether this replica is about to end."""
        self._version, self._state, self._seal = version, state, seal
        self._fleet, self._reports, self._launches = fleet, reports, launches
        self._started_at = fleet.now()
        self._waiting: deque[Fact] = deque(maxlen=MAX_WAITING)
        self._cursor = ""
        self._known: dict[str, Replica] = {}
        self._away_since: float | None = None

    @property
    def shared(self) -> bool:
        """Whether there can be others."""
        return self._state.shared

    @property
    def known(self) -> Mapping[str, Replica]:
        """The replicas that lived at the last beat, by name."""
        return self._known

    @property
    def away_since(self) -> float | None:
        """Since when the shared state does not answer (Unix time); ``None`` while it does."""
        return self._away_since

    def tell(self, fact: Fact) -> None:
        """Let all replicas know, soon."""
        if self.shared:
            self._waiting.append(fact)

    async def beat(self) -> None:
        """Say that this replica lives, tell what was learned, and hear the others."""
        if not self.shared:
            return
        try:
            await self._tell()
            await self._hear()
            said = await self._state.beat(self.name, self._seal.close(dump_replica(self._own()), _BEAT))
        except StateUnavailableError:
            self._away_since = self._away_since or self._fleet.now()
            return
        self._away_since = None
        self._take(said)

    async def leave(self) -> None:
        """Say that this replica ends."""
        if self.shared:
            try:
                await self._state.leave(self.name)
            except StateUnavailableError:
                logger.info("the other replicas will notice by themselves that this one has ended")

    async def _tell(self) -> None:
        facts = list(self._waiting)
        await self._state.tell([self._seal.close(dump_fact(fact, self.name), _FACT) for fact in facts])
        for _ in facts:
            self._waiting.popleft()

    async def _hear(self) -> None:
        while True:
            facts, self._cursor = await self._state.hear(self._cursor)
            for sealed in facts:
                self._learn(sealed)
            if len(facts) < HEARD_AT_ONCE:
                return

    def _learn(self, sealed: bytes) -> None:
        try:
            fact, teller = load_fact(self._seal.open(sealed, _FACT))
        except (BrokenSealError, ValueError) as error:
            logger.warning("something in the shared state is not believed: %s", error)
            return
        if fact is None or teller == self.name:
            return
        if isinstance(fact, Reported):
            self._reports.hear(fact.token)
        else:
            self._fleet.hear(fact)

    def _take(self, said: Mapping[str, bytes]) -> None:
        known = {}
        for name, sealed in said.items():
            try:
                known[name] = load_replica(self._seal.open(sealed, _BEAT))
            except (BrokenSealError, ValueError) as error:
                logger.warning("a replica in the shared state is not believed: %s", error)
        for name in known.keys() - self._known.keys() - {self.name}:
            logger.info("replica %s has come", name)
        for name in self._known.keys() - known.keys():
            logger.warning("replica %s has gone", name)
        self._known = known
        others = [replica.reservations for name, replica in known.items() if name != self.name]
        self._fleet.reserved_elsewhere(others)

    def _own(self) -> Replica:
        views = self._fleet.snapshot.members
        return Replica(
            name=self.name,
            version=self._version,
            started_at=self._started_at,
            launches=self._launches(),
            draining=self.draining,
            states={view.name: view.state for view in views},
            reservations={
                view.name: own for view in views if (own := tuple(item for item in view.reservations if item.own))
            },
        )
