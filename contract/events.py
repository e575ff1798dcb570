"""Build events: what a launch tells its visitor, one JSON object a server-sent event.

The fields are BinderHub's (``phase``, ``message``, ``imageName``, ``url``, ``token`` …) and those manybinder adds
(``launch_id``, ``member``, ``attempt``, ``position``, ``eta_s``, ``reason``, ``failure``, ``retry_after_s``,
``resolved_ref``).  Everything beside ``phase`` and ``message`` is kept as it came, so that a field that a newer
member or repo2docker sends reaches the visitor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from contract import json_types

#: A message longer than this many characters is cut when an event is made (a notice says so).
MAX_MESSAGE = 64 * 1024


class Phase(StrEnum):
    """Where a launch stands; BinderHub's words, in the order in which a fresh launch passes them."""

    WAITING = "waiting"
    FETCHING = "fetching"
    BUILDING = "building"
    PUSHING = "pushing"
    BUILT = "built"
    LAUNCHING = "launching"
    READY = "ready"
    FAILED = "failed"
    #: A line without a phase, or with one that this version does not know.
    UNKNOWN = "unknown"


class Failure(StrEnum):
    """Whose failure ended a launch; it decides whether another member is tried."""

    #: The repository's or the request's: final, no other member would do better.
    USER = "user"
    #: The member's: another member may succeed.
    MEMBER = "member"
    #: The gateway's own.
    GATEWAY = "gateway"
    #: Banned, limited or full: nobody failed, the answer is "not now" or "not you".
    REFUSED = "refused"


#: The ``reason`` of a refusal by a member that takes launches from gateways only.
FEDERATION_ONLY = "federation_only"

_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class BuildEvent:
    """One event of a launch.

    ``fields`` holds all that is not phase or message, under its wire names.
    """

    phase: Phase
    message: str = ""
    fields: Mapping[str, Any] = field(default_factory=lambda: _NO_FIELDS)

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this event."""
        return self.phase in (Phase.READY, Phase.FAILED)

    @property
    def failure(self) -> Failure | None:
        """Whose failure it is; ``None`` where the event is no failure, or its sender did not say."""
        try:
            return Failure(self.fields["failure"])
        except (KeyError, ValueError):
            return None

    def with_fields(self, /, **fields: Any) -> "BuildEvent":
        """The same event with further fields; one that is ``None`` is left out."""
        added = {name: value for name, value in fields.items() if value is not None}
        return replace(self, fields=MappingProxyType({**self.fields, **added}))

    def to_json(self) -> str:
        """The event as one line of JSON, the data of a server-sent event."""
        return json_types.dumps({"phase": self.phase.value, "message": self.message, **self.fields})


def event(phase: Phase, message: str = "", **fields: Any) -> BuildEvent:
    """Make an event; fields that are ``None`` are left out, an overlong message is cut."""
    if len(message) > MAX_MESSAGE:
        cut = len(message) - MAX_MESSAGE
        message = f"{message[:MAX_MESSAGE]}… ({cut} more characters of this line are not shown)\n"
    return BuildEvent(phase, message).with_fields(**fields)


def failed(failure: Failure, message: str, **fields: Any) -> BuildEvent:
    """Make a final event that says whose failure it is."""
    return event(Phase.FAILED, message, failure=failure.value, **fields)


def parse_event(data: str | bytes) -> BuildEvent:
    """Read an event from the data of a server-sent event.

    Phases are compared in lower case; one that is absent or unknown becomes :attr:`Phase.UNKNOWN`.
    Raises ``ValueError`` if the data is no JSON object.
    """
    wire = json_types.loads_object(data)
    phase, message = wire.pop("phase", None), wire.pop("message", "")
    try:
        known = Phase(phase.lower()) if isinstance(phase, str) else Phase.UNKNOWN
    except ValueError:
        known = Phase.UNKNOWN
    if message is None:
        message = ""
    return event(known, message if isinstance(message, str) else json_types.dumps(message), **wire)
