"""Policies: how launches are spread over the members that can take them.

A policy places each member for one launch; the lowest tier goes first, and within it the highest score.  All have the
signature :data:`PlacingPolicy`, and are deterministic in their arguments.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from contract.rendezvous import score
from contract.repos import RepoKey
from gateway.core.settings import RoutingSettings


class Tier(IntEnum):
    """What comes first, before any score."""

    #: Holds the image, or builds it, and has room to spare.
    WARM = 0
    #: Can pull the image from a registry, and has no more than its share of the load.
    PULL = 1
    #: Would have to build, can do so at once, and has no more than its share of the load.
    COLD = 2
    #: Holds the image, and has little room left.
    WARM_BUSY = 3
    #: Has room.
    ROOM = 4


class Option(NamedTuple):
    """A member as a policy sees it: ``used`` of ``limit`` sessions, and what it has of the image.

    ``builds``: whether a build could begin there at once.
    """

    name: str
    weight: float
    used: int
    limit: int
    warm: bool = False
    pullable: bool = False
    builds: bool = True

    @property
    def free(self) -> int:
        """Sessions that it has room for."""
        return max(0, self.limit - self.used)


#: (members, repository, draw from [0, 1), settings) → (tier, score) of each member, in the order given.
PlacingPolicy = Callable[[Sequence[Option], RepoKey, float, RoutingSettings], list[tuple[Tier, float]]]


def random(
    options: Sequence[Option],
    repo: RepoKey,  # noqa: ARG001 - one signature for all
    draw: float,
    settings: RoutingSettings,  # noqa: ARG001
) -> list[tuple[Tier, float]]:
    """By chance, in proportion to weight times free capacity; images do not matter."""
    return [(Tier.ROOM, score(_roomy(option), repr(draw), option.name)) for option in options]


def rendezvous(
    options: Sequence[Option],
    repo: RepoKey,
    draw: float,  # noqa: ARG001
    settings: RoutingSettings,  # noqa: ARG001
) -> list[tuple[Tier, float]]:
    """Weighted rendezvous hashing by repository, by weight times free capacity.

    A member's score depends on that member and the repository alone: removing one moves only its own repositories.
    """
    return [(Tier.ROOM, score(_roomy(option), repo, option.name)) for option in options]


def tiered(
    options: Sequence[Option],
    repo: RepoKey,
    draw: float,  # noqa: ARG001
    settings: RoutingSettings,
) -> list[tuple[Tier, float]]:
    """Members that hold the image first, as long as that overloads none; else each up to its share of the load.

    Among those that hold the image, the least loaded for its weight and limit goes first: what many launch is held in
    several places, and evens out the load at no build's cost, so that the rest can stay where it is.

    What has to be built goes by rendezvous hashing, so that a repository meets the same member again.  By weight alone:
    what a build takes up (a build slot, room for an image) need not grow with the limit.  The load is bounded as in
    consistent hashing with bounded loads, by ``balance`` times the fair share of what is used and what comes.  Where
    room is scarce, free capacity decides.
    """
    size = math.fsum(option.weight * option.limit for option in options) or 1.0
    comes = settings.balance * (sum(option.used for option in options) + 1) / size
    return [_placed(option, repo, comes, settings) for option in options]


def _placed(option: Option, repo: RepoKey, comes: float, settings: RoutingSettings) -> tuple[Tier, float]:
    limit, load = option.limit, option.used + 1
    if option.warm and load <= settings.warm_share * limit:
        return Tier.WARM, option.weight * limit / load
    within = load <= max(comes * option.weight * limit, settings.idle_share * limit)
    if option.pullable and within:
        return Tier.PULL, score(_roomy(option), repo, option.name)
    if option.builds and within:
        return Tier.COLD, score(option.weight, repo, option.name)
    if option.warm and load < limit:
        return Tier.WARM_BUSY, score(_roomy(option), repo, option.name)
    return Tier.ROOM, score(_roomy(option), repo, option.name)


def _roomy(option: Option) -> float:
    # Among members without room their weights decide: one of them may have some by now.
    return option.weight * (option.free or option.limit / 1000)


POLICIES: Mapping[str, PlacingPolicy] = {"random": random, "rendezvous": rendezvous, "tiered": tiered}
