"""The launches of this process: each a background task that writes a journal, whoever reads it."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Protocol

import aiohttp

from contract.events import BuildEvent, Failure, Phase, event, failed
from member.builders.base import BuildFailedError, BuildRequest
from member.clients.hub import HubBusyError, HubClient, HubError, SpawnFailedError
from member.core.launching import (
    RETRY_AFTER_S,
    Launch,
    LaunchOrder,
    Outcome,
    ready_fields,
    user_name,
    user_options,
)
from member.engines.launch_queue import LaunchQueue
from member.metrics import Metrics
from member.settings import LaunchSettings
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds that the Hub gets to remove what a launch has left there.
_REMOVE_TIMEOUT_S = 120.0

#: Seconds that the end of this process waits for that; the Hub may be ending too.
_CLOSE_TIMEOUT_S = 3.0

_ENDINGS = {
    Outcome.CANCELLED: failed(Failure.USER, "The launch was cancelled.\n", reason="cancelled"),
    Outcome.ABANDONED: failed(Failure.USER, "Nobody was waiting for the launch any more.\n", reason="abandoned"),
    Outcome.MEMBER: failed(Failure.MEMBER, "This member is being restarted. Please launch again.\n", reason="restart"),
}


class BuildSource(Protocol):
    """Where images come from."""

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from it now."""

    def follow(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """The events of a build, begun or joined; raises :class:`BuildFailedError`."""


class FullError(Exception):
    """All sessions of this member are taken."""


class Launches:
    """Begins, finds and ends launches.

    A launch that nobody watches for ``linger`` is cancelled; a finished one is forgotten after ``keep_finished``.
    """

    def __init__(
        self,
        builds: BuildSource,
        hub: HubClient,
        http: aiohttp.ClientSession,
        settings: LaunchSettings,
        *,
        public_url: str,
        session_limit: int,
        tasks: Tasks,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._builds, self._hub, self._http, self._settings = builds, hub, http, settings
        self._public_url, self._session_limit = public_url, session_limit
        self._tasks, self._metrics, self._clock = tasks, metrics, clock
        self._queue = LaunchQueue(settings.concurrent)
        self._launches: dict[str, Launch] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._endings: dict[str, Outcome] = {}
        self._refusals: dict[str, BuildEvent] = {}
        """How launches end that were refused after they had begun."""
        self._claimed: set[str] = set()
        """Users for whom a server is being started, which the Hub may not count yet."""
        self._removals: set[asyncio.Task[None]] = set()
        metrics.inprogress_launches.set_function(lambda: self.running)
        metrics.queued_launches.set_function(lambda: self.queued)

    @property
    def running(self) -> int:
        """How many launches are not finished."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many launches wait for a slot."""
        return self._queue.waiting

    @property
    def users(self) -> frozenset[str]:
        """The Hub's users whose launches are under way: not to be cleared away."""
        return frozenset(launch.user for launch in self._launches.values() if launch.finished_at is None)

    @property
    def under_way(self) -> list[Launch]:
        """The launches that are not finished."""
        return [launch for launch in self._launches.values() if launch.finished_at is None]

    @property
    def seen(self) -> tuple[str, ...]:
        """The ids of the launches that are counted here: under way, or a session since not long ago.

        Not of those that came to nothing: they may be counted elsewhere by now.
        """
        return tuple(
            name
            for name, launch in self._launches.items()
            if launch.finished_at is None or launch.outcome == Outcome.READY
        )

    def start(self, order: LaunchOrder) -> Launch:
        """Begin a launch, or find the one that already has this id; one that failed begins anew at a later attempt."""
        if (known := self._launches.get(order.launch_id)) is not None and not _begins_anew(known, order):
            return known
        user = user_name(order.repo_url, order.launch_id, order.attempt)
        launch = Launch(order, user, unwatched_since=self._clock())
        self._launches[order.launch_id] = launch
        task = self._tasks.spawn(f"launch {launch.short}", self._run(launch))
        self._running[order.launch_id] = task
        task.add_done_callback(lambda _: self._ended(launch))
        return launch

    def find(self, launch_id: str) -> Launch | None:
        """A launch that runs, or that has finished not long ago."""
        return self._launches.get(launch_id)

    @contextlib.contextmanager
    def watching(self, launch: Launch) -> Iterator[None]:
        """Count a stream as a watcher, for as long as the context lasts."""
        launch.watchers += 1
        try:
            yield
        finally:
            launch.watchers -= 1
            launch.unwatched_since = self._clock()

    def cancel(self, launch: Launch) -> None:
        """End a launch by its visitor's wish; one that has finished stays as it is."""
        self._end(launch, Outcome.CANCELLED)

    def refuse(self, launch: Launch, message: str) -> None:
        """End a launch that should not be; ``message`` is what its visitor is told."""
        self._refusals[launch.order.launch_id] = failed(Failure.REFUSED, message, status_code=403)
        self._end(launch, Outcome.REFUSED)

    async def sweep(self) -> None:
        """Give up what nobody watches, and forget what is long finished; to be called every second or so."""
        now = self._clock()
        for launch in list(self._launches.values()):
            if launch.watchers:
                continue
            if launch.finished_at is not None:
                if now - launch.finished_at > self._settings.keep_finished:
                    del self._launches[launch.order.launch_id]
            elif now - launch.unwatched_since > self._settings.linger:
                logger.info("launch %s: nobody watches it; it is given up", launch.short)
                self._end(launch, Outcome.ABANDONED)

    async def close(self) -> None:
        """End all launches, each with an event that says so; the Hub gets a moment to remove their servers."""
        tasks = list(self._running.values())
        for launch in list(self._launches.values()):
            self._end(launch, Outcome.MEMBER)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._removals:
            _, late = await asyncio.wait(self._removals, timeout=_CLOSE_TIMEOUT_S)
            for removal in late:
                removal.cancel()

    def _end(self, launch: Launch, outcome: Outcome) -> None:
        task = self._running.get(launch.order.launch_id)
        if task is not None and launch.order.launch_id not in self._endings:
            self._endings[launch.order.launch_id] = outcome
            task.cancel()

    def _ended(self, launch: Launch) -> None:
        # A task that is cancelled before its first step never gets to write the end itself.
        if launch.finished_at is None:
            outcome = self._endings.get(launch.order.launch_id, Outcome.MEMBER)
            self._finish(launch, self._ending(launch, outcome), outcome)

    def _ending(self, launch: Launch, outcome: Outcome) -> BuildEvent:
        return self._refusals.get(launch.order.launch_id) or _ENDINGS[outcome]

    async def _run(self, launch: Launch) -> None:
        try:
            await self._build(launch)
            begun = self._clock()
            final = await self._serve(launch)
            self._metrics.launch_time.labels("success").observe(self._clock() - begun)
            outcome = Outcome.READY
        except asyncio.CancelledError:
            outcome = self._endings.get(launch.order.launch_id, Outcome.MEMBER)
            final = self._ending(launch, outcome)
        except BuildFailedError as error:
            outcome = Outcome(error.failure.value) if error.failure is not Failure.GATEWAY else Outcome.MEMBER
            final = failed(error.failure, f"{str(error).rstrip()}\n")
        except FullError:
            outcome = Outcome.REFUSED
            message = "Too many users on this BinderHub! Try again soon.\n"
            final = failed(Failure.REFUSED, message, retry_after_s=RETRY_AFTER_S)
        except (HubError, TimeoutError) as error:
            outcome = Outcome.MEMBER
            final = failed(Failure.MEMBER, f"{_launch_failure(launch, error)}\n")
            logger.warning("launch %s: %s", launch.short, error if str(error) else "took too long")
        except Exception:
            logger.exception("launch %s: unexpected error", launch.short)
            outcome = Outcome.MEMBER
            final = failed(Failure.MEMBER, "Something went wrong in this member. Please launch again.\n")
        self._finish(launch, final, outcome)

    async def _build(self, launch: Launch) -> None:
        order, journal = launch.order, launch.journal
        if await self._builds.has_image(order.image):
            journal.append(event(Phase.BUILT, "Found built image, launching...\n", imageName=order.image))
            return
        request = BuildRequest(
            order.repo, order.repo_url, order.commit, order.image, provider=order.spec.partition("/")[0]
        )
        async with contextlib.aclosing(self._builds.follow(request)) as events:
            async for item in events:
                journal.append(item)
        journal.append(event(Phase.BUILT, "Built image, launching...\n", imageName=order.image))

    async def _serve(self, launch: Launch) -> BuildEvent:
        """Start the session; returns the ``ready`` event.  Whatever ends this early leaves nothing at the Hub."""
        launch.journal.append(event(Phase.LAUNCHING, "Launching server...\n"))
        left_over = await self._claim(launch.user)
        started = False
        try:
            async with self._queue.slot(lambda place: _tell_position(launch, place)):
                token = secrets.token_urlsafe(32)
                started = True
                async with asyncio.timeout(self._settings.timeout):
                    if left_over:
                        # Of this launch, by a member's API that has ended since, and its token with it.
                        await self._hub.remove(launch.user)
                    url = await self._spawn(launch, token)
        except BaseException:
            if started:
                removal = self._tasks.spawn(f"remove the server of launch {launch.short}", self._remove(launch.user))
                self._removals.add(removal)
                removal.add_done_callback(self._removals.discard)
            raise
        finally:
            self._claimed.discard(launch.user)
        return event(Phase.READY, f"server running at {url}\n", **ready_fields(launch.order, url, token))

    async def _claim(self, user: str) -> bool:
        """Take one of the member's sessions; whether the user has a server already.  Raises :class:`FullError`."""
        async with asyncio.timeout(self._settings.timeout):
            there = {item.name for item in await self._hub.users(patient=True) if item.has_server}
        if len(there | self._claimed | {user}) > self._session_limit:
            raise FullError
        self._claimed.add(user)
        return user in there

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

    async def _remove(self, user: str) -> None:
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                await self._hub.remove(user)
        except (HubError, TimeoutError) as error:
            # The reaper finds the user later.
            logger.warning("the Hub did not remove %s: %s", user, error)

    def _finish(self, launch: Launch, final: BuildEvent, outcome: Outcome) -> None:
        launch.journal.append(final)
        launch.outcome, launch.finished_at = outcome, self._clock()
        self._metrics.launch_count.labels(outcome.value, launch.order.spec.partition("/")[0]).inc()
        self._running.pop(launch.order.launch_id, None)
        self._endings.pop(launch.order.launch_id, None)
        self._refusals.pop(launch.order.launch_id, None)


def _begins_anew(known: Launch, order: LaunchOrder) -> bool:
    """Whether an order is for another attempt at a launch that has failed here."""
    return known.finished_at is not None and known.outcome != Outcome.READY and order.attempt > known.order.attempt


def _tell_position(launch: Launch, place: int) -> None:
    ahead = "You are next." if place == 1 else f"{place - 1} before you."
    launch.journal.append(event(Phase.LAUNCHING, f"Waiting for other sessions to start. {ahead}\n", position=place))


def _launch_failure(launch: Launch, error: HubError | TimeoutError) -> str:
    """BinderHub's sentences."""
    image = launch.order.image
    if isinstance(error, TimeoutError):
        return f"Image {image} for user {launch.user} took too long to launch"
    if isinstance(error, SpawnFailedError):
        return f"Failed to launch image {image}: {error}"
    return f"Failed to launch image {image}"
