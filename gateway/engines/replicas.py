"""The other replicas of this gateway: what they learn is heard, and what is learned here is told."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from contract.signatures import reported_member
from gateway.clients.state.protocol import HEARD_AT_ONCE, SharedState, StateUnavailableError
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
from servicekit.sealing import BrokenSealError, Seal

logger = logging.getLogger(__name__)

#: Seconds between two beats, and between two rounds of telling and hearing.
BEAT_EVERY = 1.0

#: Facts that wait for a store that is away, and for how many seconds; older ones are worth nothing by then.
MAX_WAITING = 2000
WAIT_AT_MOST = 60.0

#: Facts that are told in one step.
TOLD_AT_ONCE = 50

#: Seconds after which what other replicas have sent to members is not counted any more, if none is heard.
COUNTED_FOR = 10.0

_FACT = "what a replica has learned"


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
        self._waiting: dict[object, tuple[float, Fact]] = {}
        """What to tell, and since when; of each member's reports only the latest."""
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
            key: object = reported_member(fact.token) if isinstance(fact, Reported) else object()
            self._waiting.pop(key, None)
            self._waiting[key] = (self._fleet.now(), fact)
            while len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]

    async def beat(self) -> None:
        """Say that this replica lives, tell what was learned, and hear the others."""
        if not self.shared:
            return
        try:
            # First, for this is small: however much there is to tell, a replica that lives is not taken to have gone.
            said = await self._state.beat(self.name, self._seal.close(dump_replica(self._own()), _beat_of(self.name)))
            self._take(said)
            await self._tell()
            await self._hear()
        except StateUnavailableError:
            self._away_since = self._away_since or self._fleet.now()
            if self._fleet.now() - self._away_since > COUNTED_FOR:
                self._fleet.reserved_elsewhere([])
            return
        self._away_since = None

    async def leave(self) -> None:
        """Say that this replica ends."""
        if self.shared:
            try:
                await self._state.leave(self.name)
            except StateUnavailableError:
                logger.info("the other replicas will notice by themselves that this one has ended")

    async def _tell(self) -> None:
        while self._waiting:
            some = list(self._waiting.items())[:TOLD_AT_ONCE]
            fresh = [fact for _, (since, fact) in some if self._fleet.now() - since < WAIT_AT_MOST]
            await self._state.tell([self._seal.close(dump_fact(fact, self.name), _FACT) for fact in fresh])
            for key, item in some:
                if self._waiting.get(key) is item:
                    del self._waiting[key]

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
                known[name] = load_replica(self._seal.open(sealed, _beat_of(name)))
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


def _beat_of(name: str) -> str:
    """What a beat is sealed for: nobody says it in another's name."""
    return f"what the replica {name} says of itself"
