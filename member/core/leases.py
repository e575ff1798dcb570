"""What the replicas of a member write into the cluster about themselves and their launches: Leases.

A Lease is the API's object for who has something and until when; here each bears, beside that, its state as JSON in an
annotation.  None holds a secret: launches go by digests of their ids.

Source: kubernetes.io, "Leases"; API reference, ``coordination.k8s.io/v1``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from contract.json_types import loads_object

#: Labels by which a member's Leases are found.
MEMBER = "manybinder.org/member"
WHAT = "manybinder.org/lease"

REPLICA, LAUNCH = "replica", "launch"

#: The annotation with the state.
STATE = "manybinder.org/state"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """A replica of this member: ``address`` is where the others reach it, ``ok`` whether all its checks pass."""

    address: str = ""
    ok: bool = False
    builds_running: int = 0
    builds_queued: int = 0
    builds_limit: int = 0
    draining: bool = False


@dataclass(frozen=True, slots=True)
class LaunchState:
    """A launch: ``short`` names it, ``key`` its server at the Hub, ``user`` who has
    logged in, ``outcome`` is "" while it is under way.

    ``claimed``: it takes one of the member's sessions, which the Hub may not count yet.  ``issued_at`` is the time of
    the newest order for it that was taken (Unix time in seconds): older ones may have been used before.
    """

    short: str = ""
    key: str = ""
    repo: str = ""
    user: str = ""
    image: str = ""
    launch_host: str = ""
    outcome: str = ""
    claimed: bool = False
    build_only: bool = False
    issued_at: float = 0.0


def replica_name(member: str, identity: str) -> str:
    """The name of a replica's Lease."""
    return f"{member}-replica-{identity}"


def launch_name(member: str, launch_id: str) -> str:
    """The name of a launch's Lease, from which its id cannot be told."""
    return f"{member}-launch-{hashlib.sha256(b'lease of ' + launch_id.encode()).hexdigest()[:32]}"


def selector(member: str, what: str) -> str:
    """Finds a member's Leases of a kind."""
    return f"{MEMBER}={member},{WHAT}={what}"


def lease(
    name: str, member: str, what: str, holder: str, state: ReplicaState | LaunchState, *, now: str, duration_s: int
) -> dict[str, Any]:
    """A new Lease; ``now`` as the API writes times, with microseconds."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": {MEMBER: member, WHAT: what, "app.kubernetes.io/managed-by": "manybinder"},
            "annotations": {STATE: dump(state)},
        },
        "spec": {"holderIdentity": holder, "acquireTime": now, "renewTime": now, "leaseDurationSeconds": duration_s},
    }


def dump(state: ReplicaState | LaunchState) -> str:
    """A state as it stands in the annotation."""
    return json.dumps(asdict(state), separators=(",", ":"))


def holder_of(item: Mapping[str, Any]) -> str:
    """Whose a Lease is."""
    return str((item.get("spec") or {}).get("holderIdentity") or "")


def replica_state(item: Mapping[str, Any]) -> ReplicaState:
    """A replica's state; that of another version of this program as far as it is understood."""
    return _read(ReplicaState, item)


def launch_state(item: Mapping[str, Any]) -> LaunchState:
    """A launch's state, likewise."""
    return _read(LaunchState, item)


def boot_of(identities: set[str]) -> str:
    """What replicas that are alive together call their common start, in reports."""
    return hashlib.sha256("\n".join(sorted(identities)).encode()).hexdigest()[:32]


def _read(kind: type[T], item: Mapping[str, Any]) -> T:
    told = (item["metadata"].get("annotations") or {}).get(STATE, "")
    try:
        wire = loads_object(told)
    except ValueError:
        return kind()
    blank: Any = kind()
    known = {
        field.name: wire[field.name]
        for field in fields(blank)
        if _is_like(wire.get(field.name), getattr(blank, field.name))
    }
    return kind(**known)


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)
