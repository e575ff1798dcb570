"""Says who may begin a launch: bans and rates, over all replicas."""

import asyncio
import logging
import time
from collections.abc import Callable

from contract.bans import ban_text
from gateway.clients.state.memory_rules import MemoryRules
from gateway.clients.state.protocol import LimitState, StateUnavailableError
from gateway.core.admission import AdmissionSettings, Rules, rules_of
from gateway.core.ports import NotAdmittedError, RateLimit
from gateway.engines.records import Records
from providers.base import RepoSpec

logger = logging.getLogger(__name__)


class Admission:
    """``pseudonym`` names a client in the store, which holds no addresses; ``wall`` is Unix time."""

    def __init__(
        self,
        settings: AdmissionSettings,
        records: Records,
        state: LimitState,
        pseudonym: Callable[[str], str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._records, self._state = settings, records, state
        self._pseudonym, self._wall = pseudonym, wall
        self._alone = MemoryRules(time.monotonic)
        """Counts here what the store cannot: while it is away, each replica limits for itself."""
        self._rules = rules_of(settings, records.book)
        self.changed = asyncio.Event()
        """Set at each change of the rules; whoever waits for it clears it."""
        records.on_change(self._renew)

    @property
    def rules(self) -> Rules:
        """The rules as of now."""
        return self._rules

    def configure(self, settings: AdmissionSettings) -> None:
        """Go by another configuration from now on."""
        self._settings = settings
        self._renew()

    def counted_as(self, client: str) -> str:
        """The network that is one client; "" where it is not known."""
        return self._rules.rate_limit.counted_as(client)

    def check_client(self, client: str) -> None:
        """Raises :class:`NotAdmittedError` for a client that is banned."""
        if (ban := self._rules.ban_on(client, self._wall())) is not None:
            raise NotAdmittedError(403, ban_text(ban, ""))

    def check(self, spec: RepoSpec, client: str) -> None:
        """Raises :class:`NotAdmittedError` for a launch that is banned."""
        if (refusal := self.refusal(spec, client)) is not None:
            raise NotAdmittedError(403, refusal)

    def refusal(self, spec: RepoSpec, client: str) -> str | None:
        """What the visitor of a launch that is banned is told; ``None``: it is not."""
        ban = self._rules.ban_of(spec.raw, spec.repo, client, self._wall())
        return None if ban is None else ban_text(ban, spec.raw)

    async def take(self, client: str) -> RateLimit | None:
        """Count a launch of a client; ``None`` if it is not counted.  Raises :class:`NotAdmittedError`."""
        rate = self._rules.rate_limit
        bucket = rate.bucket(client)
        if bucket is None:
            return None
        name, interval = self._pseudonym(bucket), rate.per / rate.launches
        try:
            taken = await self._state.take(name, interval, rate.launches)
        except StateUnavailableError:
            taken = await self._alone.take(name, interval, rate.launches)
        if taken.wait > 0:
            wait = max(1, round(taken.wait + 0.5))
            raise NotAdmittedError(429, f"Rate limit exceeded. Try again in {wait} seconds.\n", wait)
        return RateLimit(rate.launches, taken.left, taken.full_in)

    def _renew(self) -> None:
        self._rules = rules_of(self._settings, self._records.book)
        self.changed.set()
