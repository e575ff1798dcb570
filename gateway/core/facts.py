"""What one replica learns and all should know, so that they hold the same opinion of every member.

Whether a member can be reached each replica finds out for itself, for that may differ.  Additive: a field may come and
never changes its meaning; a kind of fact that a reader does not know is passed over.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from contract.json_types import loads_object
from contract.repos import RepoKey
from gateway.core.fleet import Reservation
from gateway.core.outcomes import Attempt


@dataclass(frozen=True, slots=True)
class Reported:
    """A member's report has been accepted: the signed token, to be checked again by whoever hears of it."""

    token: str


@dataclass(frozen=True, slots=True)
class Succeeded:
    """A launch at a member became ready."""

    member: str
    at: float
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Failed:
    """A launch failed at a member; ``draw`` decides how long an ejection lasts, so that it lasts equally everywhere."""

    member: str
    at: float
    attempt: Attempt
    reason: str
    sure: bool
    draw: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A member had no room for a launch."""

    member: str
    at: float


Fact = Reported | Succeeded | Failed | Refused

_KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Reported, Succeeded, Failed, Refused)}


def dump_fact(fact: Fact, teller: str) -> bytes:
    """A fact as text; ``teller`` is the replica that has learned it."""
    wire = {"kind": type(fact).__name__.lower(), "teller": teller, **asdict(fact)}
    return json.dumps(wire, separators=(",", ":")).encode()


def load_fact(body: bytes) -> tuple[Fact | None, str]:
    """A fact and its teller; ``None`` for a kind that is not known here.  Raises ``ValueError``."""
    wire = loads_object(body)
    kind = _KINDS.get(wire.get("kind", ""))
    if kind is None:
        return None, str(wire.get("teller", ""))
    try:
        fields = {name: wire[name] for name in kind.__dataclass_fields__}
        if "attempt" in fields:
            attempt = fields["attempt"]
            fields["attempt"] = Attempt(float(attempt["begun_at"]), RepoKey(attempt["repo"]), str(attempt["launch"]))
        return kind(**fields), str(wire["teller"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a fact: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica says of itself at each beat.

    ``states`` is the word for each member's state, as it believes; ``reservations`` are the launches that it has sent
    to members and that no report has counted yet.
    """

    name: str
    version: str
    started_at: float
    launches: int
    draining: bool
    states: dict[str, str]
    reservations: dict[str, tuple[Reservation, ...]]


def dump_replica(replica: Replica) -> bytes:
    """A replica's beat as text."""
    return json.dumps(asdict(replica), separators=(",", ":")).encode()


def load_replica(body: bytes) -> Replica:
    """A beat; raises ``ValueError``."""
    wire = loads_object(body)
    try:
        reservations = {
            str(member): tuple(_reservation(item) for item in items) for member, items in wire["reservations"].items()
        }
        return Replica(
            name=str(wire["name"]),
            version=str(wire["version"]),
            started_at=float(wire["started_at"]),
            launches=int(wire["launches"]),
            draining=bool(wire["draining"]),
            states={str(member): str(state) for member, state in wire["states"].items()},
            reservations=reservations,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not what a replica says: {error!r}") from error


def _reservation(wire: dict[str, Any]) -> Reservation:
    ready_at = wire["ready_at"]
    return Reservation(
        launch=str(wire["launch"]),
        repo=RepoKey(wire["repo"]),
        commit=str(wire["commit"]),
        made_at=float(wire["made_at"]),
        seen=bool(wire["seen"]),
        ready_at=None if ready_at is None else float(ready_at),
        own=False,
        # An earlier version does not tell.
        owner=str(wire.get("owner", "")),
    )
