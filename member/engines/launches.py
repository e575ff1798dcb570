"""The launches of this process: each a background task that writes a journal, whoever reads it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Protocol

from contract.events import BuildEvent, Failure, Phase, event, failed
from member.builders.base import BuildFailedError, BuildRequest
from member.clients.hub import HubError, SpawnFailedError, UserRefusedError
from member.core.launching import (
    RETRY_AFTER_S,
    Launch,
    LaunchOrder,
    Outcome,
    owner_of,
    ready_fields,
)
from member.core.ports import LedgerError
from member.engines.hook import Hook, HookFailedError, HookRefusedError
from member.engines.ledger import Alone, Ledger
from member.engines.servers import FullError, HasServerError, Servers
from member.metrics import Metrics
from member.settings import LaunchSettings
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

_ENDINGS = {
    Outcome.CANCELLED: failed(Failure.USER, "The launch was cancelled.\n", reason="cancelled"),
    Outcome.ABANDONED: failed(Failure.USER, "Nobody was waiting for the launch any more.\n", reason="abandoned"),
    Outcome.MEMBER: failed(Failure.MEMBER, "This member is being restarted. Please launch again.\n", reason="restart"),
}


#: What a launch may meet.
_EXPECTED = (
    BuildFailedError, FullError, HasServerError, HookRefusedError, HookFailedError, HubError, LedgerError, TimeoutError,
)  # fmt: skip


class BuildSource(Protocol):
    """Where images come from."""

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from it now."""

    def follow(self, request: BuildRequest, *, force: bool = False) -> AsyncGenerator[BuildEvent, None]:
        """The events of a build, begun or joined; raises :class:`BuildFailedError`."""


