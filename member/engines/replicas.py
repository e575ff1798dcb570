"""The replicas of one member, and how they find each other in the cluster.  Nobody leads.

Each replica renews a Lease of its own, which bears its address and what it counts; one whose Lease stays as it is for
:data:`ALIVE_S` is dead.  Clocks are not compared: what counts is when a change was seen here, as in client-go's leader
election.
"""

import asyncio
import datetime
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from contract.reports import Check
from member.builders.kubernetes.persistence import persist
from member.clients.informer import Informer
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.core import leases
from member.core.leases import ReplicaState
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: What its check is called.
CHECK = "Replicas"

#: Seconds between two signs of life, and without one after which a replica is dead.
RENEW_S, ALIVE_S = 3.0, 15.0

#: Seconds that one watch for the others' lasts: one that has died silently is given up 10 s later.
_WATCH_S = 5.0

#: Seconds that one sign of life may take: there is time for more before this replica is thought dead.
_RENEW_WITHIN_S = 5.0

#: Seconds for which the API may be in trouble before a question is given up, and for the first lists.
PATIENCE_S, START_S = 10.0, 30.0

#: Seconds after which the Leases of a dead replica are removed; its launches may be asked for until then.
FORGET_S = 900.0


class _Seen(NamedTuple):
    """A replica's Lease: ``at`` is when its version was first seen here."""

    version: str
    at: float
    state: ReplicaState


class Replicas:
    """``pod`` names this replica for people; what holds Leases is this one start of it, its ``identity``.

    ``state`` gives what this replica says of itself.
    """

    def __init__(
        self,
        client: Kubernetes,
        namespace: str,
        member: str,
        pod: str,
        *,
        state: Callable[[], Awaitable[ReplicaState]],
        tasks: Tasks,
    ) -> None:
        self._client, self._namespace, self._member = client, namespace, member
        self._state, self._tasks = state, tasks
        self.identity = f"{pod}-{secrets.token_hex(4)}"
        self._lease = leases.replica_name(member, self.identity)
        self._seen: dict[str, _Seen] = {}
        self._renewed_at = self._well_since = float("-inf")
        self._renewing, self._left = asyncio.Lock(), False
        self._ok = False
        self._error = "it has not said so yet"
        self._informer: Informer[str] = Informer(
            client,
            "leases",
            namespace,
            self._see,
            labels=leases.selector(member, leases.REPLICA),
            window_s=_WATCH_S,
        )

    async def start(self) -> None:
        """Say that this replica is there, and look who else is; raises :class:`KubernetesError`."""
        await persist(self._renew, for_s=PATIENCE_S)
        self._tasks.spawn("keep up with replicas", self._informer.run())
        self._tasks.every("say that this replica is there", RENEW_S, self.renew)
        await self._informer.wait_synced(START_S)

    async def leave(self) -> None:
        """Let the others know at once."""
        self._left = True
        # A sign of life that is under way comes first, and none afterwards.
        async with self._renewing:
            await self.delete(self._lease)

    async def renew(self) -> None:
        """Give a sign of life."""
        try:
            async with self._renewing, asyncio.timeout(_RENEW_WITHIN_S):
                if not self._left:
                    await self._renew()
        except (KubernetesError, TimeoutError) as error:
            why = str(error) or f"the Kubernetes API does not answer within {_RENEW_WITHIN_S:g} s"
            if not self._error:
                logger.warning("this replica cannot say that it is there: %s", why)
            self._error = why

    async def _renew(self) -> None:
        state = await self._state()
        self._ok = state.ok
        now = stamp()
        body = {"metadata": {"annotations": {leases.STATE: leases.dump(state)}}, "spec": {"renewTime": now}}
        try:
            await self._client.patch("leases", self._namespace, self._lease, body)
        except KubernetesError as error:
            if error.status != 404:
                raise
            made = leases.lease(
                self._lease, self._member, leases.REPLICA, self.identity, state, now=now, duration_s=round(ALIVE_S)
            )
            await self._client.create("leases", self._namespace, made)
        self._renewed_at = _now()
        if self._error:
            # The others could not say so either: they get the time to do it now.
            self._well_since, self._error = self._renewed_at, ""

    async def checks(self) -> Sequence[Check]:
        """Whether the others can know that this one is there."""
        if _now() - self._renewed_at > ALIVE_S:
            return (Check(CHECK, False, f"the other replicas cannot see this one: {self._error}"),)
        return (Check(CHECK, True, f"{len(self.others) + 1} replicas of this member"),)

    @property
    def others(self) -> Sequence[ReplicaState]:
        """The other ones that are alive."""
        return [self._seen[identity].state for identity in sorted(self.alive - {self.identity})]

    @property
    def boot_id(self) -> str:
        """Another one whenever a replica comes or goes: a gateway then tells its bans anew."""
        return leases.boot_of(self.alive | {self.identity})

    @property
    def is_quiet(self) -> bool:
        """Whether reports are left to the others."""
        return not self._ok and any(other.ok for other in self.others)

    @property
    def alive(self) -> set[str]:
        """The identities of those that are alive, as far as was heard."""
        there = set(self._informer.objects.values())
        return {identity for identity, seen in self._seen.items() if identity in there and self._is_fresh(seen)}

    @property
    def is_deaf(self) -> bool:
        """Whether this replica cannot renew its own Lease now: then it cannot tell of others that they are dead."""
        return self._error != ""

    def _is_fresh(self, seen: _Seen) -> bool:
        return _now() - max(seen.at, self._well_since) <= ALIVE_S

    def knows(self, identity: str) -> bool:
        """Whether there is a Lease of this replica, alive or dead."""
        return identity in self._informer.objects.values()

    def _see(self, item: Mapping[str, Any]) -> str:
        identity, version = leases.holder_of(item), str(item["metadata"]["resourceVersion"])
        last = self._seen.get(identity)
        if last is None or last.version != version:
            self._seen[identity] = _Seen(version, _now(), leases.replica_state(item))
        return identity

    async def address(self, identity: str) -> str | None:
        """Where a replica is reached; ``None`` for one that is dead, which only the API itself may say.

        Raises :class:`KubernetesError`.
        """
        if identity in self.alive:
            return self._seen[identity].state.address
        name = leases.replica_name(self._member, identity)
        try:
            there = await persist(lambda: self._client.get("leases", self._namespace, name), for_s=PATIENCE_S)
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise
        self._see(there)
        seen = self._seen[identity]
        return seen.state.address if self.is_deaf or self._is_fresh(seen) else None

    async def sweep(self) -> None:
        """Remove the Leases of replicas that are long dead."""
        now = _now()
        for identity in {name for name, seen in self._seen.items() if now - seen.at > FORGET_S} - {self.identity}:
            await self.delete(leases.replica_name(self._member, identity), self._seen.pop(identity).version)

    async def delete(self, name: str, version: str | None = None) -> None:
        """Delete a Lease, in this version of it if one is given, or find it gone."""
        try:
            await self._client.delete("leases", self._namespace, name, resource_version=version)
        except KubernetesError as error:
            if error.status not in (404, 409):
                logger.info("cannot remove the Lease %s: %s", name, error)


def stamp() -> str:
    """The time as the API writes it in Leases."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _now() -> float:
    return asyncio.get_running_loop().time()
