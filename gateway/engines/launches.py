"""The launches of this process: each a background task that writes a journal, whoever reads it.

Those of other replicas are followed while somebody here watches them.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.launches import LAUNCH_ID_BYTES, is_launch_id, launch_id
from gateway.clients.state.protocol import StateUnavailableError
from gateway.core.launch import Launch, Outcome, Visitor, outcome_of
from gateway.core.launch_events import FinishedLaunch
from gateway.core.ports import LaunchAwayError, LaunchLimitError
from gateway.core.tallies import Tallies
from gateway.engines.journey import Journey
from gateway.engines.means import Means
from providers.base import RepoSpec

logger = logging.getLogger(__name__)

#: At most so many times the limit of running launches are kept when finished, the latest ones.
KEEP_SHARE = 4

#: Bytes that the events of finished launches may take in all, roughly.
KEEP_BYTES = 256 * 2**20

#: Seconds after which one that was refused for the limit may try again.
RETRY_AFTER = 30.0

#: Seconds that an ending gateway gives its members to hear of the launches that end with it.
TELL_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class _Ending:
    """Why a launch was told to end, and its final event."""

    outcome: Outcome
    final: BuildEvent


_CANCELLED = _Ending(Outcome.CANCELLED, failed(Failure.USER, "The launch was cancelled.\n", reason="cancelled"))
_ABANDONED = _Ending(
    Outcome.ABANDONED, failed(Failure.USER, "Nobody was waiting for the launch any more.\n", reason="abandoned")
)
_RESTART = _Ending(
    Outcome.GATEWAY,
    failed(
        Failure.GATEWAY, "This gateway is being restarted. Please launch again.\n", retry_after_s=5, reason="restart"
    ),
)


class Launches:
    """Begins, finds and ends launches.

    A launch that nobody watches for ``linger`` is cancelled; a finished one is forgotten after ``keep_finished``.
    """

    def __init__(self, means: Means) -> None:
        self._means, self._sharing = means, means.sharing
        means.sharing.serve(self)
        self._launches: dict[str, Launch] = {}
        self._tasks: dict[str, asyncio.Task[BuildEvent]] = {}
        self._endings: dict[asyncio.Task[BuildEvent], _Ending | None] = {}
        """Why tasks were told to end; ``None``: their launches go on at another replica."""
        self._telling: set[asyncio.Task[None]] = set()
        self.streams = 0
        """How many streams there are, those among them that were only asked for yet."""

    @property
    def tallies(self) -> Tallies:
        """What has been counted so far."""
        return self._means.tallies

    @property
    def running(self) -> int:
        """How many launches are not finished."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """How many launches wait for a member that can take them."""
        return len(self._means.queue)

    @property
    def under_way(self) -> list[Launch]:
        """The launches that run here."""
        return [launch for launch in self._launches.values() if launch.id in self._tasks]

    def start(self, spec: RepoSpec, visitor: Visitor) -> Launch:
        """Begin a launch; raises :class:`LaunchLimitError`."""
        if self.running >= self._means.settings.limit:
            raise LaunchLimitError(RETRY_AFTER)
        now = self._means.fleet.now()
        launch = Launch(launch_id(os.urandom(LAUNCH_ID_BYTES)), spec, now, visitor, unwatched_since=now)
        self._launches[launch.id] = launch
        self._sharing.begin(launch)
        # So that the visitor hears something before a slow provider answers.
        launch.journal.append(event(Phase.WAITING, "Looking for the repository...\n", launch_id=launch.short))
        self.go_on_with(launch)
        return launch

    async def keep(self, launch: Launch) -> None:
        """Let other replicas know a launch before its visitor hears of it, if they can be told at once."""
        await self._sharing.keep(launch)

    async def find(self, launch_id: str) -> Launch | None:
        """A launch that runs, or that has finished not long ago, here or at another replica.

        Raises :class:`LaunchAwayError`.
        """
        launch = self._launches.get(launch_id)
        if launch is not None or not is_launch_id(launch_id):
            return launch
        try:
            launch = await self._sharing.find_patiently(launch_id)
        except StateUnavailableError as error:
            raise LaunchAwayError from error
        if launch is not None:
            launch.unwatched_since = self._means.fleet.now()
            launch = self._launches.setdefault(launch_id, launch)
        return launch

    def go_on_with(self, launch: Launch) -> None:
        """Run a launch, from its beginning or from where another replica has got to."""
        before = self._tasks.get(launch.id)
        task = self._means.tasks.spawn(f"launch {launch.short}", self._run(launch, before))
        self._tasks[launch.id] = task
        task.add_done_callback(lambda task: self._conclude(launch, task))

    def let_go(self, launch: Launch) -> None:
        """Run a launch no more; it goes on at another replica."""
        self._end(launch, None)

    def ended_elsewhere(self, launch: Launch) -> None:
        """Take in that another replica has finished a launch."""
        launch.finished_at = self._means.fleet.now()

    @contextlib.contextmanager
    def streaming(self) -> Iterator[None]:
        """Count a stream, for as long as the context lasts: from when it is asked for, before its launch is known."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    @contextlib.contextmanager
    def watching(self, launch: Launch) -> Iterator[None]:
        """Count somebody as a watcher, for as long as the context lasts."""
        launch.watchers += 1
        try:
            yield
        finally:
            launch.watchers -= 1
            launch.unwatched_since = self._means.fleet.now()

    async def cancel(self, launch: Launch) -> None:
        """End a launch by its visitor's wish, wherever it runs; one that has finished stays as it is.

        Raises :class:`LaunchAwayError`.
        """
        if launch.id in self._tasks:
            self._end(launch, _CANCELLED)
        elif launch.finished_at is None:
            try:
                await self._sharing.ask_to_cancel(launch)
            except StateUnavailableError as error:
                raise LaunchAwayError from error

    def asked_to_cancel(self, launch: Launch) -> None:
        """End a launch whose visitor has told another replica so."""
        self._end(launch, _CANCELLED)

    def watched_elsewhere(self, launch: Launch) -> None:
        """Take in that a launch that runs here is watched at another replica."""
        launch.unwatched_since = self._means.fleet.now()

    def lost_sight_of(self, launch: Launch) -> None:
        """Show a launch of another replica no more; whoever watches it is to ask again, perhaps that one."""
        self._launches.pop(launch.id, None)
        launch.journal.close()

    def refuse(self, launch: Launch, message: str) -> None:
        """End a launch that runs here and should not; ``message`` is what its visitor is told."""
        self._end(launch, _Ending(Outcome.REFUSED, failed(Failure.REFUSED, message, status_code=403)))

    async def sweep(self) -> None:
        """Give up what nobody watches, and forget what is long finished; to be called every second or so."""
        now = self._means.fleet.now()
        for launch in list(self._launches.values()):
            if launch.finished_at is not None:
                if not launch.watchers and now - launch.finished_at > self._means.settings.keep_finished:
                    self._forget(launch)
            elif not launch.watchers and now - launch.unwatched_since > self._means.settings.linger:
                self._give_up(launch)
        finished = [launch for launch in self._launches.values() if launch.finished_at is not None]
        finished.sort(key=lambda launch: launch.finished_at or 0.0)
        size = sum(launch.journal.size for launch in finished)
        for n, launch in enumerate(finished):
            if size <= KEEP_BYTES and len(finished) - n <= self._means.settings.limit * KEEP_SHARE:
                break
            size -= launch.journal.size
            self._forget(launch)

    async def close(self) -> None:
        """Hand all launches over to other replicas; where there can be none, end each with an event that says so."""
        tasks = list(self._tasks.values())
        running = [launch for launch in self._launches.values() if launch.id in self._tasks]
        for launch in running:
            self._end(launch, None if self._sharing.shared else _RESTART)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._sharing.shared:
            await self._sharing.hand_over()
            for launch in self._launches.values():
                launch.journal.close()
        if self._telling:
            await asyncio.wait(self._telling, timeout=TELL_TIMEOUT)

    def _give_up(self, launch: Launch) -> None:
        """End a launch that nobody watches; one of another replica is that one's to end."""
        if launch.id in self._tasks:
            logger.info("launch %s: nobody watches it; it is given up", launch.short)
            self._end(launch, _ABANDONED)
        elif not self._sharing.owns(launch):
            self._forget(launch)

    def _forget(self, launch: Launch) -> None:
        self._sharing.forget(launch)
        del self._launches[launch.id]

    def _end(self, launch: Launch, ending: _Ending | None) -> None:
        task = self._tasks.get(launch.id)
        if task is not None and task not in self._endings and task.cancel():
            self._endings[task] = ending

    async def _run(self, launch: Launch, before: asyncio.Task[BuildEvent] | None) -> BuildEvent:
        if before is not None:
            # It was let go here, and comes back before that has ended.
            await asyncio.wait([before])
        try:
            return await Journey(launch, self._means).run()
        except Exception:
            logger.exception("launch %s: unexpected error", launch.short)
            self._tell_member(launch)
            return failed(Failure.GATEWAY, "Something went wrong in this gateway. Please launch again.\n")

    def _conclude(self, launch: Launch, task: asyncio.Task[BuildEvent]) -> None:
        """A launch runs here no more; one that was cancelled ended for the reason that was given then."""
        ending = self._endings.pop(task, _RESTART)
        if self._tasks.get(launch.id) is task:
            del self._tasks[launch.id]
        elsewhere = not self._sharing.owns(launch) or (task.cancelled() and ending is None)
        ready = not task.cancelled() and task.result().phase == Phase.READY
        # What it holds of the federation's, another replica takes over.
        leaving = self._leave(launch, keeps=elsewhere or ready, waits=elsewhere)
        self._telling_others(f"give back what launch {launch.short} holds", leaving)
        if elsewhere:
            return
        if not task.cancelled():
            final = task.result()
            self._finish(launch, final, Outcome.READY if final.phase == Phase.READY else outcome_of(final.failure))
        elif ending is not None:
            self._tell_member(launch)
            self._finish(launch, ending.final, ending.outcome)

    async def _leave(self, launch: Launch, *, keeps: bool, waits: bool) -> None:
        await self._means.quotas.ended(launch, ready=keeps)
        await self._means.queue.ended(launch, waits=waits)

    def _finish(self, launch: Launch, final: BuildEvent, outcome: Outcome) -> None:
        launch.journal.append(final.with_fields(**launch.own_fields))
        reached = launch.phase
        launch.phase, launch.outcome, launch.finished_at = final.phase, outcome, self._means.fleet.now()
        self._sharing.note(launch)
        if launch.visitor.build_only:
            # No launch: neither those who read the archive nor those who watch over launches have lost or gained one.
            status = "success" if outcome == Outcome.READY else outcome.value
            self._means.tallies.builds[launch.member or "", status] += 1
            return
        self._means.tallies.outcomes[launch.member or "", outcome.value] += 1
        self._means.record(self._finished(launch, outcome, reached))

    def _finished(self, launch: Launch, outcome: Outcome, reached: Phase) -> FinishedLaunch:
        member = self._means.fleet.member(launch.member) if launch.member else None
        return FinishedLaunch(
            spec=launch.spec,
            outcome=outcome,
            ended_at=self._means.wall(),
            host_url=member.url if member else self._means.public_url,
            commit=launch.commit or "",
            member=launch.member or "",
            attempts=launch.attempt,
            phase=reached,
            build_token=launch.visitor.build_token,
            request_origin=launch.visitor.request_origin,
            known_public=launch.trail.resolved is not None and launch.trail.resolved.listed,
            may_be_private=self._means.providers.may_be_private(launch.spec),
        )

    def _tell_member(self, launch: Launch) -> None:
        member = self._means.fleet.member(launch.member) if launch.member else None
        if member is not None:
            self._telling_others(f"cancel {launch.short}", self._means.client.cancel(member, launch.id))

    def _telling_others(self, name: str, telling: Coroutine[Any, Any, None]) -> None:
        task = self._means.tasks.spawn(name, telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
