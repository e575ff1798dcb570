"""Active probes: one task a member, that asks now and then, and at once when somebody has a doubt."""

import asyncio
import logging
import random
from collections.abc import Callable

from gateway.clients.kinds import Clients
from gateway.core.fleet import Health, Member
from gateway.core.transitions import ProbeResult
from gateway.engines.fleet import Fleet
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds between two questions for versions.
VERSIONS_EVERY = 60.0

#: Seconds between two probes of a member, however many launches have a doubt.
SHORTEST_PAUSE = 0.1

#: How much of the interval is waited before a failed probe is repeated, so that a dead member is noticed soon.
RETRY_SHARE = 0.25


class Prober:
    """Probes every member of a fleet."""

    def __init__(self, fleet: Fleet, client: Clients, tasks: Tasks, draw: Callable[[], float] = random.random) -> None:
        self._fleet, self._client, self._tasks, self._draw = fleet, client, tasks, draw
        self._hints: dict[str, asyncio.Event] = {}

    def start(self) -> None:
        """Begin to probe the members that are not probed yet; one that has left the fleet is probed no more."""
        for view in self._fleet.snapshot.members:
            if view.name not in self._hints:
                self._hints[view.name] = asyncio.Event()
                self._tasks.spawn(f"probe {view.name}", self._watch(view.name))

    def hint(self, name: str) -> None:
        """Probe a member at once: a launch has just met a problem there."""
        if name in self._hints:
            self._hints[name].set()

    async def _watch(self, name: str) -> None:
        hint = self._hints[name]
        loop = asyncio.get_running_loop()
        versions_at = -VERSIONS_EVERY
        while (member := self._fleet.member(name)) is not None:
            settings = self._fleet.settings.probes
            hint.clear()
            due = loop.time() - versions_at >= VERSIONS_EVERY or not self._healthy(member)
            result = await self._probe(member, versions=due)
            if due and result.versions:
                versions_at = loop.time()
            self._fleet.probed(member.name, result)
            good = result.reachable and result.passing
            await asyncio.sleep(SHORTEST_PAUSE)
            pause = settings.interval * (1.0 if good or not self._healthy(member) else RETRY_SHARE)
            try:
                async with asyncio.timeout(pause * (0.9 + 0.2 * self._draw()) - SHORTEST_PAUSE):
                    await hint.wait()
            except TimeoutError:
                continue
        del self._hints[name]

    async def _probe(self, member: Member, *, versions: bool) -> ProbeResult:
        try:
            return await self._client.probe(member, self._fleet.settings.probes.timeout, versions=versions)
        except Exception:
            # Whatever it is, belief may not stand still for it.
            logger.exception("the probe of %s failed", member.name)
            return ProbeResult(False, False, "Its answer to a probe could not be understood.")

    def _healthy(self, member: Member) -> bool:
        view = self._fleet.snapshot.get(member.name)
        return view is not None and view.health(self._fleet.now()) == Health.HEALTHY
