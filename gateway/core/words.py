"""The words for members' states."""

from collections.abc import Mapping

from contract.sentences import said

_STATES: Mapping[str, str] = {
    "available": said("available"),
    "healthy": said("healthy"),
    "full": said("full"),
    "draining": said("draining"),
    "suspended": said("suspended"),
    "pending": said("pending"),
    "active": said("active"),
    "accepted": said("accepted"),
    "unknown": said("unknown"),
    "failing": said("failing"),
    "unreachable": said("unreachable"),
    "ejected": said("ejected"),
    "half_open": said("half-open"),
    "unavailable": said("unavailable"),
    "degraded": said("degraded"),
}


def state_word(state: str) -> str:
    """What a state is called; one that another version knows, by its own name."""
    return _STATES.get(state) or state.replace("_", "-")
