"""From an image to a session that answers: a place, a turn, a server at the Hub; or nothing left of it."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable

import aiohttp

from contract.events import Phase, event
from contract.repos import RepoKey
from member.clients.hub import HubBusyError, HubClient, HubError, SpawnFailedError
from member.core.builds import SlotTimes
from member.core.launching import Launch, user_options
from member.core.quotas import SessionLimits, refusal
from member.engines.launch_queue import LaunchQueue
from member.engines.ledger import Alone, Ledger
from member.metrics import Metrics
from member.settings import LaunchSettings
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds that the Hub gets to remove what a launch has left there.
_REMOVE_TIMEOUT_S = 120.0

#: Seconds that the end of this process waits for that; the Hub may be ending too.
_CLOSE_TIMEOUT_S = 3.0


class FullError(Exception):
    """There is no room for this session; the text is a sentence for its visitor.

    ``for_all``: for no other one either.
    """

    def __init__(self, message: str, *, for_all: bool = True) -> None:
        super().__init__(message)
        self.for_all = for_all


class Servers:
    """Starts servers at the Hub, ``settings.concurrent`` at a time; ``public_url`` is the Hub's, for visitors."""

    def __init__(
        self,
        hub: HubClient,
        http: aiohttp.ClientSession,
        settings: LaunchSettings,
        limits: SessionLimits,
        *,
        public_url: str,
        tasks: Tasks,
        metrics: Metrics,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger: Ledger = ledger or Alone()
        self._hub, self._http, self._settings, self._limits = hub, http, settings, limits
        self._public_url, self._tasks, self._metrics, self._clock = public_url, tasks, metrics, clock
        self._queue, self._times = LaunchQueue(settings.concurrent), SlotTimes(settings.concurrent)
        self._claimed: dict[str, RepoKey] = {}
        """Users for whom a server is being started, which the Hub may not count yet."""
        self._removals: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """How many launches wait for their turn."""
        return self._queue.waiting

    async def serve(self, launch: Launch) -> tuple[str, str]:
        """Start a launch's server; returns its URL and token.  Whatever ends this early leaves nothing at the Hub.

        Raises :class:`FullError`, :class:`member.clients.hub.HubError`, :class:`member.core.ports.LedgerError` or
        ``TimeoutError``.
        """
        started = False
        try:
            left_over = await self._claim(launch)
            queued_at = self._clock()
            async with self._queue.slot(lambda place: _tell_position(launch, place, self._times.until_start(place))):
                self._metrics.phase("launch_queue", self._clock() - queued_at)
                begun = self._clock()
                started = True
                async with asyncio.timeout(self._settings.timeout):
                    served = await self._start(launch, left_over=left_over)
                self._metrics.phase("starting", self._clock() - begun)
                self._times.took(self._clock() - begun)
                return served
        except BaseException:
            if started:
                removal = self._tasks.spawn(f"remove the server of launch {launch.short}", self._remove(launch))
                self._removals.add(removal)
                removal.add_done_callback(self._removals.discard)
            raise
        finally:
            self._claimed.pop(launch.user, None)
            self._tasks.spawn(f"release the claim of launch {launch.short}", self._ledger.release(launch))

    async def close(self) -> None:
        """Give the Hub a moment for what is being removed."""
        if self._removals:
            _, late = await asyncio.wait(self._removals, timeout=_CLOSE_TIMEOUT_S)
            for removal in late:
                removal.cancel()

    async def _claim(self, launch: Launch) -> bool:
        """Take one of the member's sessions; whether the user has a server already.  Raises :class:`FullError`."""
        async with asyncio.timeout(self._settings.timeout):
            # First: what another replica lets go of from here on, the Hub counts.
            elsewhere = await self._ledger.claim(launch)
            users = await self._hub.users(patient=True)
        there = {item.name: item.repo for item in users if item.has_server}
        claimed = {**there, **elsewhere, **self._claimed}
        if (why := refusal(launch.order, launch.user, claimed, self._limits)) is not None:
            raise FullError(why.message, for_all=why.for_all)
        self._claimed[launch.user] = launch.order.repo
        return launch.user in there

    async def _start(self, launch: Launch, *, left_over: bool) -> tuple[str, str]:
        """Start the server, once more where the Hub could not; the caller sets the deadline."""
        pause = self._settings.retry_delay
        while True:
            if left_over:
                # Of this launch: by an attempt that failed, or by a member's API that has ended and its token with it.
                await self._hub.remove(launch.user)
            token = secrets.token_urlsafe(32)
            try:
                return await self._spawn(launch, token), token
            except SpawnFailedError as error:
                if launch.retries >= self._settings.retries:
                    raise
                launch.retries += 1
                logger.info("launch %s: attempt %d at the Hub: %s", launch.short, launch.retries, error)
                message = f"Launch attempt {launch.retries} failed, retrying...\n"
                launch.journal.append(event(Phase.LAUNCHING, message))
            left_over = True
            await asyncio.sleep(pause)
            pause *= 2

    async def _spawn(self, launch: Launch, token: str) -> str:
        user = launch.user
        await self._hub.start(user, user_options(launch.order, token))
        while True:
            try:
                async with contextlib.aclosing(self._hub.progress(user)) as messages:
                    async for message in messages:
                        launch.journal.append(event(Phase.LAUNCHING, f"{message.rstrip()}\n"))
                break
            except HubBusyError as error:
                logger.info("launch %s: %s; following again", launch.short, error)
                await asyncio.sleep(0.5)
        url = f"{self._public_url}user/{user}/"
        await self._until_it_answers(url, token)
        return url

    async def _until_it_answers(self, url: str, token: str) -> None:
        """Wait until the session answers at the address that the visitor will be sent to."""
        headers = {"Authorization": f"token {token}"}
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=10)
                # Until the proxy has the route, the Hub answers, and sends on to a page of its own.
                async with self._http.get(
                    f"{url}api/status", headers=headers, timeout=timeout, allow_redirects=False
                ) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)

    async def _remove(self, launch: Launch) -> None:
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                # The server may be another replica's by now, and a visitor in it.
                if await self._ledger.holds(launch):
                    await self._hub.remove(launch.user)
        except (HubError, TimeoutError) as error:
            # The reaper finds the user later.
            logger.warning("the Hub did not remove %s: %s", launch.user, error)


def _tell_position(launch: Launch, place: int, eta: float | None) -> None:
    ahead = "You are next." if place == 1 else f"{place - 1} before you."
    message = f"Waiting for other sessions to start. {ahead}\n"
    launch.journal.append(event(Phase.LAUNCHING, message, position=place, eta_s=eta))
