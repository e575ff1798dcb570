"""The federations that this member belongs to: one that it was configured with, and any that it has joined."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.reports import CapacityReport, Sessions

#: What the address ends with that reports go to, below the gateway's public URL.
REPORTS = "api/v1/reports"


@dataclass(frozen=True, slots=True)
class Membership:
    """What belongs to one federation.

    ``federation`` names it here; ``member`` is this member's name there; ``issuer`` is the gateway's public URL;
    ``keys`` are the gateway's, ``report_key`` is ours; ``share`` is how much of this member's sessions are for it, from
    0 to 1; ``interval`` and ``leeway`` are seconds; ``leaving``: it wants no more launches from there.
    """

    federation: str
    member: str
    issuer: str
    report_url: str
    keys: tuple[Ed25519PublicKey, ...]
    report_key: Ed25519PrivateKey
    share: float = 1.0
    interval: float = 3.0
    leeway: float = 8.0
    require_launch_token: bool = True
    leaving: bool = False


def issuer_of(report_url: str) -> str:
    """The gateway's public URL, from where reports go."""
    return report_url.removesuffix(REPORTS)


def federation_name(url: str) -> str:
    """What a federation is called here, and its file: the host, and the port where one is given."""
    parts = urlsplit(url)
    host = (parts.hostname or "").replace(":", "-")
    path = parts.path.strip("/").replace("/", "-")
    return "-".join(part for part in (host, str(parts.port or ""), path) if part)


def shared(report: CapacityReport, membership: Membership, own: Sessions, by_repo: dict[str, int]) -> CapacityReport:
    """What one federation is told: its share of the sessions, with those that came from it.

    ``own`` counts the sessions, and ``by_repo`` the repositories, of launches that came from it.  There is room for it
    as long as its share and the member as a whole have some.
    """
    report = replace(report, member=membership.member, draining=report.draining or membership.leaving)
    if membership.share >= 1:
        return report
    sessions = report.sessions
    limit = share_of(sessions.limit, membership.share)
    free = sessions.free
    if limit is not None:
        left = max(0, limit - own.running - own.pending)
        free = left if free is None else min(free, left)
    counted = Sessions(running=own.running, pending=own.pending, limit=limit, free=free)
    return replace(report, sessions=counted, sessions_by_repo=by_repo)


def share_of(limit: int | None, share: float) -> int | None:
    """The sessions that a share comes to; at least one."""
    return None if limit is None else max(1, math.floor(limit * share + 1e-9))


def share_problem(memberships: Iterable[Membership]) -> str | None:
    """What is wrong with the shares together; ``None``: nothing."""
    total = sum(item.share for item in memberships)
    if total > 1 + 1e-9:
        return f"the shares of this member's federations come to {total:g}, and there is 1 to share"
    return None
