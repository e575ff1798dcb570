"""Whose each launch is, among the replicas of a member.

A launch is a Lease, whose name is the lock: who finds it taken hands the request on to its holder, or takes it over
where that one is dead.  Every change of it names the version that it changes, so that of two replicas one learns that
it is not the other's any more.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from contract.launches import short
from contract.signatures import SignatureRefusedError
from member.builders.kubernetes.persistence import persist
from member.clients.informer import Informer
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.core import leases
from member.core.launching import Launch, LaunchOrder, Outcome, user_name
from member.core.leases import LaunchState, ReplicaState
from member.core.ports import LedgerError
from member.engines.replicas import ALIVE_S, FORGET_S, PATIENCE_S, START_S, Replicas, stamp
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for good-byes, and between two looks for what dead replicas have left.
_CLOSE_S, _SWEEP_EVERY_S = 3.0, 60.0

#: Tries to take a launch that others take and give up, or to change one that others change, at the same time.
_TRIES = 8


class _Lease(NamedTuple):
    """A launch's Lease as the API has told it; ``renewed`` is the time, as it stands there."""

    name: str
    version: str
    holder: str
    renewed: str
    state: LaunchState


@dataclass
class _Held:
    """A launch of this replica's, with its Lease as written last; ``lost``: it is another one's by now."""

    version: str
    state: LaunchState
    lost: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClusterLedger:
    """A :class:`member.engines.ledger.Ledger` of Leases."""

    def __init__(self, client: Kubernetes, namespace: str, member: str, replicas: Replicas, tasks: Tasks) -> None:
        self._client, self._namespace, self._member = client, namespace, member
        self._replicas, self._tasks = replicas, tasks
        self._held: dict[str, _Held] = {}
        self._suspects: set[str] = set()
        """Leases of this replica's that no launch was of, at the last sweep."""
        self._closed = False
        self._informer: Informer[_Lease] = Informer(
            client, "leases", namespace, _read, labels=leases.selector(member, leases.LAUNCH)
        )

    async def start(self) -> None:
        """Find the others and their launches; raises :class:`KubernetesError`."""
        await self._replicas.start()
        self._tasks.spawn("keep up with replicas' launches", self._informer.run())
        await self._informer.wait_synced(START_S)
        self._tasks.every("remove what dead replicas have left", _SWEEP_EVERY_S, self.sweep)

    async def close(self) -> None:
        """Leave nothing that others would wait for."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await asyncio.gather(self._replicas.leave(), *map(self._give_back, self._held))
        await self._client.close()

    async def _give_back(self, launch_id: str) -> None:
        held = self._held[launch_id]
        # What is being written is written first, and nothing afterwards.
        async with held.writing:
            if not held.lost:
                held.lost = True
                await self._replicas.delete(self._name(launch_id))

    @property
    def others(self) -> Sequence[ReplicaState]:
        """See :class:`member.engines.ledger.Ledger`, as what follows."""
        return self._replicas.others

    @property
    def boot_id(self) -> str:
        """Of all."""
        return self._replicas.boot_id

    @property
    def is_quiet(self) -> bool:
        """Whether the others are to speak."""
        return self._replicas.is_quiet

    @property
    def launches(self) -> Sequence[LaunchState]:
        """Those of replicas that are alive, or may be."""
        others = [item for item in self._informer.objects.values() if item.holder != self._me]
        alive = self._replicas.alive
        return [item.state for item in others if self._replicas.is_deaf or item.holder in alive]

    async def take(self, order: LaunchOrder) -> str | None:
        """Make a launch this replica's, unless it is another living one's."""
        held = self._held.get(order.launch_id)
        if held is not None and not held.lost:
            await self._write(order.launch_id, issued_at=max(order.issued_at, held.state.issued_at))
            if not held.lost:
                return None
        state = LaunchState(
            short=short(order.launch_id),
            # One of its own, until it claims a server.
            key=user_name(order.repo_url, order.launch_id, order.attempt),
            repo=order.repo,
            user=order.user,
            image=order.image,
            build_only=order.build_only,
            launch_host=order.launch_host,
            issued_at=order.issued_at,
        )
        try:
            for _ in range(_TRIES):
                if await self._make(order.launch_id, state):
                    return None
                there = await self._get(order.launch_id)
                if there is None:
                    continue
                if there.holder == self._me:
                    # By a request that came at the same time, or whose answer was lost.
                    self._find_held(order.launch_id, there)
                    return None
                if (address := await self._replicas.address(there.holder)) is not None:
                    return address
                if await self._take_over(order.launch_id, there, state):
                    return None
        except KubernetesError as error:
            raise LedgerError(str(error)) from error
        raise LedgerError("a launch is taken and given up by other replicas again and again")

    async def find(self, launch_id: str) -> str | None:
        """Where a launch is that is not this replica's."""
        try:
            there = await self._get(launch_id)
        except KubernetesError as error:
            raise LedgerError(str(error)) from error
        if there is None or there.holder == self._me:
            return None
        return await self._replicas.address(there.holder)

    async def _make(self, launch_id: str, state: LaunchState) -> bool:
        name = self._name(launch_id)
        item = leases.lease(name, self._member, leases.LAUNCH, self._me, state, now=stamp(), duration_s=round(ALIVE_S))
        try:
            made = _read(await self._ask(lambda: self._client.create("leases", self._namespace, item)))
        except KubernetesError as error:
            if error.reason != "AlreadyExists":
                raise
            return False
        self._held[launch_id] = _Held(made.version, state)
        return True

    def _find_held(self, launch_id: str, there: _Lease) -> None:
        held = self._held.get(launch_id)
        if held is None or held.lost:
            self._held[launch_id] = _Held(there.version, there.state)

    async def _take_over(self, launch_id: str, there: _Lease, state: LaunchState) -> bool:
        """Take the launch of a replica that is dead; false if somebody was faster."""
        if state.issued_at <= there.state.issued_at:
            raise SignatureRefusedError("the launch token was used before, at a replica that has ended since")
        if there.state.outcome == Outcome.READY:
            raise LedgerError("the replica that had this launch has ended, and with it what it knew of the session")
        try:
            taken = await self._change(there.name, there.version, state, holderIdentity=self._me, acquireTime=stamp())
        except KubernetesError as error:
            if error.status not in (404, 409):
                raise
            return False
        logger.info("launch %s: taken over from %s, which is dead", state.short, there.holder)
        self._held[launch_id] = _Held(taken.version, state)
        return True

    async def claim(self, launch: Launch) -> Sequence[LaunchState]:
        """Said before the others are looked at: of two that claim the last room at once, none overlooks the other."""
        await self._write(launch.order.launch_id, key=launch.key, claimed=True, outcome="")
        try:
            labels = leases.selector(self._member, leases.LAUNCH)
            listed = await self._ask(lambda: self._client.list_all("leases", self._namespace, labels=labels))
            claims = [item for item in map(_read, listed.items) if item.state.claimed and item.holder != self._me]
            holders = {item.holder for item in claims}
            alive = {holder for holder in holders if await self._replicas.address(holder) is not None}
        except KubernetesError as error:
            raise LedgerError(str(error)) from error
        if (held := self._held.get(launch.order.launch_id)) is not None and held.lost:
            raise LedgerError("the launch is another replica's by now")
        return [item.state for item in claims if item.holder in alive]

    async def holds(self, launch: Launch) -> bool:
        """By the word of the API."""
        if self._closed:
            return False
        try:
            there = await self._get(launch.order.launch_id)
        except KubernetesError as error:
            logger.warning("launch %s: whose it is cannot be told: %s", launch.short, error)
            return False
        return there is not None and there.holder == self._me

    def ended(self, launch: Launch) -> None:
        """Tell in the background."""
        outcome = launch.outcome.value if launch.outcome else ""
        self._tasks.spawn(f"note the end of launch {launch.short}", self._note_end(launch, outcome))

    async def _note_end(self, launch: Launch, outcome: str) -> None:
        with contextlib.suppress(LedgerError):
            await self._write(launch.order.launch_id, outcome=outcome, claimed=False)

    def forgotten(self, launch: Launch) -> None:
        """Remove its Lease, in the background."""
        held = self._held.pop(launch.order.launch_id, None)
        if held is not None and not held.lost:
            name = self._name(launch.order.launch_id)
            self._tasks.spawn(f"forget launch {launch.short}", self._replicas.delete(name, held.version))

    async def sweep(self) -> None:
        """Remove what dead replicas have left; and of this one's what no launch is of, at two sweeps in a row.

        So is a Lease whose client went away while it was made, or that could not be removed in time.
        """
        await self._replicas.sweep()
        held = {self._name(launch_id) for launch_id in self._held}
        mine = {item.name: item.version for item in self._informer.objects.values() if item.holder == self._me}
        doomed, self._suspects = self._suspects & (mine.keys() - held), mine.keys() - held
        for name in doomed:
            await self._replicas.delete(name, mine[name])
        for item in list(self._informer.objects.values()):
            if not self._replicas.knows(item.holder) and _age_s(item.renewed) > FORGET_S:
                await self._replicas.delete(item.name, item.version)

    async def _write(self, launch_id: str, **changes: Any) -> None:
        """Change the state of a launch that is this replica's; raises :class:`LedgerError`."""
        held = self._held.get(launch_id)
        if held is None:
            return
        async with held.writing:
            for _ in range(_TRIES):
                state = replace(held.state, **changes)
                if held.lost or state == held.state:
                    return
                try:
                    changed = await self._change(self._name(launch_id), held.version, state, renewTime=stamp())
                except KubernetesError as error:
                    if error.status not in (404, 409):
                        raise LedgerError(str(error)) from error
                    await self._reread(launch_id, held)
                else:
                    held.version, held.state = changed.version, state
                    return
        raise LedgerError("a launch's Lease is written by others again and again")

    async def _reread(self, launch_id: str, held: _Held) -> None:
        """After a change that found another version: of a try whose answer nobody heard, or somebody else's."""
        try:
            there = await self._get(launch_id)
        except KubernetesError as error:
            raise LedgerError(str(error)) from error
        if there is not None and there.holder == self._me:
            held.version, held.state = there.version, there.state
            return
        held.lost = True
        logger.warning("launch %s: another replica has taken it over", held.state.short)

    async def _change(self, name: str, version: str, state: LaunchState, **spec: str) -> _Lease:
        """Write a Lease that is of this version still; raises :class:`KubernetesError`."""
        metadata = {"resourceVersion": version, "annotations": {leases.STATE: leases.dump(state)}}
        body = {"metadata": metadata, "spec": spec}
        return _read(await self._ask(lambda: self._client.patch("leases", self._namespace, name, body)))

    async def _get(self, launch_id: str) -> _Lease | None:
        name = self._name(launch_id)
        try:
            return _read(await self._ask(lambda: self._client.get("leases", self._namespace, name)))
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    def _name(self, launch_id: str) -> str:
        return leases.launch_name(self._member, launch_id)

    @property
    def _me(self) -> str:
        return self._replicas.identity

    @staticmethod
    async def _ask(ask: Callable[[], Awaitable[T]]) -> T:
        return await persist(ask, for_s=PATIENCE_S)


def _read(item: Mapping[str, Any]) -> _Lease:
    metadata, renewed = item["metadata"], str((item.get("spec") or {}).get("renewTime") or "")
    name, version = str(metadata["name"]), str(metadata["resourceVersion"])
    return _Lease(name, version, leases.holder_of(item), renewed, leases.launch_state(item))


def _age_s(renewed: str) -> float:
    try:
        return (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(renewed)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
