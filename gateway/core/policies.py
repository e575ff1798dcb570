"""Policies: how a repository's launches are spread over members that can take them.

A policy gives each member a score for a request; the highest goes first.  All have the signature :data:`Score`.
A member's score depends on that member and the request alone, so removing a member moves only its own repositories.
"""

import hashlib
import math
from collections.abc import Callable, Mapping

from contract.repos import RepoKey

#: (member's name, its size: weight times free capacity, repository, a draw from [0, 1) for the launch) → score.
Score = Callable[[str, float, RepoKey, float], float]


def rendezvous(member: str, size: float, repo: RepoKey, draw: float) -> float:  # noqa: ARG001 - one signature for all
    """Weighted rendezvous hashing: ``size / -ln U(repo, member)``; a repository stays with its member.

    Source: Schindelhauer and Schomaker, "Weighted distributed hash tables" (SPAA 2005), the logarithmic method.
    """
    return size / -math.log(uniform(repo, member))


def uniform(repo: RepoKey, member: str) -> float:
    """A number that is evenly spread over (0, 1), both ends excluded, and the same on every machine."""
    text = f"{len(repo)}:{repo}{member}".encode(errors="surrogateescape")
    digest = hashlib.sha256(text).digest()
    # 52 bits and a half: all of them, and their distance from 1, are exact in a float.
    return ((int.from_bytes(digest[:8]) >> 12) + 0.5) / 2**52


POLICIES: Mapping[str, Score] = {"rendezvous": rendezvous}
