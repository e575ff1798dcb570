"""One build for each repository and commit, whoever watches; a queue in front of the build slots."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from contract.events import BuildEvent, Failure, Phase, event
from contract.journal import Journal
from member.builders.base import Builder, BuildFailedError, BuildRequest
from member.metrics import Metrics
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds that a build goes on which nobody waits for any more.
GRACE_S = 10.0

_GIVEN_UP = "The build was given up."


@dataclass
class _Build:
    """A build that waits or runs; ``error`` is set once it has failed, ``place`` is the one it was told last."""

    request: BuildRequest
    journal: Journal = field(default_factory=Journal)
    watchers: int = 0
    unwatched: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None
    error: BuildFailedError | None = None
    given_up: bool = False
    place: int = 0


class Builds:
    """Begins and joins builds.  ``slots`` builds run at a time, first come, first served; watchers cost nothing."""

    def __init__(
        self,
        builder: Builder,
        *,
        slots: int,
        timeout_s: float,
        tasks: Tasks,
        metrics: Metrics,
        grace_s: float = GRACE_S,
    ) -> None:
        self._builder, self._slots, self._timeout_s = builder, slots, timeout_s
        self._tasks, self._metrics, self._grace_s = tasks, metrics, grace_s
        self._builds: dict[str, _Build] = {}
        self._queue: list[_Build] = []
        self._running: list[_Build] = []
        metrics.inprogress_builds.set_function(lambda: self.running)
        metrics.queued_builds.set_function(lambda: self.queued)

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

    async def follow(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """The events of a build from its beginning, begun or joined; ends when the image is there.

        Raises :class:`BuildFailedError`.  A build that nobody follows any more is given up after a grace period.
        """
        while (build := self._builds.get(request.image)) is not None and build.given_up and build.task is not None:
            # It is being cleared away; who comes now is not to share its end.
            await asyncio.wait({build.task})
        build = build or self._enter(request)
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
                build.unwatched = asyncio.get_running_loop().call_later(self._grace_s, self._give_up, build)
        if build.error is not None:
            raise BuildFailedError(build.error.failure, str(build.error))

    def _enter(self, request: BuildRequest) -> _Build:
        build = self._builds[request.image] = _Build(request)
        build.journal.append(event(Phase.WAITING, "Waiting for build to start...\n"))
        self._queue.append(build)
        self._advance()
        if build in self._queue:
            self._tell_positions()
        return build

    def _advance(self) -> None:
        while self._queue and len(self._running) < self._slots:
            build = self._queue.pop(0)
            self._running.append(build)
            build.task = self._tasks.spawn(f"build {build.request.image}", self._run(build))
            build.task.add_done_callback(functools.partial(self._ended, build))

    def _tell_positions(self) -> None:
        for place, build in enumerate(self._queue, 1):
            if place == build.place:
                continue
            build.place = place
            message = f"Waiting for a build slot: place {place} in the queue.\n"
            build.journal.append(event(Phase.WAITING, message, position=place))

    async def _run(self, build: _Build) -> None:
        begun = time.monotonic()
        success = False
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                contextlib.aclosing(self._builder.build(build.request)) as lines,
            ):
                async for line in lines:
                    # Whether it is the end is not for a tool's output to say.
                    build.journal.append(event(Phase.UNKNOWN, line.message) if line.is_final else line)
            success = True
        except BuildFailedError as error:
            build.error = error
        except TimeoutError:
            build.error = BuildFailedError(Failure.USER, f"The build took longer than {self._timeout_s:g} seconds.")
        except asyncio.CancelledError:
            build.error = BuildFailedError(Failure.MEMBER, _GIVEN_UP)
            raise
        except Exception:
            logger.exception("unexpected error building %s", build.request.image)
            build.error = BuildFailedError(Failure.MEMBER, "Something went wrong in this member while it built.")
        finally:
            self._metrics.built(success, time.monotonic() - begun)

    def _ended(self, build: _Build, task: asyncio.Task[None]) -> None:
        if task.cancelled() and build.error is None:
            # Before its first step, it could not say so itself.
            build.error = BuildFailedError(Failure.MEMBER, _GIVEN_UP)
        if build.unwatched is not None:
            build.unwatched.cancel()
        self._running.remove(build)
        del self._builds[build.request.image]
        # A final event of its own ends the readers; they do not pass it on.
        build.journal.append(event(Phase.FAILED if build.error else Phase.READY))
        self._advance()
        self._tell_positions()

    def _give_up(self, build: _Build) -> None:
        build.unwatched, build.given_up = None, True
        logger.info("nobody waits for %s any more; its build is given up", build.request.image)
        if build.task is not None:
            build.task.cancel()
        else:
            self._queue.remove(build)
            del self._builds[build.request.image]
            self._tell_positions()
