"""Pure rules of builds: who is next, how long it takes, and how long one that has failed is held back."""

import math
import statistics
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from contract.repos import RepoKey

#: Builds whose times make an estimate.
_LATEST = 20

#: Failed builds that are remembered, the latest ones.
_MOST_HELD = 2000

#: Seconds after a failure within which even ``force`` begins no further build.
FORCE_AFTER_S = 15.0


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What builds may take of a member; times in seconds.

    ``per_repo``: builds of one repository at a time; ``None`` = one fewer than there are slots, and at least one, so
    that no repository has them all.  ``queue``: builds that may wait.  A build that nobody follows goes on for
    ``grace_s``.  One that fails is held back for ``hold_s``, doubled with each further failure up to ``hold_most_s``.
    """

    slots: int = 1
    per_repo: int | None = None
    queue: int = 100
    timeout_s: float = 1860.0
    queue_timeout_s: float = 1800.0
    grace_s: float = 10.0
    hold_s: float = 60.0
    hold_most_s: float = 3600.0

    @property
    def of_one_repo(self) -> int:
        """Builds of one repository at a time."""
        return max(1, self.slots - 1) if self.per_repo is None else self.per_repo


def next_to_start(waiting: Sequence[RepoKey], running: Iterable[RepoKey], limits: BuildLimits) -> int | None:
    """Which of those that wait begins now: the first one whose repository has not as many builds as it may.

    ``None`` where no slot is free, or none of them may begin.
    """
    counts = Counter(running)
    if counts.total() >= limits.slots:
        return None
    return next((n for n, repo in enumerate(waiting) if counts[repo] < limits.of_one_repo), None)


@dataclass
class SlotTimes:
    """How long what takes a slot has taken lately: builds, or servers that start."""

    slots: int
    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST))

    def took(self, seconds: float) -> None:
        """One has succeeded after so many seconds."""
        self._latest.append(seconds)

    def until_start(self, place: int) -> float | None:
        """Seconds, roughly, until the one at a place of the queue (1 = next) begins; ``None`` where nobody knows.

        With all slots taken, one comes free each ``median / slots`` seconds.
        """
        if not self._latest:
            return None
        return float(math.ceil(place * statistics.median(self._latest) / self.slots))


@dataclass(frozen=True, slots=True)
class Held:
    """A build that is not begun again before ``until``, since it has failed ``times`` times, at last at ``at``."""

    message: str
    log_url: str
    times: int
    at: float
    until: float


class FailedBuilds:
    """Which images could not be built, for their repositories' sake; times are those of the caller's clock.

    An image is a repository at a commit: a new commit has no past.
    """

    def __init__(self, limits: BuildLimits) -> None:
        self._first, self._most = limits.hold_s, limits.hold_most_s
        self._failed: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._failed)

    def failed(self, image: str, message: str, log_url: str, now: float) -> None:
        """A build has failed."""
        last = self._failed.pop(image, None)
        times = last.times + 1 if last else 1
        # The exponent is bounded, for a float is.
        wait = min(self._most, self._first * 2 ** min(times - 1, 60))
        self._failed[image] = Held(message, log_url, times, now, now + wait)
        while len(self._failed) > _MOST_HELD:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, image: str) -> None:
        """It can be built after all."""
        self._failed.pop(image, None)

    def find(self, image: str, now: float, *, force: bool = False) -> Held | None:
        """The failure for whose sake an image is not built now; ``force``: unless it was not only just now."""
        held = self._failed.get(image)
        if held is None or now >= held.until or (force and now >= held.at + FORCE_AFTER_S):
            return None
        return held

    def forget_old(self, now: float) -> None:
        """Forget what has been left alone for long after it might have been tried again."""
        for image, held in list(self._failed.items()):
            if now > held.until + self._most:
                del self._failed[image]


def held_message(held: Held, now: float) -> str:
    """What the visitor of a build that is held back is told."""
    times = "" if held.times == 1 else f" for the {_ordinal(held.times)} time"
    return (
        f"This commit of the repository failed to build{times} {in_words(now - held.at)} ago:\n"
        f"{held.message.rstrip()}\n"
        f"It is tried again in {in_words(held.until - now)}; a new commit is tried at once.\n"
    )


def in_words(seconds: float) -> str:
    """A time for people: ``40 s``, ``3 min``, ``2 h``; never less than a second."""
    whole = max(1, math.ceil(seconds))
    if whole < 120:
        return f"{whole} s"
    return f"{math.ceil(whole / 60)} min" if whole < 7200 else f"{math.ceil(whole / 3600)} h"


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
