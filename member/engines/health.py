"""The member's own checks: in parallel, each with a deadline, answered from what is known.

A gateway waits for an answer no longer than two seconds, and a Hub under load may take longer to give one: what was
found last is told while the next round is under way, and only when it is too old itself is that a failing check.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from contract.reports import Check
from member.builders.base import Builder
from member.clients.hub import HubClient, HubError

logger = logging.getLogger(__name__)

#: Seconds that a result is told without a new check, that a check may take, that who asks waits for a new one, and
#: after which a result is not told any more.
FRESH_S = 3.0
DEADLINE_S = 5.0
PATIENCE_S = 1.0
STALE_S = 12.0

#: Makes checks that belong together.
Probe = Callable[[], Awaitable[Sequence[Check]]]


@dataclass(frozen=True, slots=True)
class _Result:
    checks: Sequence[Check]
    at: float


class Health:
    """Checks the Hub, what the builder needs, and what else ``probes`` holds by its name."""

    def __init__(
        self,
        hub: HubClient,
        builder: Builder,
        probes: Mapping[str, Probe] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub, self._clock = hub, clock
        self._probes: dict[str, Probe] = {"JupyterHub API": self._ask_hub, "Builder": builder.checks, **(probes or {})}
        self._results: dict[str, _Result] = {}
        self._rounds: dict[str, asyncio.Task[None]] = {}
        self.hub_version = "unknown"

    def add(self, name: str, probe: Probe) -> None:
        """Check one thing more."""
        self._probes[name] = probe

    async def checks(self) -> Sequence[Check]:
        """The results, each not older than a few seconds; within about one, whatever hangs."""
        due = {self._check(name) for name in self._probes if self._age(name) > FRESH_S}
        if due:
            await asyncio.wait(due, timeout=PATIENCE_S)
        return [check for name in self._probes for check in self._told(name)]

    async def close(self) -> None:
        """End what is being asked."""
        for task in self._rounds.values():
            task.cancel()
        await asyncio.gather(*self._rounds.values(), return_exceptions=True)

    def _check(self, name: str) -> asyncio.Task[None]:
        """Check, or join the check that is under way."""
        task = self._rounds.get(name)
        if task is None or task.done():
            task = self._rounds[name] = asyncio.create_task(self._run(name), name=f"check {name}")
        return task

    async def _run(self, name: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                found: Sequence[Check] = await self._probes[name]()
        except TimeoutError:
            found = self._failed(name, f"it did not answer within {DEADLINE_S:g} s")
        except Exception:
            logger.exception("the check %s failed", name)
            found = self._failed(name, "it could not be checked; the log of this member says why")
        self._results[name] = _Result(found, self._clock())

    def _age(self, name: str) -> float:
        result = self._results.get(name)
        return self._clock() - result.at if result else float("inf")

    def _told(self, name: str) -> Sequence[Check]:
        result = self._results.get(name)
        if result is None:
            return self._failed(name, "it has not answered yet")
        if self._age(name) > STALE_S:
            return self._failed(name, f"it has not answered for {self._age(name):.0f} s")
        return result.checks

    def _failed(self, name: str, why: str) -> Sequence[Check]:
        return (Check(name, False, why),)

    async def _ask_hub(self) -> Sequence[Check]:
        try:
            self.hub_version = await self._hub.version()
        except HubError as error:
            return (Check("JupyterHub API", False, str(error)),)
        return (Check("JupyterHub API", True),)
