"""Which federation is simulated, what is assumed of it, and what goes wrong there."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from contract.repos import RepoKey
from gateway.core.settings import HealthSettings, LaunchSettings, RoutingSettings

#: What is built: a repository at a commit.
ImageKey = tuple[RepoKey, str]


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody has published, or what differs from member to member; times are in seconds."""

    session_least: float = 600.0
    """No session is shorter: idleness ends it after ten minutes."""

    session_more: float = 900.0
    """What it lasts beyond that: the mean of an exponential distribution."""

    start: float = 10.0
    """From a built image to a session that is ready."""

    pull: float = 25.0
    """For an image that a registry has, before that."""

    build_median: float = 240.0
    build_sigma: float = 0.6
    """Builds are distributed log-normally; the same image takes the same time wherever it is built."""

    build_slots: int = 6
    """Builds at a time, a member."""

    images: int = 400
    """Images that a member keeps; the least recently used goes first."""

    report_every: float = 5.0

    grey_after: float = 15.0
    """After this time a launch fails at a member that only seems well."""

    full_retry_after: float = 60.0
    """What a full member tells when it refuses a launch."""


class Trouble(StrEnum):
    """What can befall a member."""

    #: It goes away, and its sessions and builds with it.
    LOST = "lost"
    #: It cannot be reached for a time; its sessions go on.
    CUT_OFF = "cut_off"
    #: Grey failure: it passes every check, and fails every launch.
    GREY = "grey"


@dataclass(frozen=True, slots=True)
class Outage:
    """A trouble of one member (by its place in the setup), from ``begin`` to ``end``."""

    member: int
    trouble: Trouble
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Outages:
    """How often and how long; times are means in seconds, both distributed exponentially."""

    every: float = 4 * 86400.0
    """Between two outages of a member, of either kind."""

    lasting: float = 1200.0

    grey_every: float = 4 * 86400.0
    grey_lasting: float = 1800.0

    def schedule(self, members: int, until: float, seed: int) -> list[Outage]:
        """What goes wrong in ``until`` seconds; the same for every policy that is simulated with this seed."""
        chance = random.Random(f"outages {seed}")  # noqa: S311 - a simulation
        found = []
        for member in range(members):
            for begin, end in _times(self.every, self.lasting, until, chance):
                found.append(Outage(member, chance.choice((Trouble.LOST, Trouble.CUT_OFF)), begin, end))
            for begin, end in _times(self.grey_every, self.grey_lasting, until, chance):
                found.append(Outage(member, Trouble.GREY, begin, end))
        return found


def _times(every: float, lasting: float, until: float, chance: random.Random) -> Iterator[tuple[float, float]]:
    at = 0.0
    while (at := at + chance.expovariate(1 / every)) < until:
        begin = at
        at += chance.expovariate(1 / lasting)
        yield begin, at


@dataclass(frozen=True, slots=True)
class Setup:
    """A federation: a session limit for each member, and everything else that a simulation depends on."""

    limits: tuple[int, ...] = (300, 180, 60)
    seed: int = 0
    shared_registry: bool = False
    outages: Outages | None = Outages()
    """``None``: nothing goes wrong."""

    assumptions: Assumptions = Assumptions()
    routing: RoutingSettings = field(default_factory=RoutingSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    launches: LaunchSettings = field(default_factory=LaunchSettings)

    @property
    def names(self) -> list[str]:
        """The members' names, in the order of their limits; sorted as texts, too."""
        width = len(str(len(self.limits)))
        return [f"member-{number:0{width}}" for number in range(1, len(self.limits) + 1)]

    def build_time(self, key: ImageKey) -> float:
        """Seconds that the build of an image takes."""
        chance = random.Random(f"build {self.seed} {key}")  # noqa: S311 - a simulation
        return chance.lognormvariate(math.log(self.assumptions.build_median), self.assumptions.build_sigma)
