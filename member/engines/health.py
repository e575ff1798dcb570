"""The member's own checks, in parallel, each with a deadline, and not made anew for every one who asks."""

import asyncio
import time
from collections.abc import Sequence

from contract.reports import Check
from member.builders.base import Builder
from member.clients.hub import HubClient, HubError

#: Seconds that a result is told again, and that a check may take.
FRESH_S = 3.0
DEADLINE_S = 5.0


class Health:
    """Checks the Hub and what the builder needs."""

    def __init__(self, hub: HubClient, builder: Builder) -> None:
        self._hub, self._builder = hub, builder
        self._results: Sequence[Check] = ()
        self._at = float("-inf")
        self._lock = asyncio.Lock()
        self.hub_version = "unknown"

    async def checks(self) -> Sequence[Check]:
        """The results, not older than a few seconds."""
        async with self._lock:
            if time.monotonic() - self._at > FRESH_S:
                hub, builder = await asyncio.gather(self._hub_check(), self._builder_checks())
                self._results = (hub, *builder)
                self._at = time.monotonic()
            return self._results

    async def _hub_check(self) -> Check:
        try:
            async with asyncio.timeout(DEADLINE_S):
                self.hub_version = await self._hub.version()
        except TimeoutError:
            return Check("JupyterHub API", False, f"it did not answer within {DEADLINE_S:g} s")
        except HubError as error:
            return Check("JupyterHub API", False, str(error))
        return Check("JupyterHub API", True)

    async def _builder_checks(self) -> Sequence[Check]:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._builder.checks()
        except TimeoutError:
            return (Check("Builder", False, f"it did not answer within {DEADLINE_S:g} s"),)
