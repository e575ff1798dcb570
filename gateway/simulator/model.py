"""A member as a model: sessions, builds, images, and what can be wrong with it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from contract.reports import Builds, CapacityReport, Image, Sessions
from gateway.core.settings import LaunchSettings
from gateway.simulator.setup import ImageKey, Setup
from gateway.simulator.timeline import Timeline


class End(StrEnum):
    """How an attempt ends, as the gateway sees it; each but the first is a fault of :mod:`gateway.clients.faults`."""

    READY = "ready"
    REFUSED = "refused"
    FAILED = "failed"
    CONNECT = "connect"
    CUT = "cut"
    LOST = "lost"


@dataclass(slots=True, eq=False)
class Order:
    """A launch's attempt at one member; ``ended`` is called once, with the time and how it ended."""

    launch: str
    key: ImageKey
    session_s: float
    ended: Callable[[float, End], None]
    over: bool = False
    starting: bool = False


class MemberModel:
    """Takes orders and ends each of them; all times are those of the timeline.

    A launch takes its place when its image is there, as a real member's does; reports count it from its begin.
    ``before_change`` is called with the time before anything that a report tells changes.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        setup: Setup,
        timeline: Timeline,
        registry: set[ImageKey] | None,
        before_change: Callable[[float], None],
    ) -> None:
        self.name, self.limit = name, limit
        self.down = self.grey = False
        self.running = self.starting = 0
        self.builds = self.pulls = self.lost_sessions = self.most = 0
        self._setup, self._assumed, self._timeline = setup, setup.assumptions, timeline
        self._before_change = before_change
        self._registry = registry
        self._images: dict[ImageKey, None] = {}
        self._listed: tuple[Image, ...] | None = ()
        self._active: dict[str, Order] = {}
        self._building: dict[ImageKey, list[Order]] = {}
        self._queue: deque[ImageKey] = deque()
        self._slots = self._assumed.build_slots
        self._life = 0
        """Counts losses: what was scheduled in an earlier life does not happen."""

    @property
    def used(self) -> int:
        """Sessions that run or start."""
        return self.running + self.starting

    @property
    def has_room(self) -> bool:
        """Whether a launch that came now would be served."""
        return not self.down and not self.grey and self.used < self.limit

    def report(self, seq: int, at: float) -> CapacityReport:
        """What it tells of itself; the images are the same object for as long as they do not change."""
        if self._listed is None:
            registry = "registry.example" if self._registry is not None else None
            self._listed = tuple(Image(repo, commit, registry) for repo, commit in self._images)
        pending = len(self._active)
        return CapacityReport(
            self.name,
            "boot",
            seq,
            at,
            "",
            sessions=Sessions(self.running, pending, self.limit, max(0, self.limit - self.running - pending)),
            builds=Builds(self._assumed.build_slots - self._slots, len(self._queue), self._assumed.build_slots),
            images=self._listed,
            launches_seen=tuple(self._active),
        )

    def begin(self, now: float, order: Order, settings: LaunchSettings) -> None:
        """Take a launch."""
        if self.down:
            self._timeline.schedule(now + settings.connect_timeout, self._end, order, End.CONNECT)
            return
        self._before_change(now)
        self._active[order.launch] = order
        if self.grey:
            self._timeline.schedule(now + self._assumed.grey_after, self._end, order, End.FAILED)
        elif order.key in self._images:
            # Least recently used first: it goes to the end.
            self._images[order.key] = self._images.pop(order.key)
            self._start(now, order)
        elif order.key in self._building:
            self._building[order.key].append(order)
        elif self._registry is not None and order.key in self._registry:
            self.pulls += 1
            self._timeline.schedule(now + self._assumed.pull, self._pulled, order, self._life)
        else:
            self._building[order.key] = [order]
            self._queue.append(order.key)
            self._next_builds(now)

    def go_away(self, now: float, *, lose: bool, stalled_after: float) -> None:
        """Be unreachable from now on; with ``lose``, all that runs there ends.

        Who is cut off falls silent: the gateway gives up what it had begun there after ``stalled_after``.
        """
        self._before_change(now)
        self.down = True
        for order in self._active.values():
            order.over = True
            self.starting -= order.starting
            order.starting = False
            # What was given up is told of once; whether the member comes back meanwhile does not matter.
            self._timeline.schedule(now if lose else now + stalled_after, _told, order, End.CUT if lose else End.LOST)
        self._active.clear()
        if lose:
            self._life += 1
            self.lost_sessions += self.running
            self.running = 0
            self._building.clear()
            self._queue.clear()
            self._slots = self._assumed.build_slots

    def come_back(self, now: float) -> None:
        """Be reachable again."""
        self._before_change(now)
        self.down = False

    def _next_builds(self, now: float) -> None:
        while self._slots and self._queue:
            key = self._queue.popleft()
            self._slots -= 1
            self.builds += 1
            self._timeline.schedule(now + self._setup.build_time(key), self._built, key, self._life)

    def _built(self, now: float, key: ImageKey, life: int) -> None:
        if life != self._life:
            return
        self._before_change(now)
        self._slots += 1
        self._keep(key)
        if self._registry is not None:
            self._registry.add(key)
        for order in self._building.pop(key):
            self._start(now, order)
        self._next_builds(now)

    def _pulled(self, now: float, order: Order, life: int) -> None:
        if life == self._life:
            self._before_change(now)
            self._keep(order.key)
            self._start(now, order)

    def _keep(self, key: ImageKey) -> None:
        if key in self._images:
            return
        self._images[key] = None
        if len(self._images) > self._assumed.images:
            del self._images[next(iter(self._images))]
        self._listed = None

    def _start(self, now: float, order: Order) -> None:
        if order.over:
            return
        if self.used >= self.limit:
            self._end(now, order, End.REFUSED)
            return
        order.starting = True
        self.starting += 1
        self.most = max(self.most, self.used)
        self._timeline.schedule(now + self._assumed.start, self._ready, order)

    def _ready(self, now: float, order: Order) -> None:
        if order.over:
            return
        self._before_change(now)
        order.starting = False
        self.starting -= 1
        self.running += 1
        self._timeline.schedule(now + order.session_s, self._session_over, self._life)
        self._end(now, order, End.READY)

    def _session_over(self, now: float, life: int) -> None:
        if life == self._life:
            self._before_change(now)
            self.running -= 1

    def _end(self, now: float, order: Order, end: End) -> None:
        if not order.over:
            self._before_change(now)
            order.over = True
            self._active.pop(order.launch, None)
            order.ended(now, end)


def _told(now: float, order: Order, end: End) -> None:
    order.ended(now, end)
