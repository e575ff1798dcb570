"""Keeps the history of members, and opens and closes incidents, in the records: for all replicas, over restarts.

One replica writes: the first by name of those that live, or each for itself while the shared state is away.  What it
has seen since its last writing is lost with it, which the history shows as a gap.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.core import history, incidents
from gateway.core.facts import Fact, Failed, Replica, Succeeded
from gateway.core.fleet import FleetSnapshot
from gateway.core.history import CELL, DAY, HOUR, WHOLE, Launches, Slot
from gateway.core.incidents import GATEWAY, Incident
from gateway.core.ports import RecordsAwayError
from gateway.core.records import Change
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records

logger = logging.getLogger(__name__)

#: Seconds between two looks, and between two writings of what was seen.
LOOK_EVERY, WRITE_EVERY = 0.5, 60.0

#: Seconds without a look after which nobody knows what was meanwhile: the machine slept.
BLIND_AFTER = 10.0

#: Failed attempts that are remembered, because one may be told twice.
REMEMBERED = 2000


class Others(Protocol):
    """The replicas."""

    @property
    def name(self) -> str:
        """This one."""

    @property
    def shared(self) -> bool:
        """Whether there can be others."""

    @property
    def known(self) -> Mapping[str, Replica]:
        """Those that live."""

    @property
    def away_since(self) -> float | None:
        """Since when the shared state does not answer."""


class Chronicle:
    """Watches a fleet; ``records`` keep what it sees."""

    def __init__(self, fleet: Fleet, records: Records, replicas: Others) -> None:
        self._fleet, self._records, self._replicas = fleet, records, replicas
        self._looked_at: float | None = None
        self._began = self._wrote_at = fleet.now()
        self._complained_at = -math.inf
        self._seen: dict[tuple[str, int], Slot] = {}
        """What is not written yet, by member and hour."""
        self._failures: deque[tuple[str, str]] = deque(maxlen=REMEMBERED)

    def hear(self, fact: Fact) -> None:
        """Count a launch that ended at a member, here or at another replica."""
        if isinstance(fact, Succeeded | Failed) and fact.at < self._began:
            return  # told again to who has just come
        if isinstance(fact, Succeeded):
            self._count(fact.member, fact.at, history.launched(max(0.0, fact.at - fact.attempt.begun_at)))
        elif isinstance(fact, Failed) and (fact.member, fact.attempt.launch) not in self._failures:
            self._failures.append((fact.member, fact.attempt.launch))
            self._count(fact.member, fact.at, Launches(failed=1))

    async def look(self) -> None:
        """Note how members are, and write what there is to write."""
        now, snapshot = self._fleet.now(), self._fleet.snapshot
        since, self._looked_at = self._looked_at, now
        if not self._writes:
            # Another replica tells of it; who takes over from it must not tell it once more.
            self._seen = {}
            return
        if since is not None and 0 < now - since < BLIND_AFTER:
            self._watch(snapshot, since, now)
        await self._write(incidents.incident_change(item) for item in self._incidents(snapshot, now))
        if now - self._wrote_at >= WRITE_EVERY:
            await self.flush()

    async def flush(self) -> None:
        """Write what was seen, if that is this replica's to do."""
        seen, self._seen = self._seen, {}
        self._wrote_at = self._fleet.now()
        if self._writes and seen and not await self._write(self._slots(seen)):
            for (name, _), slot in seen.items():
                self._add(name, slot)

    @property
    def _writes(self) -> bool:
        replicas = self._replicas
        if not replicas.shared or replicas.away_since is not None:
            return True
        return bool(replicas.known) and min(replicas.known) == replicas.name

    def _watch(self, snapshot: FleetSnapshot, since: float, now: float) -> None:
        conditions = {view.name: history.condition(snapshot.status(view, now)) for view in snapshot.members}
        conditions[WHOLE] = history.whole_condition(snapshot, now)
        for name, held in conditions.items():
            if held is not None:
                hour = history.start_of(now, HOUR)
                number = (history.start_of(now, CELL) - hour) // CELL
                self._add(name, Slot(hour, {number: history.lasted(held, now - since)}))

    def _count(self, member: str, at: float, launches: Launches) -> None:
        for name in (member, WHOLE):
            self._add(name, Slot(history.start_of(at, HOUR), {}, launches))

    def _add(self, name: str, slot: Slot) -> None:
        known = self._seen.get((name, slot.start))
        self._seen[name, slot.start] = known.plus(slot) if known else slot

    def _slots(self, seen: Mapping[tuple[str, int], Slot]) -> list[Change]:
        changed: dict[str, Slot] = {}
        for (name, _), slot in seen.items():
            for span, part in ((HOUR, slot), (DAY, history.of_day(slot))):
                key = history.slot_key(name, part.start, span)
                known = changed.get(key) or history.find_slot(self._records.book, name, part.start, span)
                if known.start == part.start:
                    changed[key] = known.plus(part)
        return [Change(history.HISTORY, key, history.slot_value(slot)) for key, slot in changed.items()]

    def _incidents(self, snapshot: FleetSnapshot, now: float) -> list[Incident]:
        """Those that begin, change or end now."""
        last = incidents.latest(self._records.book)
        away = self._replicas.away_since
        troubles = {view.name: incidents.trouble_of(view, now) for view in snapshot.members if view.probed_at}
        overs = {view.name: _over(snapshot, view.name, now) for view in snapshot.members}
        if snapshot.probed:
            troubles[WHOLE] = incidents.whole_trouble(snapshot, now)
            overs[WHOLE] = "A member takes launches again."
        reason = "The state that its replicas share does not answer; launches go on from what was known before."
        troubles[GATEWAY] = None if away is None else ("degraded", reason)
        overs[GATEWAY] = "The shared state answers again."
        gone = {name: None for name in last if name not in (WHOLE, GATEWAY) and snapshot.get(name) is None}
        changed = (
            incidents.advanced(last.get(name), name, trouble, now, overs.get(name, "It has left the federation."))
            for name, trouble in {**troubles, **gone}.items()
        )
        return [item for item in changed if item is not None]

    async def _write(self, changes: Iterable[Change]) -> bool:
        given = list(changes)
        if not given:
            return True
        try:
            await self._records.write(*given)
        except RecordsAwayError as error:
            now = self._fleet.now()
            # It is tried again at each look; a disk that is full has no room for as many complaints.
            if not 0 <= now - self._complained_at < WRITE_EVERY:
                self._complained_at = now
                logger.error("what has happened to members cannot be kept: %s", error)  # noqa: TRY400 - says all
            return False
        return True


def _over(snapshot: FleetSnapshot, name: str, now: float) -> str:
    view = snapshot.get(name)
    if view is None or view.effective_policy(now, snapshot.settings) not in ("active", "draining"):
        return "An operator has taken it out."
    return "It works again."
