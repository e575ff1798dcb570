"""One build for each repository and commit, whoever watches; a queue in front of the build slots."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from contract.events import BuildEvent, Failure, Phase, event
from contract.journal import Journal
from contract.repos import RepoKey
from member.builders.base import Builder, BuildFailedError, BuildRequest
from member.core.builds import BuildLimits, FailedBuilds, SlotTimes, held_message, in_words, next_to_start
from member.engines.build_logs import BuildLog, BuildLogs
from member.metrics import Metrics
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

_GIVEN_UP = "The build was given up."

#: What one who was refused for a long queue is told to wait, in seconds, where builds take nobody knows how long.
_RETRY_AFTER_S = 60.0

#: Phases whose time is measured.
_TIMED = frozenset({Phase.FETCHING, Phase.BUILDING, Phase.PUSHING})


@dataclass
class _Build:
    """A build that waits or runs; ``error`` is set once it has failed, ``place`` is the one it was told last."""

    request: BuildRequest
    log: BuildLog
    queued_at: float
    journal: Journal = field(default_factory=Journal)
    watchers: int = 0
    unwatched: asyncio.TimerHandle | None = None
    patience: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    error: BuildFailedError | None = None
    given_up: bool = False
    place: int = 0

    def tell(self, item: BuildEvent) -> None:
        self.journal.append(item)
        self.log.write(item.message)


class Builds:
    """Begins and joins builds.  Slots are given first come, first served; watchers cost none."""

    def __init__(
        self,
        builder: Builder,
        limits: BuildLimits,
        logs: BuildLogs,
        *,
        tasks: Tasks,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._builder, self._limits, self._logs = builder, limits, logs
        self._tasks, self._metrics, self._clock = tasks, metrics, clock
        self._builds: dict[str, _Build] = {}
        self._queue: list[_Build] = []
        self._running: list[_Build] = []
        self._failed, self._times = FailedBuilds(limits), SlotTimes(limits.slots)
        metrics.inprogress_builds.set_function(lambda: self.running)
        metrics.queued_builds.set_function(lambda: self.queued)
        metrics.held_builds.set_function(lambda: len(self._failed))

    @property
    def running(self) -> int:
        """How many builds run."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """How many builds wait for a slot."""
        return len(self._queue)

    @property
    def requests(self) -> list[BuildRequest]:
        """What is being built or waits for it."""
        return [build.request for build in self._builds.values()]

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from it now."""
        return image not in self._builds and await self._builder.has_image(image)

    async def follow(self, request: BuildRequest, *, force: bool = False) -> AsyncGenerator[BuildEvent, None]:
        """The events of a build from its beginning, begun or joined; ends when the image is there.

        Raises :class:`BuildFailedError`: also where the same build has failed not long ago (unless ``force``), and
        where too many wait.  A build that nobody follows any more is given up after a grace period.
        """
        while (build := self._builds.get(request.image)) is not None and build.given_up and build.task is not None:
            # It is being cleared away; who comes now is not to share its end.
            await asyncio.wait({build.task})
        build = build or self._enter(request, force=force)
        build.watchers += 1
        if build.unwatched is not None:
            build.unwatched.cancel()
            build.unwatched = None
        try:
            async with contextlib.aclosing(build.journal.follow()) as entries:
                async for entry in entries:
                    if not entry.event.is_final:
                        yield entry.event
        finally:
            build.watchers -= 1
            if not build.watchers and self._builds.get(request.image) is build:
                build.unwatched = asyncio.get_running_loop().call_later(self._limits.grace_s, self._give_up, build)
        if build.error is not None:
            raise BuildFailedError(build.error.failure, str(build.error), **build.error.fields)

    async def forget_old(self) -> None:
        """Forget failures of long ago, and old logs; to be called now and then."""
        self._failed.forget_old(self._clock())
        await self._logs.clean()

    def _enter(self, request: BuildRequest, *, force: bool) -> _Build:
        now = self._clock()
        if (held := self._failed.find(request.image, now, force=force)) is not None:
            self._metrics.builds_not_begun.labels("held").inc()
            fields: dict[str, Any] = {"reason": "held", "retry_after_s": held.until - now, "log_url": held.log_url}
            raise BuildFailedError(Failure.USER, held_message(held, now), **fields)
        if len(self._queue) >= self._limits.queue:
            self._metrics.builds_not_begun.labels("queue_full").inc()
            wait = self._times.until_start(self._limits.queue // 2) or _RETRY_AFTER_S
            message = f"{len(self._queue)} builds wait here already. Please try again in {in_words(wait)}."
            raise BuildFailedError(Failure.REFUSED, message, retry_after_s=wait)
        build = self._builds[request.image] = _Build(request, self._logs.open(), now)
        build.tell(event(Phase.WAITING, "Waiting for build to start...\n", log_url=build.log.url))
        self._queue.append(build)
        self._advance()
        if build in self._queue:
            loop = asyncio.get_running_loop()
            build.patience = loop.call_later(self._limits.queue_timeout_s, self._waited_too_long, build)
            self._tell_positions()
        return build

    def _advance(self) -> None:
        while (n := next_to_start(_repos(self._queue), _repos(self._running), self._limits)) is not None:
            build = self._queue.pop(n)
            if build.patience is not None:
                build.patience.cancel()
            self._running.append(build)
            self._metrics.phase("build_queue", self._clock() - build.queued_at)
            build.task = self._tasks.spawn(f"build {build.request.image}", self._run(build))
            build.task.add_done_callback(functools.partial(self._ended, build))

    def _tell_positions(self) -> None:
        for place, build in enumerate(self._queue, 1):
            if place == build.place:
                continue
            build.place = place
            eta = self._times.until_start(place)
            about = f", about {in_words(eta)}" if eta is not None else ""
            message = f"Waiting for a build slot: place {place} in the queue{about}.\n"
            build.tell(event(Phase.WAITING, message, position=place, eta_s=eta))

    async def _run(self, build: _Build) -> None:
        begun = self._clock()
        status = "failure"
        try:
            async with (
                asyncio.timeout(self._limits.timeout_s),
                contextlib.aclosing(self._builder.build(build.request)) as lines,
            ):
                await self._carry(build, lines)
            status = "success"
        except BuildFailedError as error:
            build.error = error
        except TimeoutError:
            message = f"The build took longer than {self._limits.timeout_s:g} seconds."
            build.error = BuildFailedError(Failure.USER, message)
        except asyncio.CancelledError:
            status = "cancelled"
            build.error = BuildFailedError(Failure.MEMBER, _GIVEN_UP)
            raise
        except Exception:
            logger.exception("unexpected error building %s", build.request.image)
            build.error = BuildFailedError(Failure.MEMBER, "Something went wrong in this member while it built.")
        finally:
            self._metrics.built(status, build.request.provider, self._clock() - begun)
            if status == "success":
                self._times.took(self._clock() - begun)

    async def _carry(self, build: _Build, lines: AsyncGenerator[BuildEvent, None]) -> None:
        """Write what a builder says to the journal, and measure its phases."""
        phase, since = None, self._clock()
        try:
            async for line in lines:
                # Whether it is the end is not for a tool's output to say.
                build.tell(event(Phase.UNKNOWN, line.message) if line.is_final else line)
                if line.phase in _TIMED and line.phase != phase:
                    if phase is not None:
                        self._metrics.phase(phase.value, self._clock() - since)
                    phase, since = line.phase, self._clock()
        finally:
            if phase is not None:
                self._metrics.phase(phase.value, self._clock() - since)

    def _ended(self, build: _Build, task: asyncio.Task[None]) -> None:
        if task.cancelled() and build.error is None:
            # Before its first step, it could not say so itself.
            build.error = BuildFailedError(Failure.MEMBER, _GIVEN_UP)
        image, error = build.request.image, build.error
        if error is None:
            self._failed.succeeded(image)
        elif error.failure is Failure.USER:
            # What is the member's fault may be over the next moment, or at the next member.
            self._failed.failed(image, str(error), build.log.url, self._clock())
        self._running.remove(build)
        self._close(build)
        self._advance()
        self._tell_positions()

    def _close(self, build: _Build) -> None:
        """End what waits for the build: its watchers' streams, its log, its timers."""
        for timer in (build.unwatched, build.patience):
            if timer is not None:
                timer.cancel()
        del self._builds[build.request.image]
        if build.error is not None:
            build.log.write(str(build.error))
            build.error.fields.setdefault("log_url", build.log.url)
        build.log.close()
        # A final event of its own ends the readers; they do not pass it on.
        build.journal.append(event(Phase.FAILED if build.error else Phase.READY))

    def _give_up(self, build: _Build) -> None:
        build.unwatched, build.given_up = None, True
        logger.info("nobody waits for %s any more; its build is given up", build.request.image)
        if build.task is not None:
            build.task.cancel()
        else:
            self._leave(build, BuildFailedError(Failure.MEMBER, _GIVEN_UP))

    def _waited_too_long(self, build: _Build) -> None:
        wait = self._times.until_start(len(self._queue)) or _RETRY_AFTER_S
        message = (
            f"No build slot came free within {in_words(self._limits.queue_timeout_s)}. "
            f"Please try again in {in_words(wait)}."
        )
        self._metrics.builds_not_begun.labels("queue_timeout").inc()
        self._leave(build, BuildFailedError(Failure.REFUSED, message, retry_after_s=wait))

    def _leave(self, build: _Build, error: BuildFailedError) -> None:
        """Take a build out of the queue."""
        build.error = error
        self._queue.remove(build)
        self._close(build)
        self._tell_positions()


def _repos(builds: list[_Build]) -> list[RepoKey]:
    return [build.request.repo for build in builds]
