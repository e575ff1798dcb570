"""The queue of a federation that is full: who waits for a member, in which order, over all replicas."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.clients.state.memory_rules import MemoryRules
from gateway.clients.state.protocol import Line, QueueBound, QueueState, QueueTerms, StateUnavailableError
from gateway.core.launch import Launch
from gateway.core.settings import LaunchSettings

#: Seconds between two looks at the places of those who wait here.
LOOK_EVERY = 0.5

#: Seconds over which it is counted how many are served; the estimate follows from that.
WINDOW = 60.0


class QueueFullError(Exception):
    """One more would be too many; the text is a sentence for the visitor."""


_BOUNDS = {
    QueueBound.ALL: "The queue of this federation is full.",
    QueueBound.CLIENT: "You have as many launches waiting as one visitor may.",
    QueueBound.REPO: "As many launches of this repository are waiting as may.",
}


@dataclass(eq=False)
class Ticket:
    """A launch that waits here; ``place`` counts from 0, ``eta`` is in seconds (``None`` = nobody can say)."""

    queue: str
    name: str
    client: str
    repo: str
    turn: float
    place: int
    eta: float | None = None


class LaunchQueue:
    """``pseudonym`` names clients and repositories in the store, ``counted`` says as whom a client counts.

    While the store is away, each replica has a queue of its own, in the order of turns that there was.
    """

    def __init__(
        self,
        state: QueueState,
        settings: Callable[[], LaunchSettings],
        pseudonym: Callable[[str], str],
        counted: Callable[[str], str],
    ) -> None:
        self._state, self._settings, self._pseudonym, self._counted = state, settings, pseudonym, counted
        # By the clock of the store, roughly: turns are carried over from one to the other.
        self._alone = MemoryRules(time.time)
        self._tickets: dict[str, Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    async def length(self, members: Iterable[str]) -> int:
        """How many wait for any of some members."""
        return (await self._line(_queue_of(members), [])).length

    async def join(self, launch: Launch, members: Iterable[str]) -> Ticket:
        """Wait for any of some members, or go on waiting where another replica has begun to.

        Raises :class:`QueueFullError`.
        """
        queue = _queue_of(members)
        client, repo = self._pseudonym(self._counted(launch.visitor.client)), self._pseudonym(launch.spec.repo)
        ticket = Ticket(queue, launch.short, client, repo, 0.0, 0)
        if isinstance(bound := await self._enter(ticket, None), QueueBound):
            raise QueueFullError(_BOUNDS[bound])
        served = (await self._line(queue, [ticket.name])).served
        ticket.eta = _eta(ticket.place, served)
        self._tickets[launch.id] = ticket
        return ticket

    async def ended(self, launch: Launch, *, waits: bool) -> None:
        """A launch runs here no more; ``waits``: it keeps its place, for another replica goes on with it."""
        if waits:
            self._tickets.pop(launch.id, None)
        else:
            await self.leave(launch, served=False)

    async def leave(self, launch: Launch, *, served: bool) -> None:
        """Wait no more: a member has been found, or not."""
        ticket = self._tickets.pop(launch.id, None)
        if ticket is None:
            return
        await self._alone.leave_queue(ticket.queue, ticket.name, served=served)
        try:
            await self._state.leave_queue(ticket.queue, ticket.name, served=served)
        except StateUnavailableError:
            return

    async def look(self) -> None:
        """Bring the places of all who wait here up to date."""
        queues: dict[str, list[Ticket]] = {}
        for ticket in self._tickets.values():
            queues.setdefault(ticket.queue, []).append(ticket)
        for queue, tickets in queues.items():
            line = await self._line(queue, [ticket.name for ticket in tickets])
            for ticket in tickets:
                place = line.places.get(ticket.name)
                if place is None and ticket in self._tickets.values():
                    # A store that is new, or back: the same turn gives the same place.
                    await self._enter(ticket, ticket.turn)
                elif place is not None:
                    ticket.place = place
                ticket.eta = _eta(ticket.place, line.served)

    async def _enter(self, ticket: Ticket, turn: float | None) -> QueueBound | None:
        arguments = (ticket.queue, ticket.name, ticket.client, ticket.repo, self._terms(), turn)
        try:
            queued = await self._state.enter(*arguments)
        except StateUnavailableError:
            queued = await self._alone.enter(*arguments)
        if isinstance(queued, QueueBound):
            return queued
        ticket.place, ticket.turn = queued.place, queued.turn
        return None

    async def _line(self, queue: str, names: list[str]) -> Line:
        try:
            return await self._state.line(queue, names, self._terms(), WINDOW)
        except StateUnavailableError:
            return await self._alone.line(queue, names, self._terms(), WINDOW)

    def _terms(self) -> QueueTerms:
        settings = self._settings()
        return QueueTerms(settings.waiting_limit, settings.waiting_per_client, settings.waiting_per_repo)


def _eta(place: int, served: int) -> float | None:
    """Seconds until somebody's turn, if it goes on as in the last window."""
    return (place + 1) * WINDOW / served if served else None


def _queue_of(members: Iterable[str]) -> str:
    """Names the queue: who waits for other members is in nobody's way."""
    return hashlib.sha256("\n".join(sorted(members)).encode()).hexdigest()[:16]
