"""The shared state of a gateway that is alone: in this process."""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.clients.state.memory_rules import MemoryRules
from gateway.clients.state.protocol import (
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


@dataclass
class _Launch:
    owner: str
    leased_until: float
    forgotten_at: float
    meta: bytes = b""
    batches: deque[Batch] = field(default_factory=deque)
    size: int = 0
    last: int = -1
    over: bool = False
    cancelled: bool = False
    watched_until: float = 0.0


class MemoryState(MemoryRules):
    """Keeps everything in dictionaries; no method gives way in between, so each is atomic."""

    shared = False

    def __init__(self, terms: Terms | None = None, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock)
        self._terms = terms or Terms()
        self._launches: dict[str, _Launch] = {}
        self._facts: deque[tuple[int, float, bytes]] = deque(maxlen=MAX_FACTS)
        self._told = 0
        self._replicas: dict[str, tuple[float, bytes]] = {}

    @property
    def left_alone(self) -> bool:
        """It never fails."""
        return False

    def steady(self) -> float:
        """For ever."""
        return math.inf

    async def close(self) -> None:
        """Nothing to let go of."""

    async def write(self, key: str, owner: str, writing: Writing) -> Hold:
        """See the protocol."""
        launch = self._find(key)
        if launch is None:
            if not writing.whole:
                return Hold.GONE
            self._forget()
            launch = self._launches[key] = _Launch(owner, 0, 0)
        elif launch.owner != owner:
            return Hold.LOST
        for batch in writing.batches:
            if batch.last > launch.last:
                launch.batches.append(batch)
                launch.last, launch.size = batch.last, launch.size + len(batch.body)
        if launch.size > self._terms.keep_bytes:
            for _ in range(len(launch.batches) // 2):
                launch.size -= len(launch.batches.popleft().body)
        launch.meta, launch.over = writing.meta, launch.over or writing.over
        self._prolong(launch)
        return Hold.MINE

    async def renew(self, keys: Sequence[str], owner: str) -> Mapping[str, Renewal]:
        """See the protocol."""
        renewals = {}
        for key in keys:
            launch = self._find(key)
            if launch is None:
                renewals[key] = Renewal(Hold.GONE)
            elif launch.owner != owner:
                renewals[key] = Renewal(Hold.LOST)
            else:
                self._prolong(launch)
                renewals[key] = Renewal(Hold.MINE, launch.cancelled, launch.watched_until > self._clock())
        return renewals

    async def watch(self, keys: Sequence[str]) -> None:
        """See the protocol."""
        for key in keys:
            launch = self._find(key)
            if launch is not None:
                launch.watched_until = self._clock() + self._terms.lease

    async def adopt(self, key: str, owner: str) -> Adoption:
        """See the protocol."""
        launch = self._find(key)
        if launch is None:
            return Adoption.GONE
        if launch.over:
            return Adoption.OVER
        if launch.owner != owner:
            if launch.owner and launch.leased_until > self._clock():
                return Adoption.HELD
            launch.owner = owner
        self._prolong(launch)
        return Adoption.ADOPTED

    async def read(self, cursors: Mapping[str, int]) -> Mapping[str, StoredLaunch]:
        """See the protocol."""
        found = {}
        for key, cursor in cursors.items():
            launch = self._find(key)
            if launch is not None:
                batches = tuple(batch for batch in launch.batches if batch.last > cursor)
                found[key] = StoredLaunch(launch.meta, batches, launch.over)
        return found

    async def give_up(self, keys: Sequence[str], owner: str) -> None:
        """See the protocol."""
        for key in keys:
            launch = self._find(key)
            if launch is not None and launch.owner == owner:
                launch.owner = ""

    async def ask_to_cancel(self, key: str) -> bool:
        """See the protocol."""
        launch = self._find(key)
        if launch is None:
            return False
        launch.cancelled = True
        return True

    async def tell(self, facts: Sequence[bytes]) -> None:
        """See the protocol."""
        for fact in facts:
            self._told += 1
            self._facts.append((self._told, self._clock(), fact))

    async def hear(self, cursor: str) -> tuple[Sequence[bytes], str]:
        """See the protocol."""
        if cursor:
            new = [item for item in self._facts if item[0] > int(cursor)]
        else:
            new = [item for item in self._facts if item[1] > self._clock() - HEARD_AT_START]
        new = new[:HEARD_AT_ONCE]
        return [fact for _, _, fact in new], str(new[-1][0]) if new else cursor or str(self._told)

    async def beat(self, replica: str, said: bytes) -> Mapping[str, bytes]:
        """See the protocol."""
        now = self._clock()
        self._replicas[replica] = (now + self._terms.lease, said)
        self._replicas = {name: item for name, item in self._replicas.items() if item[0] > now}
        return {name: item[1] for name, item in self._replicas.items()}

    async def leave(self, replica: str) -> None:
        """See the protocol."""
        self._replicas.pop(replica, None)

    def _find(self, key: str) -> _Launch | None:
        launch = self._launches.get(key)
        return launch if launch is not None and launch.forgotten_at > self._clock() else None

    def _prolong(self, launch: _Launch) -> None:
        now = self._clock()
        launch.leased_until, launch.forgotten_at = now + self._terms.lease, now + self._terms.keep

    def _forget(self) -> None:
        now = self._clock()
        for key in [key for key, launch in self._launches.items() if launch.forgotten_at <= now]:
            del self._launches[key]
