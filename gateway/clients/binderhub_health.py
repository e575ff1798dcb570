"""What a BinderHub's ``/health`` says: whether it works, and how full it is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from contract.json_types import loads_object
from contract.reports import Sessions
from gateway.clients import answers
from gateway.core.transitions import ProbeResult

#: The check that counts sessions; BinderHub has it on Kubernetes only.
POD_QUOTA = "Pod quota"

#: More sessions than this are no number of sessions.
_MOST = 1_000_000


def read_health(status: int, body: bytes, versions: Mapping[str, str]) -> ProbeResult:
    """Read an answer of ``/health``; raises ``ValueError`` if it is no JSON object.

    A check marked ``_ignore_failure`` is for information and makes nothing fail.
    """
    result = answers.read_health(status, body, versions)
    checks = checks_of(body)
    result = replace(result, sessions=sessions_of(checks))
    if result.passing or status not in (200, 503):
        return result
    failing = [item for item in checks if isinstance(item.get("service"), str) and item.get("ok") is not True]
    counting = [item["service"] for item in failing if item.get("_ignore_failure") is not True]
    if counting:
        return replace(result, reason=f"It says that it is not healthy: {', '.join(counting)}.")
    return replace(result, passing=True, reason="") if failing else result


def checks_of(body: bytes) -> list[dict[str, Any]]:
    """The checks in an answer of ``/health``; raises ``ValueError`` if it is no JSON object."""
    listed = loads_object(body).get("checks")
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def sessions_of(checks: Sequence[Mapping[str, Any]]) -> Sessions | None:
    """The sessions that the pod quota counts; ``None``: there is no quota, or no sense in its numbers.

    Launches are refused once as many users' pods run as the quota allows; pods that build count for nothing there.  A
    quota of 0 is BinderHub's way to say that it takes no launches for now.
    """
    check = next((item for item in checks if item.get("service") == POD_QUOTA), {})
    quota, running = _count(check.get("quota")), _count(check.get("user_pods"))
    if quota is None or running is None:
        return None
    return Sessions(running=running, limit=quota, free=max(0, quota - running))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None
