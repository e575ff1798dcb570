"""How long launches of a repository have taken: what a visitor may expect of the next one; bounded, in memory."""

import statistics
from collections import OrderedDict, deque
from collections.abc import Mapping

from contract.events import BuildEvent, Phase
from contract.repos import RepoKey

#: The stretches of a launch that depend on its repository; the words are those of the phases.
BUILDING, LAUNCHING = "building", "launching"

#: Repositories that are remembered, the latest ones, and launches of each.
MOST_REPOS, MOST_LAUNCHES = 5000, 9

_STRETCH = {
    Phase.FETCHING: BUILDING,
    Phase.BUILDING: BUILDING,
    Phase.PUSHING: BUILDING,
    Phase.BUILT: LAUNCHING,
    Phase.LAUNCHING: LAUNCHING,
}


class Stretches:
    """Times the stretches of one attempt; a wait in a queue belongs to none, for it says nothing of the repository."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        """Seconds that each stretch took."""
        self._now: str | None = None
        self._since = 0.0

    def heard(self, item: BuildEvent, at: float) -> None:
        """Take in an event that came at ``at`` (seconds of any clock); all is forgotten where the launch fails."""
        if item.phase is Phase.UNKNOWN:
            return
        waits = "position" in item.fields
        stretch = None if waits else _STRETCH.get(item.phase)
        if self._now is not None and stretch != self._now:
            self.taken[self._now] = self.taken.get(self._now, 0.0) + at - self._since
        if stretch != self._now:
            self._now, self._since = stretch, at
        if item.phase is Phase.FAILED:
            self.taken = {}


class Durations:
    """What launches that became ready have taken, by repository."""

    def __init__(self) -> None:
        self._taken: OrderedDict[RepoKey, dict[str, deque[float]]] = OrderedDict()

    def note(self, repo: RepoKey, taken: Mapping[str, float]) -> None:
        """Remember what the stretches of a launch took, in seconds."""
        if not taken:
            return
        known = self._taken.setdefault(repo, {})
        self._taken.move_to_end(repo)
        for stretch, seconds in taken.items():
            known.setdefault(stretch, deque(maxlen=MOST_LAUNCHES)).append(seconds)
        while len(self._taken) > MOST_REPOS:
            self._taken.popitem(last=False)

    def usual(self, repo: RepoKey) -> dict[str, float]:
        """The median of each stretch in seconds; empty for a repository that has not been launched here."""
        return {stretch: statistics.median(seconds) for stretch, seconds in self._taken.get(repo, {}).items()}
