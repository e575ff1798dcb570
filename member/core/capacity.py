"""What a member can take, from what it counts; pure."""

from collections import Counter
from collections.abc import Iterable

from contract.reports import Sessions
from contract.repos import RepoKey


def sessions(running: int, pending: int, limit: int, *, memory_free: int, memory_each: int) -> Sessions:
    """Sessions by count and by memory (bytes): a machine that is full otherwise has room for fewer than its limit.

    A session that starts has taken its place already, and not yet its memory.
    """
    by_limit = max(0, limit - running - pending)
    # A session's limit is seldom reached; a quarter of it is about what JupyterLab with a kernel takes.
    by_memory = max(0, memory_free // max(1, memory_each // 4) - pending)
    return Sessions(running=running, pending=pending, limit=limit, free=min(by_limit, by_memory))


def unknown_sessions(limit: int, last: Sessions) -> Sessions:
    """What is told while nobody knows how many sessions there are: as many as at ``last``, and no room."""
    return Sessions(running=last.running, pending=last.pending, limit=limit, free=0)


def by_repo(repos: Iterable[RepoKey]) -> dict[str, int]:
    """Sessions of each repository; those of which it is not known ("") are of none."""
    return dict(Counter(repo for repo in repos if repo))
