"""Launch events: what this member's operator is told of each launch that has ended; pure.

A launch that became ready gives BinderHub's own event, ``binderhub.jupyter.org/launch`` version 6, any other one
``manybinder/launch-failure``, both with a few fields more.  They name repositories, and nothing of the visitor.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from contract.events import Phase
from member.core.launching import Launch, Outcome
from providers.names import PROVIDER_NAMES

LAUNCH, LAUNCH_VERSION = "binderhub.jupyter.org/launch", 6
FAILURE, FAILURE_VERSION = "manybinder/launch-failure", 1


def launch_event(launch: Launch, host_url: str, timestamp: str, seconds: float) -> Mapping[str, Any]:
    """The event of a launch that has ended after so many seconds, at ``timestamp`` (ISO 8601, UTC).

    ``host_url`` is this member's address.
    """
    order, ready = launch.order, launch.outcome is Outcome.READY
    prefix, _, spec = order.spec.partition("/")
    event: dict[str, Any] = {
        "timestamp": timestamp,
        "schema": LAUNCH if ready else FAILURE,
        "version": LAUNCH_VERSION if ready else FAILURE_VERSION,
        "provider": PROVIDER_NAMES.get(prefix, prefix),
        "spec": spec,
        "ref": order.commit,
        "status": "success" if ready else "failure",
        "build_token": order.with_token,
        "origin": urlsplit(host_url).netloc,
        "request_origin": order.request_origin,
        "launch_id": launch.short,
        "seconds": round(seconds, 1),
        "retries": launch.retries,
    }
    if not ready:
        event |= {"failure": str(launch.outcome), "attempts": order.attempt, "phase": last_phase(launch).value}
    return event


def last_phase(launch: Launch) -> Phase:
    """Where a launch stood before its end."""
    for entry in reversed(launch.journal.since(-1)):
        if not entry.event.is_final and entry.event.phase is not Phase.UNKNOWN:
            return entry.event.phase
    return Phase.WAITING
