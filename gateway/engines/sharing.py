"""Keeps the launches of this replica in the shared state, and brings those of other replicas here.

A launch is run by one replica, which holds a lease on it and writes its journal; any other may follow it, and goes on
with it once the lease has run out.  The store may be slow, empty or away: nobody waits for it but who asks for a launch
that is not known here.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from gateway.clients.state.protocol import (
    Adoption,
    Hold,
    SharedState,
    StateUnavailableError,
    StoredLaunch,
    Terms,
)
from gateway.clients.state.sealing import launch_key
from gateway.core.launch import Launch
from gateway.engines.shared_launch import NotUnderstoodError, SharedLaunch
from providers.base import RepoSpec

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Seconds between two writes of what has come meanwhile.
WRITE_EVERY = 0.05

#: Seconds between two looks at the launches of others.
READ_EVERY = 0.25

#: Who adopts a launch leaves room for the numbers of events that the replica before may have shown and never written.
ROOM_FOR_UNWRITTEN = 100_000

#: Launches that are written, or looked at, at a time.
AT_ONCE = 30

#: Visitors who wait at a time for a launch that no replica seems to know; the next ones are to ask again.
PATIENT = 50


class Runner(Protocol):
    """Who runs launches."""

    def go_on_with(self, launch: Launch) -> None:
        """Run a launch that another replica has begun."""

    def let_go(self, launch: Launch) -> None:
        """Run a launch no more: another replica does."""

    def ended_elsewhere(self, launch: Launch) -> None:
        """Take in that a launch that was followed is over."""

    def asked_to_cancel(self, launch: Launch) -> None:
        """End a launch whose visitor has told another replica so."""

    def watched_elsewhere(self, launch: Launch) -> None:
        """Take in that a launch that runs here is watched at another replica."""

    def lost_sight_of(self, launch: Launch) -> None:
        """Show a launch of another replica no more: nobody knows here how it goes on."""


class Sharing:
    """``clock`` is in seconds; ``parse`` reads a spec."""

    def __init__(
        self,
        state: SharedState,
        terms: Terms,
        parse: Callable[[str], RepoSpec],
        clock: Callable[[], float],
    ) -> None:
        self._state, self._terms, self._parse, self._clock = state, terms, parse, clock
        self.replica = secrets.token_hex(8)
        """Names this process among the replicas."""
        self._runner: Runner | None = None
        self._own: dict[str, SharedLaunch] = {}
        self._followed: dict[str, SharedLaunch] = {}
        self._ended: dict[str, SharedLaunch] = {}
        """Launches that have ended here and stand in the store, the latest last: an emptied one gets them again."""
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._trusted_from = clock()
        self._patient = 0

    @property
    def shared(self) -> bool:
        """Whether a launch that ends here can go on elsewhere."""
        return self._state.shared

    def serve(self, runner: Runner) -> None:
        """Name who runs launches, once."""
        self._runner = runner

    def begin(self, launch: Launch) -> None:
        """Keep a launch of this replica from now on."""
        self._add(SharedLaunch.begun(launch))

    def note(self, launch: Launch) -> None:
        """Write a launch soon: its record or its journal has changed."""
        if launch.id in self._own:
            self._changed.add(launch.id)
            self._wake.set()

    async def keep(self, launch: Launch) -> None:
        """Write a launch now, if the store can be had."""
        item = self._own.get(launch.id)
        if item is not None:
            await self._write(item)

    def owns(self, launch: Launch) -> bool:
        """Whether this replica runs it."""
        return launch.id in self._own

    async def find(self, launch_id: str) -> Launch | None:
        """Another replica's launch, which is followed from now on; raises :class:`StateUnavailableError`."""
        key = launch_key(launch_id)
        stored = (await self._asked(self._state.read({key: -1}))).get(key)
        if stored is None:
            return None
        if (item := self._own.get(launch_id) or self._followed.get(launch_id)) is not None:
            return item.launch
        try:
            item = SharedLaunch.found(launch_id, stored, self._parse)
        except NotUnderstoodError as error:
            logger.warning("a launch of another replica is not understood: %s", error)
            # The replica that runs it does understand it, and the visitor may meet that one next time.
            raise StateUnavailableError("the launch is not understood here") from error
        self._followed[launch_id] = item
        self._take(item, stored)
        return item.launch

    async def find_patiently(self, launch_id: str) -> Launch | None:
        """As :meth:`find`, with some patience: a store that was emptied gets its launches back at their renewal."""
        launch = await self.find(launch_id)
        if launch is not None or not self._state.shared:
            return launch
        if self._patient >= PATIENT:
            raise StateUnavailableError("too many wait for launches that the store does not know")
        until = self._clock() + self._terms.lease / 2
        self._patient += 1
        try:
            while launch is None and self._clock() < until:
                await asyncio.sleep(READ_EVERY)
                launch = await self.find(launch_id)
            return launch
        finally:
            self._patient -= 1

    def forget(self, launch: Launch) -> None:
        """Follow a launch no more, or keep one no more that has finished."""
        self._followed.pop(launch.id, None)
        self._ended.pop(launch.id, None)
        if launch.finished_at is not None:
            self._own.pop(launch.id, None)

    async def ask_to_cancel(self, launch: Launch) -> None:
        """Have another replica cancel its launch; raises :class:`StateUnavailableError`."""
        if not await self._asked(self._state.ask_to_cancel(launch_key(launch.id))):
            raise StateUnavailableError("the store does not know the launch just now")

    async def write_on(self) -> None:
        """Write what changes, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(WRITE_EVERY)

    async def flush(self) -> None:
        """Write what has changed, what the store has nothing of first: its visitors could not find it again."""
        changed, self._changed = self._changed, set()
        items = [item for launch_id in changed if (item := self._own.get(launch_id)) is not None]
        items.sort(key=lambda item: item.cursor >= 0)
        for begin in range(0, len(items), AT_ONCE):
            await asyncio.gather(*map(self._write_guarded, items[begin : begin + AT_ONCE]))

    async def _write_guarded(self, item: SharedLaunch) -> None:
        """Write a launch; whatever goes wrong with one keeps no other from being written."""
        try:
            await self._write(item)
        except Exception:
            logger.exception("launch %s: cannot be written", item.launch.short)
            self._changed.add(item.launch.id)

    async def renew(self) -> None:
        """Keep the leases on what is run here, say what is watched here, and write what the store does not have."""
        if not self._state.shared:
            return
        await self._renew_leases()
        watched = [item.key for item in self._followed.values() if item.launch.watchers]
        if watched:
            with contextlib.suppress(StateUnavailableError):
                await self._asked(self._state.watch(watched))

    async def _renew_leases(self) -> None:
        keys = {item.key: item for item in self._own.values()}
        # One that has ended stands for all of these.
        latest = next(reversed(self._ended.values()), None)
        if latest is not None:
            keys[latest.key] = latest
        try:
            renewals = await self._asked(self._state.renew(tuple(keys), self.replica))
        except StateUnavailableError:
            self._changed.update(self._own)
            # Whoever watched them does so still, and will be back.
            self._tell_watched()
            return
        for key, renewal in renewals.items():
            item = keys[key]
            item.watched = renewal.watched
            if renewal.hold is Hold.LOST:
                self._lose(item)
            elif renewal.hold is Hold.GONE:
                for lost in self._ended.values() if item is latest else [item]:
                    lost.cursor = -1
                    self._own[lost.launch.id] = lost
                    self.note(lost.launch)
            elif renewal.cancelled and self._runner is not None:
                self._runner.asked_to_cancel(item.launch)
        self._tell_watched()
        if self._changed:
            self._wake.set()

    def _tell_watched(self) -> None:
        for item in self._own.values():
            if item.watched and self._runner is not None:
                self._runner.watched_elsewhere(item.launch)

    async def follow(self) -> None:
        """Bring over what is new in the launches of others, and go on with those that nobody runs any more."""
        items = {item.key: item for item in self._followed.values()}
        if not items:
            return
        try:
            found = await self._asked(self._state.read({key: item.cursor for key, item in items.items()}))
        except StateUnavailableError:
            for item in items.values():
                self._lose_sight_of(item)
            return
        followed = [(item, found.get(key)) for key, item in items.items() if item.launch.id in self._followed]
        for begin in range(0, len(followed), AT_ONCE):
            await asyncio.gather(*(self._look_guarded(*each) for each in followed[begin : begin + AT_ONCE]))

    async def _look_guarded(self, item: SharedLaunch, stored: StoredLaunch | None) -> None:
        """Look after a launch; whatever goes wrong with one holds up no other."""
        try:
            await self._look_after(item, stored)
        except StateUnavailableError:
            return
        except Exception:
            logger.exception("launch %s: cannot be followed", item.launch.short)

    async def hand_over(self) -> None:
        """Write all launches a last time, and let other replicas go on at once with those that have not ended."""
        items = list(self._own.values())
        for begin in range(0, len(items), AT_ONCE):
            await asyncio.gather(*map(self._write_guarded, items[begin : begin + AT_ONCE]))
        items = [item for item in items if self._own.pop(item.launch.id, None) is not None]
        try:
            await self._state.give_up([item.key for item in items], self.replica)
        except StateUnavailableError as error:
            logger.warning("launches could not be handed over, and wait for their leases to run out: %s", error)

    async def _look_after(self, item: SharedLaunch, stored: StoredLaunch | None) -> None:
        if stored is not None:
            item.gone_since = None
            if not self._take(item, stored):
                self._lose_sight_of(item)
                return
            if stored.over or not item.launch.watchers or not self._leases_count:
                return
            if await self._asked(self._state.adopt(item.key, self.replica)) is Adoption.ADOPTED:
                await self._adopted(item)
            return
        item.hidden_since = None
        item.gone_since = item.gone_since or self._clock()
        # Who runs it writes it anew at the next renewal; if nobody does, it is gone with its replica.
        if self._clock() - item.gone_since > self._terms.lease and item.launch.watchers:
            item.cursor = -1
            await self._adopted(item)

    @property
    def _leases_count(self) -> bool:
        """Whether a lease that has run out says that its holder is dead: not while the store was away for all."""
        return self._clock() >= self._trusted_from and self._state.steady() >= self._terms.lease

    def _lose_sight_of(self, item: SharedLaunch) -> None:
        """Nobody knows here how a launch goes on: after a while its watchers had better ask another replica."""
        item.hidden_since = item.hidden_since or self._clock()
        if self._clock() - item.hidden_since <= self._terms.lease:
            return
        if self._followed.pop(item.launch.id, None) is not None and self._runner is not None:
            self._runner.lost_sight_of(item.launch)

    async def _adopted(self, item: SharedLaunch) -> None:
        """Run a launch from here on, with all that the replica before has written of it."""
        if item.cursor >= 0:
            stored = (await self._asked(self._state.read({item.key: item.cursor}))).get(item.key)
            if stored is not None and not self._take(item, stored):
                return
        launch = item.launch
        if launch.id not in self._followed or launch.finished_at is not None:
            return
        del self._followed[launch.id]
        launch.journal.skip_to(launch.journal.next_n + ROOM_FOR_UNWRITTEN)
        self._add(item)
        logger.info("launch %s: goes on here", launch.short)
        if self._runner is not None:
            self._runner.go_on_with(launch)

    def _take(self, item: SharedLaunch, stored: StoredLaunch) -> bool:
        """Bring a launch that is followed up to date; whether what is stored was understood."""
        launch = item.launch
        try:
            item.take(stored, self._parse)
        except NotUnderstoodError as error:
            if item.hidden_since is None:
                logger.warning("launch %s: what another replica wrote is not understood: %s", launch.short, error)
            return False
        item.hidden_since = None
        if launch.journal.final is not None and launch.finished_at is None:
            launch.finished_at = self._clock()
            self._followed.pop(launch.id, None)
            if self._runner is not None:
                self._runner.ended_elsewhere(launch)
        return True

    async def _write(self, item: SharedLaunch) -> None:
        launch = item.launch
        async with item.lock:
            if launch.id not in self._own:
                return
            if not self._state.shared:
                # Nobody else could read it.
                if launch.journal.final is not None:
                    self._own.pop(launch.id, None)
                return
            if self._state.left_alone:
                # Nothing is sealed for a store that will not take it.
                self._changed.add(launch.id)
                return
            writing = item.writing()
            try:
                hold = await self._asked(self._state.write(item.key, self.replica, writing))
            except StateUnavailableError:
                self._changed.add(launch.id)
                return
            if hold is Hold.LOST:
                self._lose(item)
            elif hold is Hold.GONE:
                item.cursor = -1
                self.note(launch)
            else:
                item.written(writing)
                if writing.over and self._own.pop(launch.id, None) is not None:
                    self._ended[launch.id] = item

    def _add(self, item: SharedLaunch) -> None:
        self._own[item.launch.id] = item
        item.launch.journal.changed = partial(self.note, item.launch)
        self.note(item.launch)

    def _lose(self, item: SharedLaunch) -> None:
        """Another replica has taken a launch over, for this one seemed dead; follow it."""
        launch = item.launch
        if self._own.pop(launch.id, None) is None:
            return
        logger.warning("launch %s: another replica has taken it over", launch.short)
        self._followed[launch.id] = item
        if self._runner is not None:
            self._runner.let_go(launch)

    async def _asked(self, asking: Awaitable[Answer]) -> Answer:
        """What the store answers; after it was away, leases may have run out whose holders live."""
        try:
            return await asking
        except StateUnavailableError:
            self._trusted_from = self._clock() + self._terms.lease
            raise
