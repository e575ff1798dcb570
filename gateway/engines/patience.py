"""How long one attempt at a member may take; what follows when it is over is decided elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contract.events import BuildEvent, Phase
from gateway.clients.faults import Fault, MemberFault
from gateway.core.fleet import Member
from gateway.engines.fleet import Fleet

#: Seconds between two looks whether the member can be reached.
WATCH_EVERY = 1.0

_BUILDING = (Phase.FETCHING, Phase.BUILDING, Phase.PUSHING)
_STARTING = (Phase.BUILT, Phase.LAUNCHING)


class Patience:
    """How long an attempt may take: a bound for each stretch of a launch, and less at a member that is lost.

    :meth:`limit` raises ``TimeoutError`` when it is at an end; :meth:`fault` then says why.
    """

    def __init__(self, fleet: Fleet, member: Member) -> None:
        self._fleet, self._member, self._settings = fleet, member, fleet.settings.launch
        self._heard_at = fleet.now()
        self._stretch, self._bound = "in its queue", self._settings.waiting_timeout
        self._timer = asyncio.timeout(self._bound)
        self._lost = False

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Bounds what is done in this context."""
        watch = asyncio.create_task(self._watch_member())
        try:
            async with self._timer:
                yield
        finally:
            watch.cancel()

    def heard(self, item: BuildEvent) -> None:
        """Take in that the member has sent an event; one with a position stands in a queue, for a build or a start."""
        self._heard_at = self._fleet.now()
        if "position" in item.fields:
            self._enter("in its queue", self._settings.waiting_timeout)
        elif item.phase in _BUILDING:
            self._enter("building", self._settings.build_timeout)
        elif item.phase in _STARTING:
            self._enter("starting the session", self._settings.start_timeout)

    def fault(self) -> MemberFault:
        """Why it was at an end."""
        if self._lost:
            return MemberFault(Fault.LOST, "can no longer be reached, and its stream is silent")
        return MemberFault(Fault.SLOW, f"was {self._stretch} for more than {self._bound:g} s")

    def _enter(self, stretch: str, bound: float) -> None:
        if stretch != self._stretch:
            self._stretch, self._bound = stretch, bound
            self._timer.reschedule(asyncio.get_running_loop().time() + bound)

    async def _watch_member(self) -> None:
        while not self._lost:
            await asyncio.sleep(WATCH_EVERY)
            view = self._fleet.snapshot.get(self._member.name)
            if view is not None and view.reachable.ok is False:
                silent = self._fleet.now() - max(view.reachable.since, self._heard_at)
                self._lost = silent >= self._settings.stalled_after
        self._timer.reschedule(asyncio.get_running_loop().time())
