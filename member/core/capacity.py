"""What a member can take, from what it counts; pure."""

from collections import Counter
from collections.abc import Iterable

from contract.reports import Sessions
from contract.repos import repo_key


def sessions(
    running: int, pending: int, limit: int, *, memory_free: int | None, memory_each: int, rooms: int | None = None
) -> Sessions:
    """Sessions by count and by memory (bytes): a machine that is full otherwise has room for fewer than its limit.

    A session that starts has taken its place already, and not yet its memory.  ``memory_free`` is ``None`` where
    nobody knows it.  ``rooms`` is how many more there is room for, where a cluster's scheduler decides about that.
    """
    by_limit = max(0, limit - running - pending)
    if rooms is not None:
        return Sessions(running=running, pending=pending, limit=limit, free=min(by_limit, max(0, rooms)))
    # A session's limit is seldom reached; a quarter of it is about what JupyterLab with a kernel takes.
    by_memory = by_limit if memory_free is None else max(0, memory_free // max(1, memory_each // 4) - pending)
    return Sessions(running=running, pending=pending, limit=limit, free=min(by_limit, by_memory))


def unknown_sessions(limit: int, last: Sessions) -> Sessions:
    """What is told while nobody knows how many sessions there are: as many as at ``last``, and no room."""
    return Sessions(running=last.running, pending=last.pending, limit=limit, free=0)


def by_repo(repo_urls: Iterable[str]) -> dict[str, int]:
    """Sessions of each repository."""
    return dict(Counter(repo_key(url) for url in repo_urls if url))
