"""The shared state in Redis (7 or later) or Valkey: launches, facts, replicas."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from gateway.clients.state.protocol import (
    FACTS_KEPT,
    HEARD_AT_ONCE,
    HEARD_AT_START,
    MAX_FACTS,
    Adoption,
    Batch,
    Hold,
    Renewal,
    StoredLaunch,
    Terms,
    Writing,
)
from gateway.clients.state.redis_rules import RedisRules
from gateway.clients.state.redis_store import ms

#: Launches that one script renews; a script must not hold up the others for long.
_RENEWED_AT_ONCE = 100


class RedisState(RedisRules):
    """Speaks to one Redis (through Sentinel, where ``client`` does); every key begins with ``prefix``.

    ``timeout`` bounds each step, in seconds.
    """

    def __init__(
        self, client: Redis, prefix: str = "manybinder:", timeout: float = 1.0, terms: Terms | None = None
    ) -> None:
        super().__init__(client, prefix, timeout)
        self._terms = terms or Terms()

    async def write(self, key: str, owner: str, writing: Writing) -> Hold:
        """See the protocol."""
        arguments: list[Any] = [
            owner,
            *self._lease_and_keep(),
            self._terms.keep_bytes,
            int(writing.whole),
            int(writing.over),
            writing.meta,
        ]
        for batch in writing.batches:
            arguments += [batch.last, batch.body]
        answer = await self._run("write", self._launch_keys(key), arguments)
        return Hold(answer.decode())

    async def renew(self, keys: Sequence[str], owner: str) -> Mapping[str, Renewal]:
        """See the protocol."""
        renewals = {}
        for begin in range(0, len(keys), _RENEWED_AT_ONCE):
            some = keys[begin : begin + _RENEWED_AT_ONCE]
            names = [name for key in some for name in self._launch_keys(key)]
            answers = await self._run("renew", names, [owner, *self._lease_and_keep()])
            for key, answer in zip(some, answers, strict=True):
                hold, *said = answer.decode().split()
                renewals[key] = Renewal(Hold(hold), "cancelled" in said, "watched" in said)
        return renewals

    async def watch(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        for begin in range(0, len(keys), _RENEWED_AT_ONCE):
            some = [self._launch_keys(key)[0] for key in keys[begin : begin + _RENEWED_AT_ONCE]]
            await self._run("watch", some, [ms(self._terms.lease)])

    async def adopt(self, key: str, owner: str) -> Adoption:
        """See the protocol."""
        answer = await self._run("adopt", self._launch_keys(key), [owner, *self._lease_and_keep()])
        return Adoption(answer.decode())

    async def read(self, cursors: Mapping[str, int]) -> Mapping[str, StoredLaunch]:
        """See the protocol."""
        if not cursors:
            return {}

        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key, cursor in cursors.items():
                    launch, stream = self._launch_keys(key)
                    pipe.hmget(launch, "meta", "over")
                    pipe.xrange(stream, min=f"{max(cursor, 0)}-{2 if cursor >= 0 else 1}")
                return list(await pipe.execute())

        answers = await self._guarded(ask)
        found = {}
        for key, (meta, over), entries in zip(cursors, answers[::2], answers[1::2], strict=True):
            if meta is not None:
                batches = tuple(Batch(int(entry.partition(b"-")[0]), fields[b"b"]) for entry, fields in entries)
                found[key] = StoredLaunch(meta, batches, over is not None)
        return found

    async def give_up(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        if keys:
            await self._run("give_up", [self._launch_keys(key)[0] for key in keys], [owner])

    async def ask_to_cancel(self, key: str) -> bool:
        """See the protocol."""
        return bool(await self._run("ask_to_cancel", self._launch_keys(key)[:1], []))

    async def tell(self, facts: Sequence[bytes]) -> None:
        """See the protocol."""
        if facts:
            await self._run("tell", [self._name("facts")], [MAX_FACTS, ms(FACTS_KEPT), *facts])

    async def hear(self, cursor: str) -> tuple[Sequence[bytes], str]:
        """See the protocol."""

        async def ask() -> tuple[list[Any], str]:
            begin = f"({cursor}"
            if not cursor:
                seconds, _ = await self._redis.time()
                begin = f"{int((seconds - HEARD_AT_START) * 1000)}-0"
            return await self._redis.xrange(self._name("facts"), min=begin, count=HEARD_AT_ONCE), begin.lstrip("(")

        entries, begun = await self._guarded(ask)
        return [fields[b"f"] for _, fields in entries], entries[-1][0].decode() if entries else begun

    async def beat(self, replica: str, said: bytes) -> Mapping[str, bytes]:
        """See the protocol."""
        names = [self._name("replicas"), self._name("replicas:until")]
        answer = await self._run("beat", names, [replica, said, ms(self._terms.lease)])
        return {name.decode(): item for name, item in zip(answer[::2], answer[1::2], strict=True)}

    async def leave(self, replica: str) -> None:
        """See the protocol."""

        async def ask() -> None:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hdel(self._name("replicas"), replica)
                pipe.zrem(self._name("replicas:until"), replica)
                await pipe.execute()

        await self._guarded(ask)

    def _launch_keys(self, key: str) -> list[str]:
        return [self._name(f"launch:{key}"), self._name(f"launch:{key}:events")]

    def _lease_and_keep(self) -> list[int]:
        return [ms(self._terms.lease), ms(self._terms.keep)]
