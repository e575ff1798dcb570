"""Active probes: one task a member, that asks now and then, and at once when somebody has a doubt."""

import asyncio
import random
from collections.abc import Callable

from gateway.clients.kinds import Clients
from gateway.core.fleet import Health, Member
from gateway.core.settings import ProbeSettings
from gateway.engines.fleet import Fleet
from servicekit.tasks import Tasks

#: Seconds between two questions for versions.
VERSIONS_EVERY = 60.0

#: Seconds between two probes of a member, however many launches have a doubt.
SHORTEST_PAUSE = 0.1

#: How much of the interval is waited before a failed probe is repeated, so that a dead member is noticed soon.
RETRY_SHARE = 0.25


class Prober:
    """Probes every member of a fleet."""

    def __init__(
        self,
        fleet: Fleet,
        client: Clients,
        settings: ProbeSettings,
        tasks: Tasks,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._fleet, self._client, self._settings, self._tasks, self._draw = fleet, client, settings, tasks, draw
        self._hints = {view.name: asyncio.Event() for view in fleet.snapshot.members}

    def start(self) -> None:
        """Begin to probe."""
        for view in self._fleet.snapshot.members:
            self._tasks.spawn(f"probe {view.name}", self._watch(view.member))

    def hint(self, name: str) -> None:
        """Probe a member at once: a launch has just met a problem there."""
        if name in self._hints:
            self._hints[name].set()

    async def _watch(self, member: Member) -> None:
        hint = self._hints[member.name]
        loop = asyncio.get_running_loop()
        versions_at = -VERSIONS_EVERY
        while True:
            hint.clear()
            due = loop.time() - versions_at >= VERSIONS_EVERY or not self._healthy(member)
            result = await self._client.probe(member, self._settings.timeout, versions=due)
            if due and result.versions:
                versions_at = loop.time()
            self._fleet.probed(member.name, result)
            good = result.reachable and result.passing
            await asyncio.sleep(SHORTEST_PAUSE)
            pause = self._settings.interval * (1.0 if good or not self._healthy(member) else RETRY_SHARE)
            try:
                async with asyncio.timeout(pause * (0.9 + 0.2 * self._draw()) - SHORTEST_PAUSE):
                    await hint.wait()
            except TimeoutError:
                continue

    def _healthy(self, member: Member) -> bool:
        view = self._fleet.snapshot.get(member.name)
        return view is not None and view.health(self._fleet.now()) == Health.HEALTHY
