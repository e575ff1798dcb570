"""What a member can take, from what it counts; pure."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from contract.reports import Sessions
from contract.repos import RepoKey


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of a resource (bytes; ``free`` is ``None`` where nobody knows), and what a session takes of it."""

    free: float | None
    each: float

    def sessions(self, pending: int) -> float:
        """How many more can start: one that starts has taken its place already, and not yet its share of this."""
        return math.inf if self.free is None else self.free // max(1.0, self.each) - pending


def memory_room(free: float | None, limit_each: int) -> Room:
    """A session's limit is seldom reached; a quarter of it is about what JupyterLab with a kernel takes."""
    return Room(free, limit_each / 4)


def disk_room(free: float | None, limit_each: int, kept_free: int) -> Room:
    """Most sessions write little; a tenth of what one may write is more than they do."""
    return Room(None if free is None else max(0.0, free - kept_free), limit_each / 10)


def overloaded(load: float, cores: float | None, most: float | None) -> bool:
    """Whether the processors have more to do than ``most`` processes for each core."""
    return most is not None and cores is not None and load > most * cores


def sessions(
    running: int,
    pending: int,
    limit: int,
    rooms: Iterable[Room],
    *,
    placeable: int | None = None,
    closed: bool = False,
) -> Sessions:
    """Sessions by count and by what a machine has: one that is full otherwise has room for fewer than its limit.

    ``placeable`` is how many more there is room for where a cluster's scheduler decides about that; ``rooms`` then do
    not count.  ``closed``: nothing new begins now, whatever room there is.
    """
    by_limit = limit - running - pending
    others = [room.sessions(pending) for room in rooms] if placeable is None else [placeable]
    free = 0 if closed else max(0, int(min([by_limit, *others])))
    return Sessions(running=running, pending=pending, limit=limit, free=free)


def unknown_sessions(limit: int, last: Sessions) -> Sessions:
    """What is told while nobody knows how many sessions there are: as many as at ``last``, and no room."""
    return Sessions(running=last.running, pending=last.pending, limit=limit, free=0)


def by_repo(repos: Iterable[RepoKey]) -> dict[str, int]:
    """Sessions of each repository; those of which it is not known ("") are of none."""
    return dict(Counter(repo for repo in repos if repo))
