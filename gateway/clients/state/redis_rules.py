"""The shared state in Redis (7 or later) or Valkey: rates, quotas, queues, records."""

import json
import secrets
from collections.abc import Sequence
from typing import Any

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
from gateway.clients.state.redis_store import RedisStore, ms


class RedisRules(RedisStore):
    """What holds across all replicas, whichever of them a visitor meets."""

    async def take(self, bucket: str, interval: float, burst: int) -> Taken:
        """See the protocol."""
        answer = await self._run("take", [self._name(f"bucket:{bucket}")], [interval * 1000, burst])
        wait, left, full_in = (float(item) for item in answer)
        return Taken(wait / 1000, int(left), full_in / 1000)

    async def claim(self, launch: str, quotas: Sequence[Quota], lease: float) -> int | None:
        """See the protocol."""
        if not quotas:
            return None
        arguments: list[Any] = [launch, ms(lease)]
        for quota in quotas:
            arguments += [quota.limit, quota.taken]
        # Each once: of a launch that has gone from one member to another, both may have told.
        arguments.append(json.dumps([sorted(set(quota.seen)) for quota in quotas]))
        full = int(await self._run("claim", [self._quota(item.name) for item in quotas], arguments))
        return full - 1 if full else None

    async def give_back(self, launch: str, quotas: Sequence[str]) -> None:
        """See the protocol."""

        async def ask() -> None:
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in quotas:
                    pipe.zrem(self._quota(name), launch)
                await pipe.execute()

        if quotas:
            await self._guarded(ask)

    async def enter(
        self, queue: str, ticket: str, client: str, repo: str, terms: QueueTerms, turn: float | None = None
    ) -> Queued | QueueBound:
        """See the protocol."""
        arguments = [
            *(ticket, client, repo, ms(terms.lease), terms.limit, terms.client_limit, terms.repo_limit),
            *(ms(terms.client_spacing), ms(terms.repo_spacing), "" if turn is None else turn * 1000),
        ]
        names = ("turns", "kept", "who", "counts", "latest")
        place, told = await self._run("enter", [self._queue(queue, name) for name in names], arguments)
        return QueueBound(told.decode()) if place < 0 else Queued(int(place), float(told) / 1000)

    async def leave_queue(self, queue: str, ticket: str, *, served: bool) -> None:
        """See the protocol."""
        names = ("turns", "kept", "who", "counts", "served")
        await self._run("leave", [self._queue(queue, name) for name in names], [ticket, int(served), KEPT_TIMES])

    async def line(self, queue: str, tickets: Sequence[str], terms: QueueTerms, window: float) -> Line:
        """See the protocol."""
        names = ("turns", "kept", "who", "counts", "served")
        arguments = [ms(terms.lease), ms(window), *tickets]
        length, served, *places = await self._run("places", [self._queue(queue, name) for name in names], arguments)
        found = {ticket: place for ticket, place in zip(tickets, places, strict=True) if place >= 0}
        return Line(int(length), int(served), found)

    async def put_records(self, records: Sequence[StoredRecord]) -> str:
        """See the protocol."""
        arguments: list[Any] = [secrets.token_hex(8)]
        for record in records:
            arguments += [record.name, record.stamp, record.body, record.instead_of]
        life = await self._run("put_records", self._record_keys(), arguments)
        return str(life.decode())

    async def get_records(self, cursor: RecordCursor) -> tuple[Sequence[StoredRecord], RecordCursor]:
        """See the protocol."""
        arguments = [cursor.life, cursor.change, RECORDS_AT_ONCE, secrets.token_hex(8)]
        life, change, *found = await self._run("get_records", self._record_keys(), arguments)
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        records = [StoredRecord(name.decode(), stamp.decode(), body) for name, stamp, body in rows]
        return records, RecordCursor(life.decode(), int(float(change)))

    def _quota(self, name: str) -> str:
        return self._name(f"quota:{name}")

    def _queue(self, queue: str, part: str) -> str:
        return self._name(f"queue:{queue}:{part}")

    def _record_keys(self) -> list[str]:
        return [self._name(f"records{part}") for part in ("", ":stamps", ":changes", ":life")]
