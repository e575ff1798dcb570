"""Quotas over all replicas and members: sessions that members have reported, and launches on their way to be one."""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.clients.state.memory_rules import MemoryRules
from gateway.clients.state.protocol import LimitState, Quota, StateUnavailableError
from gateway.core.admission import PER_REPO, TOTAL, Rules, sessions_of
from gateway.core.launch import Launch
from gateway.engines.fleet import Fleet
from providers.base import NO_RULE, SpecQuota

logger = logging.getLogger(__name__)

#: Seconds for which a claim holds without being prolonged.  A launch that became ready is counted by its member's
#: reports long before; one whose replica has died is adopted within seconds, and its claim prolonged.
LEASE = 60.0

#: Seconds between two prolongations.
PROLONG_EVERY = 15.0


#: A limit that nothing reaches.
_ANY = 10**9


class Quotas:
    """A launch claims a place before it begins; it gives the place back unless it becomes a session."""

    def __init__(
        self,
        state: LimitState,
        fleet: Fleet,
        rules: Callable[[], Rules],
        pseudonym: Callable[[str], str],
        ruled: Callable[[str], SpecQuota] = lambda _: NO_RULE,
    ) -> None:
        self._ruled = ruled
        """What the rules of its provider say of a spec."""
        self._state, self._fleet, self._rules, self._pseudonym = state, fleet, rules, pseudonym
        self._alone = MemoryRules(time.monotonic)
        self._held: dict[str, tuple[Launch, list[Quota]]] = {}
        """What launches hold, or may: one that was cancelled while it asked gives back all the same."""
        self._sure: set[str] = set()
        """Launches that hold it without doubt."""
        self._lock = asyncio.Lock()

    async def claim(self, launch: Launch) -> str | None:
        """Claim a place for a launch that begins here; the message for its visitor if there is none."""
        quotas = self._quotas(launch)
        if not quotas:
            return None
        # Before it is asked: whoever is cancelled meanwhile may hold a place, and gives it back.
        self._held[launch.id] = (launch, quotas)
        full = await self._claim(launch.short, quotas)
        if full is None:
            self._sure.add(launch.id)
            return None
        self._held.pop(launch.id, None)
        if quotas[full].name == TOTAL:
            return "Too many users on this BinderHub! Try again soon.\n"
        return f"Too many users running {launch.spec.repo_url}! Try again soon.\n"

    async def keep(self, launch: Launch) -> None:
        """Hold the place of a launch that another replica has begun, whatever the quota is and the store holds."""
        quotas = self._quotas(launch)
        if quotas:
            self._held[launch.id] = (launch, quotas)
            self._sure.add(launch.id)
            await self._claim(launch.short, _whatever(quotas))

    async def ended(self, launch: Launch, *, ready: bool) -> None:
        """A launch runs here no more; ``ready``: it is a session now, or goes on elsewhere, and keeps its place."""
        async with self._lock:
            held = self._held.pop(launch.id, None)
            self._sure.discard(launch.id)
            if held is not None:
                await self._settle(launch.short, held[1], keeps=ready)

    async def _settle(self, launch: str, quotas: list[Quota], *, keeps: bool) -> None:
        names = [quota.name for quota in quotas]
        try:
            if keeps:
                await self._state.claim(launch, quotas, LEASE)
            else:
                await self._state.give_back(launch, names)
        except StateUnavailableError:
            logger.info("launch %s: its place under a quota is given back when its time is up", launch)
        if not keeps:
            await self._alone.give_back(launch, names)

    async def prolong(self) -> None:
        """Keep the places of the launches that run here."""
        for launch, quotas in list(self._held.values()):
            async with self._lock:
                if launch.id in self._sure:
                    await self._claim(launch.short, _whatever(quotas))

    async def _claim(self, launch: str, quotas: list[Quota]) -> int | None:
        # Here as well, so that a store that goes away leaves a count behind.
        try:
            full = await self._state.claim(launch, quotas, LEASE)
        except StateUnavailableError:
            return await self._alone.claim(launch, quotas, LEASE)
        if full is None:
            await self._alone.claim(launch, _whatever(quotas), LEASE)
        return full

    def _quotas(self, launch: Launch) -> list[Quota]:
        if launch.visitor.build_only:
            return []  # quotas are of sessions
        quotas, repo = self._rules().quotas, launch.spec.repo
        limit = quotas.limit(repo, self._ruled(launch.spec.raw))
        if quotas.total is None and limit is None:
            return []
        total, of_repo, seen = sessions_of(self._fleet.snapshot, repo)
        found = []
        if quotas.total is not None:
            found.append(Quota(TOTAL, quotas.total, total, seen))
        if limit is not None:
            found.append(Quota(f"{PER_REPO}:{self._pseudonym(repo)}", limit, of_repo, seen))
        return found


def _whatever(quotas: list[Quota]) -> list[Quota]:
    """The same quotas for a place that is taken already: nothing is too many."""
    return [Quota(quota.name, _ANY) for quota in quotas]
