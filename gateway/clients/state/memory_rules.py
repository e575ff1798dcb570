"""Rates, quotas, queues and records of a gateway that is alone, or that cannot reach the others: in this process."""

import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.clients.state.protocol import (
    KEPT_TIMES,
    RECORDS_AT_ONCE,
    Line,
    QueueBound,
    Queued,
    QueueTerms,
    Quota,
    RecordCursor,
    StoredRecord,
    Taken,
)

#: Buckets after which the full ones are forgotten.
_MANY_BUCKETS = 10_000


@dataclass
class _Place:
    ticket: str
    turn: float
    client: str
    repo: str
    kept_until: float


@dataclass
class _Queue:
    places: dict[str, _Place] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    served: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))

    def forget(self, now: float) -> None:
        self.places = {ticket: place for ticket, place in self.places.items() if place.kept_until > now}
        if not self.places:
            self.latest.clear()

    def in_order(self) -> list[str]:
        return [place.ticket for place in sorted(self.places.values(), key=lambda item: (item.turn, item.ticket))]


class MemoryRules:
    """No method gives way in between, so each is atomic; ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[str, float] = {}
        self._claims: dict[str, dict[str, float]] = {}
        self._queues: dict[str, _Queue] = {}
        self._records: dict[str, tuple[int, StoredRecord]] = {}
        self._changes = 0
        self._life = secrets.token_hex(8)

    async def take(self, bucket: str, interval: float, burst: int) -> Taken:
        """See the protocol."""
        now = self._clock()
        if len(self._buckets) > _MANY_BUCKETS:
            self._buckets = {name: full_at for name, full_at in self._buckets.items() if full_at > now}
        # No more than full: what a clock said that was ahead does not bar anybody for long.
        before = min(max(self._buckets.get(bucket, now), now), now + burst * interval)
        wait = before + interval - burst * interval - now
        if wait > 0:
            return Taken(wait, 0, before - now)
        self._buckets[bucket] = full_at = before + interval
        return Taken(0.0, int((burst * interval - (full_at - now)) / interval + 1e-9), full_at - now)

    async def claim(self, launch: str, quotas: Sequence[Quota], lease: float) -> int | None:
        """See the protocol."""
        now = self._clock()
        if len(self._claims) > _MANY_BUCKETS:
            self._claims = {name: held for name, held in self._claims.items() if max(held.values(), default=0) > now}
        for n, quota in enumerate(quotas):
            held = {name: until for name, until in self._claims.get(quota.name, {}).items() if until > now}
            self._claims[quota.name] = held
            taken = quota.taken + len(held.keys() - set(quota.seen))
            if launch not in held and taken >= quota.limit:
                return n
        for quota in quotas:
            self._claims[quota.name][launch] = now + lease
        return None

    async def give_back(self, launch: str, quotas: Sequence[str]) -> None:
        """See the protocol."""
        for name in quotas:
            held = self._claims.get(name, {})
            held.pop(launch, None)
            if not held:
                self._claims.pop(name, None)

    async def enter(
        self, queue: str, ticket: str, client: str, repo: str, terms: QueueTerms, turn: float | None = None
    ) -> Queued | QueueBound:
        """See the protocol."""
        now, line = self._clock(), self._queues.setdefault(queue, _Queue())
        line.forget(now)
        place = line.places.get(ticket)
        if place is None:
            clients, repos = (Counter(getattr(item, by) for item in line.places.values()) for by in ("client", "repo"))
            if len(line.places) >= terms.limit:
                return QueueBound.ALL
            if client and clients[client] >= terms.client_limit:
                return QueueBound.CLIENT
            if repos[repo] >= terms.repo_limit:
                return QueueBound.REPO
            if turn is None:
                # Each by itself: a client that asks often does not push back the others of its repository.
                by_repo = max(now, line.latest.get(f"r:{repo}", 0.0) + terms.repo_spacing)
                by_client = max(now, line.latest.get(f"c:{client}", 0.0) + terms.client_spacing) if client else now
                line.latest[f"r:{repo}"] = by_repo
                if client:
                    line.latest[f"c:{client}"] = by_client
                turn = max(by_client, by_repo)
            place = line.places[ticket] = _Place(ticket, turn, client, repo, 0.0)
        place.kept_until = now + terms.lease
        return Queued(line.in_order().index(ticket), place.turn)

    async def leave_queue(self, queue: str, ticket: str, *, served: bool) -> None:
        """See the protocol."""
        line = self._queues.get(queue)
        if line is not None and line.places.pop(ticket, None) is not None and served:
            line.served.append(self._clock())

    async def line(self, queue: str, tickets: Sequence[str], terms: QueueTerms, window: float) -> Line:
        """See the protocol."""
        now, line = self._clock(), self._queues.get(queue)
        if line is None:
            return Line(0, 0, {})
        line.forget(now)
        wanted = set(tickets)
        for ticket in wanted & line.places.keys():
            line.places[ticket].kept_until = now + terms.lease
        places = {ticket: n for n, ticket in enumerate(line.in_order()) if ticket in wanted}
        served = sum(at > now - window for at in line.served)
        if not line.places and not served:
            del self._queues[queue]
        return Line(len(line.places), served, places)

    async def put_records(self, records: Sequence[StoredRecord]) -> str:
        """See the protocol."""
        for record in records:
            known = self._records.get(record.name)
            if known is None or known[1].stamp < record.stamp or known[1].stamp == record.instead_of:
                self._changes += 1
                self._records[record.name] = (self._changes, record)
        return self._life

    async def get_records(self, cursor: RecordCursor) -> tuple[Sequence[StoredRecord], RecordCursor]:
        """See the protocol."""
        seen = cursor.change if cursor.life == self._life else 0
        new = sorted((item for item in self._records.values() if item[0] > seen), key=lambda item: item[0])
        new = new[:RECORDS_AT_ONCE]
        return [record for _, record in new], RecordCursor(self._life, new[-1][0] if new else seen)
