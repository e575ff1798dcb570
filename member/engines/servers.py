"""From an image to a session that answers: a place, a turn, a server at the Hub; or nothing left of it."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import aiohttp
from yarl import URL

from contract.events import Phase, event
from contract.repos import RepoKey
from member.clients.hub import HubBusyError, HubClient, HubError, HubUser, SpawnFailedError
from member.core.builds import SlotTimes
from member.core.launching import Launch, user_options
from member.core.leases import LaunchState
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


class HasServerError(Exception):
    """Who launches has a server already, or as many as they may; the text is BinderHub's, and what to do."""


class Servers:
    """Starts servers at the Hub, ``settings.concurrent`` at a time; ``public_url`` is the Hub's, for visitors.

    ``named_server_limit`` says how many named ones somebody may have who has logged in (0 = any number).
    """

    def __init__(
        self,
        hub: HubClient,
        http: aiohttp.ClientSession,
        settings: LaunchSettings,
        limits: SessionLimits,
        *,
        public_url: str,
        named_server_limit: int = 0,
        tasks: Tasks,
        metrics: Metrics,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger: Ledger = ledger or Alone()
        self._hub, self._http, self._settings, self._limits = hub, http, settings, limits
        self._named_server_limit = named_server_limit
        self._public_url, self._tasks, self._metrics, self._clock = public_url, tasks, metrics, clock
        self._queue, self._times = LaunchQueue(settings.concurrent), SlotTimes(settings.concurrent)
        self._claimed: dict[str, Launch] = {}
        """Launches, by their ids, whose servers are being started, which the Hub may not count yet."""
        self._removals: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """How many launches wait for their turn."""
        return self._queue.waiting

    async def serve(self, launch: Launch) -> tuple[str, str]:
        """Start a launch's server; returns its URL and token.  Whatever ends this early leaves nothing at the Hub.

        A server of somebody who has logged in is left alone where another launch of theirs has to do with it.

        Raises :class:`FullError`, :class:`HasServerError`, :class:`member.clients.hub.HubError`,
        :class:`member.core.ports.LedgerError` or ``TimeoutError``.
        """
        started = False
        try:
            there, joins = await self._claim(launch)
            queued_at = self._clock()
            async with self._queue.slot(lambda place: _tell_position(launch, place, self._times.until_start(place))):
                self._metrics.phase("launch_queue", self._clock() - queued_at)
                begun = self._clock()
                async with asyncio.timeout(self._settings.timeout):
                    if joins:
                        return await self._spawn(launch, _token())
                    started = True
                    served = await self._start(launch, left_over=there)
                self._metrics.phase("starting", self._clock() - begun)
                self._times.took(self._clock() - begun)
                return served
        except BaseException:
            if started and not self._is_claimed_besides(launch):
                removal = self._tasks.spawn(f"remove the server of launch {launch.short}", self._remove(launch))
                self._removals.add(removal)
                removal.add_done_callback(self._removals.discard)
            raise
        finally:
            self._claimed.pop(launch.order.launch_id, None)

    async def close(self) -> None:
        """Give the Hub a moment for what is being removed."""
        if self._removals:
            _, late = await asyncio.wait(self._removals, timeout=_CLOSE_TIMEOUT_S)
            for removal in late:
                removal.cancel()

    async def _claim(self, launch: Launch) -> tuple[bool, bool]:
        """Take one of the member's sessions.

        Returns whether its server is there already, and whether it is, or will be, another launch's of the same user.
        Raises :class:`FullError` or :class:`HasServerError`.
        """
        async with asyncio.timeout(self._settings.timeout):
            # First: what another replica lets go of from here on, the Hub counts.
            elsewhere = await self._ledger.claim(launch)
            users = await self._hub.users(patient=True)
        there = {item.key: item for item in users if item.has_server}
        if launch.user_stays:
            self._check_own(launch, there, elsewhere)
        repos = {key: item.repo for key, item in there.items()}
        repos |= {other.key: RepoKey(other.repo) for other in elsewhere}
        repos |= {other.key: other.order.repo for other in self._claimed.values()}
        if (why := refusal(launch.order, launch.key, repos, self._limits)) is not None:
            raise FullError(why.message, for_all=why.for_all)
        self._claimed[launch.order.launch_id] = launch
        found = there.get(launch.key)
        runs = found is not None and not found.stopping
        claimed = self._is_claimed_besides(launch) or any(other.key == launch.key for other in elsewhere)
        return found is not None, launch.user_stays and (runs or claimed)

    def _is_claimed_besides(self, launch: Launch) -> bool:
        here = any(other.key == launch.key and other is not launch for other in self._claimed.values())
        return here or any(other.key == launch.key and other.claimed for other in self._ledger.launches)

    def _check_own(self, launch: Launch, there: Mapping[str, HubUser], elsewhere: Sequence[LaunchState]) -> None:
        """Raises :class:`HasServerError` where somebody has all servers that they may have.

        The only server of a user is in the way unless it is of the same image: whoever opens a link again goes back to
        what runs.
        """
        user, most = launch.user, self._named_server_limit
        images = {other.key: other.image for other in elsewhere}
        images |= {other.key: other.order.image for other in self._claimed.values()}
        images |= {key: item.image for key, item in there.items() if not item.stopping}
        if not launch.server:
            if images.get(launch.key, launch.order.image) != launch.order.image:
                where = f"{self._public_url}hub/home"
                raise HasServerError(f"User {user} already has a running server. Stop it first: {where}\n")
        elif most and sum(key.startswith(f"{user}/") for key in images if key != launch.key) >= most:
            raise HasServerError(
                f"User {user} already has the maximum of {most} named servers."
                f"  One must be deleted before a new server can be created: {self._public_url}hub/home\n"
            )

    async def _start(self, launch: Launch, *, left_over: bool) -> tuple[str, str]:
        """Start the server, once more where the Hub could not; the caller sets the deadline."""
        pause = self._settings.retry_delay
        while True:
            if left_over:
                # Of this launch: by an attempt that failed, or by a member's API that has ended and its token with it.
                await self._hub.remove(launch.user, launch.server, keep_user=launch.user_stays)
            try:
                return await self._spawn(launch, _token())
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

    async def _spawn(self, launch: Launch, token: str) -> tuple[str, str]:
        await self._hub.start(launch.user, user_options(launch.order, token), launch.server)
        await self._follow(launch)
        url = await self._until_it_answers(launch, token)
        # A session that asks the Hub who its visitor is lets nobody in by a token of ours.
        return url, "" if launch.user_stays else token

    async def _follow(self, launch: Launch) -> None:
        """Tell what the Hub says of a server that starts, to its end."""
        while True:
            try:
                async with contextlib.aclosing(self._hub.progress(launch.user, launch.server)) as messages:
                    async for message in messages:
                        launch.journal.append(event(Phase.LAUNCHING, f"{message.rstrip()}\n"))
                break
            except HubBusyError as error:
                logger.info("launch %s: %s; following again", launch.short, error)
                await asyncio.sleep(0.5)

    async def _until_it_answers(self, launch: Launch, token: str) -> str:
        """Wait until the session answers at the address that the visitor will be sent to; returns the address."""
        path = f"{quote(launch.user, safe='@~')}/"
        url = f"{self._public_url}user/{path}{f'{launch.server}/' if launch.server else ''}"
        # One that asks the Hub who its visitor is tells everybody its version, and nothing else.
        asked = "api" if launch.user_stays else "api/status"
        headers = {} if launch.user_stays else {"Authorization": f"token {token}"}
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                timeout = aiohttp.ClientTimeout(total=10)
                # Until the proxy has the route, the Hub answers, and sends on to a page of its own.
                async with self._http.get(
                    URL(f"{url}{asked}", encoded=True), headers=headers, timeout=timeout, allow_redirects=False
                ) as response:
                    if response.status == 200:
                        return url
            await asyncio.sleep(0.1)

    async def _remove(self, launch: Launch) -> None:
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                # The server may be another replica's by now, and a visitor in it.
                if await self._ledger.holds(launch):
                    await self._hub.remove(launch.user, launch.server, keep_user=launch.user_stays)
        except (HubError, TimeoutError) as error:
            # The reaper finds it later.
            logger.warning("the Hub did not remove the server %s: %s", launch.key, error)


def _token() -> str:
    return secrets.token_urlsafe(32)


def _tell_position(launch: Launch, place: int, eta: float | None) -> None:
    ahead = "You are next." if place == 1 else f"{place - 1} before you."
    message = f"Waiting for other sessions to start. {ahead}\n"
    launch.journal.append(event(Phase.LAUNCHING, message, position=place, eta_s=eta))
