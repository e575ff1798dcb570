"""A build's events on their way from the task that builds to the one that reads."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from contract.events import BuildEvent, Failure
from member.builders.base import BuildFailedError
from servicekit.tasks import Tasks

#: Events that a slow reader may lag behind before the build waits for it.
_LAG = 200

Tell = Callable[[BuildEvent], Awaitable[None]]
Job = Callable[[Tell], Awaitable[BuildFailedError | None]]


async def relay(tasks: Tasks, name: str, job: Job) -> AsyncGenerator[BuildEvent, None]:
    """Run a job as a task and yield what it tells; raises the error that it returns.

    A job returns what may be expected to go wrong, so that what it raises counts as a crash.  It is cancelled, and
    waited for, when its reader leaves.
    """
    events: asyncio.Queue[BuildEvent] = asyncio.Queue(_LAG)

    async def guarded() -> BuildFailedError | None:
        return await job(events.put)

    work = tasks.spawn(name, guarded())
    try:
        while not (work.done() and events.empty()):
            item = await _next(work, events)
            if item is not None:
                yield item
        error = BuildFailedError(Failure.MEMBER, "The member is ending.") if work.cancelled() else work.result()
        if error:
            raise error
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _next(work: asyncio.Task[BuildFailedError | None], events: asyncio.Queue[BuildEvent]) -> BuildEvent | None:
    """The next event; ``None`` if the work has ended meanwhile."""
    if not events.empty():
        return events.get_nowait()
    arrival = asyncio.create_task(events.get(), name="await build event")
    try:
        await asyncio.wait({work, arrival}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not arrival.done():
            arrival.cancel()
            await asyncio.gather(arrival, return_exceptions=True)
    return None if arrival.cancelled() else arrival.result()