class Launches:
    """Begins, finds and ends launches.

    A launch that nobody watches for ``linger`` is cancelled; a finished one is forgotten after ``keep_finished``.
    ``closed_for`` says why no launch is taken now ("" = they are); ``on_end`` is told each launch that has ended.
    ``named_servers``: who has logged in may have several servers.
    """

    def __init__(
        self,
        builds: BuildSource,
        servers: Servers,
        settings: LaunchSettings,
        *,
        hook: Hook | None = None,
        closed_for: Callable[[], str] = lambda: "",
        on_end: Callable[[Launch], None] = lambda _: None,
        named_servers: bool = False,
        tasks: Tasks,
        metrics: Metrics,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger: Ledger = ledger or Alone()
        self._builds, self._servers, self._settings = builds, servers, settings
        self._hook, self._closed_for, self._on_end = hook, closed_for, on_end
        self._named_servers = named_servers
        self._tasks, self._metrics, self._clock = tasks, metrics, clock
        self._launches: dict[str, Launch] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._endings: dict[str, Outcome] = {}
        self._refusals: dict[str, BuildEvent] = {}
        """How launches end that were refused after they had begun."""
        metrics.inprogress_launches.set_function(lambda: self.running)
        metrics.queued_launches.set_function(lambda: self.queued)

    @property
    def running(self) -> int:
        """How many launches are not finished."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many launches wait for a slot."""
        return self._servers.queued

    @property
    def servers(self) -> frozenset[str]:
        """The keys of the Hub's servers whose launches are under way, at other replicas too: not to be cleared away."""
        elsewhere = {item.key for item in self._ledger.launches if not item.outcome and not item.build_only}
        return frozenset(launch.key for launch in self.under_way if not launch.order.build_only) | elsewhere

    @property
    def under_way(self) -> list[Launch]:
        """The launches that are not finished."""
        return [launch for launch in self._launches.values() if launch.finished_at is None]

    @property
    def seen(self) -> tuple[str, ...]:
        """The ids of the launches that are counted here: under way, or a session since not long ago.

        Not of those that came to nothing: they may be counted elsewhere by now.  Nor of builds alone.
        """
        return tuple(
            name
            for name, launch in self._launches.items()
            if not launch.order.build_only and (launch.finished_at is None or launch.outcome == Outcome.READY)
        )

    def start(self, order: LaunchOrder) -> Launch:
        """Begin a launch, or find the one that already has this id; one that failed begins anew at a later attempt."""
        if (known := self._launches.get(order.launch_id)) is not None and not _begins_anew(known, order):
            return known
        user, server = owner_of(order, named_servers=self._named_servers)
        now = self._clock()
        launch = Launch(order, user, server, begun_at=now, unwatched_since=now)
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
                    self._ledger.forgotten(launch)
            elif now - launch.unwatched_since > self._settings.linger:
                logger.info("launch %s: nobody watches it; it is given up", launch.short)
                self._end(launch, Outcome.ABANDONED)

    async def close(self) -> None:
        """End all launches, each with an event that says so; the Hub gets a moment to remove their servers."""
        tasks = list(self._running.values())
        for launch in list(self._launches.values()):
            self._end(launch, Outcome.MEMBER)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._servers.close()

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
            built = await self._build(launch)
            final = built if launch.order.build_only else await self._serve(launch)
            outcome = Outcome.READY
        except asyncio.CancelledError:
            outcome = self._endings.get(launch.order.launch_id, Outcome.MEMBER)
            final = self._ending(launch, outcome)
        except _EXPECTED as error:
            final = _failure(launch, error)
            outcome = Outcome(final.fields["failure"])
        except Exception:
            logger.exception("launch %s: unexpected error", launch.short)
            outcome = Outcome.MEMBER
            final = failed(Failure.MEMBER, "Something went wrong in this member. Please launch again.\n")
        self._finish(launch, final, outcome)

    async def _build(self, launch: Launch) -> BuildEvent:
        """See that the image is there; returns how a launch ends that wants no more than that."""
        order, journal = launch.order, launch.journal
        if (reason := self._closed_for()) != "":
            raise FullError(reason)
        if await self._builds.has_image(order.image):
            if not order.build_only:
                journal.append(event(Phase.BUILT, "Found built image, launching...\n", imageName=order.image))
            return event(Phase.READY, "Done! Found built image\n", imageName=order.image)
        provider = order.spec.partition("/")[0]
        request = BuildRequest(order.repo, order.repo_url, order.commit, order.image, provider=provider)
        async with contextlib.aclosing(self._builds.follow(request, force=order.force)) as events:
            async for item in events:
                journal.append(item)
        if not order.build_only:
            journal.append(event(Phase.BUILT, "Built image, launching...\n", imageName=order.image))
        return event(Phase.READY, "Done! Image built\n", imageName=order.image)

    async def _serve(self, launch: Launch) -> BuildEvent:
        """Start the session; returns the ``ready`` event."""
        order = launch.order
        if self._hook is not None:
            await self._hook.ask(order, launch.user, launch.short, launch.server)
        launch.journal.append(event(Phase.LAUNCHING, "Launching server...\n"))
        begun, status = self._clock(), "failure"
        try:
            url, token = await self._servers.serve(launch)
            status = "success"
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        finally:
            self._metrics.launch_time.labels(status, launch.retries).observe(self._clock() - begun)
        return event(Phase.READY, f"server running at {url}\n", **ready_fields(order, url, token))

    def _finish(self, launch: Launch, final: BuildEvent, outcome: Outcome) -> None:
        launch.journal.append(final)
        launch.outcome, launch.finished_at = outcome, self._clock()
        self._running.pop(launch.order.launch_id, None)
        self._endings.pop(launch.order.launch_id, None)
        self._refusals.pop(launch.order.launch_id, None)
        self._ledger.ended(launch)
        if not launch.order.build_only:
            self._metrics.launch_count.labels(outcome.value, launch.order.spec.partition("/")[0]).inc()
            self._on_end(launch)


def _begins_anew(known: Launch, order: LaunchOrder) -> bool:
    """Whether an order is for another attempt at a launch that has failed here."""
    return known.finished_at is not None and known.outcome != Outcome.READY and order.attempt > known.order.attempt


def _failure(launch: Launch, error: Exception) -> BuildEvent:
    """The final event for what went wrong; the sentences are BinderHub's where it has one."""
    match error:
        case BuildFailedError():
            # A builder is part of its member, and knows of no gateway.
            failure = Failure.MEMBER if error.failure is Failure.GATEWAY else error.failure
            return failed(failure, f"{str(error).rstrip()}\n", **error.fields)
        case FullError():
            # When to come again says that there is no room here; a gateway sends nobody until then.
            return failed(Failure.REFUSED, str(error), retry_after_s=RETRY_AFTER_S if error.for_all else None)
        case HasServerError():
            # Theirs to end, and no other member's to give them.
            return failed(Failure.USER, str(error), status_code=409)
        case UserRefusedError() if launch.user_stays:
            # Whom a login has named; the other names are this member's own.
            logger.warning("launch %s: %s", launch.short, error)
            message = f"The JupyterHub here takes nobody who is called {launch.user}. Log in under another name.\n"
            return failed(Failure.USER, message, status_code=403)
        case HookRefusedError():
            return failed(Failure.REFUSED, f"{error}\n", status_code=403)
        case HookFailedError():
            logger.error("launch %s: the hook before launches failed: %s", launch.short, error)
            return failed(Failure.MEMBER, "This member could not check whether it may launch this.\n")
        case _:
            logger.warning("launch %s: %s", launch.short, error if str(error) else "took too long")
            return failed(Failure.MEMBER, f"{_launch_failure(launch, error)}\n")


def _launch_failure(launch: Launch, error: Exception) -> str:
    """BinderHub's sentences."""
    image = launch.order.image
    if isinstance(error, TimeoutError):
        return f"Image {image} for user {launch.user} took too long to launch"
    if isinstance(error, SpawnFailedError):
        return f"Failed to launch image {image}: {error}"
    return f"Failed to launch image {image}"
