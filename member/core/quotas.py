"""How many sessions there may be, in all and of one repository; pure.

The sentences are BinderHub's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from contract.repos import RepoKey
from member.core.launching import LaunchOrder
from providers.base import SpecQuota


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """``per_repo``: of one repository; ``per_repo_higher``: of one with the higher limit; ``None`` = any number."""

    total: int
    per_repo: int | None = None
    per_repo_higher: int | None = None

    def of(self, ruled: SpecQuota) -> int | None:
        """The limit of one repository, by what the rules of specs say of it."""
        if ruled.given:
            return ruled.limit
        return self.per_repo_higher if ruled.higher else self.per_repo


@dataclass(frozen=True, slots=True)
class Full:
    """Why there is no room: a sentence for the visitor; ``for_all``: there is none for other repositories either."""

    message: str
    for_all: bool


def refusal(order: LaunchOrder, user: str, others: Mapping[str, RepoKey], limits: SessionLimits) -> Full | None:
    """Why a session may not be started for an order; ``None``: it may.

    ``others`` are the repositories of all sessions by their users; the order's own user is not counted twice.
    """
    repos = [repo for name, repo in others.items() if name != user]
    if len(repos) >= limits.total:
        return Full("Too many users on this BinderHub! Try again soon.\n", for_all=True)
    most = limits.of(order.quota)
    if most is not None and _count(repos, order.repo) >= most:
        return Full(f"Too many users running {order.repo_url}! Try again soon.\n", for_all=False)
    return None


def _count(repos: Iterable[RepoKey], repo: RepoKey) -> int:
    return sum(item == repo for item in repos)
