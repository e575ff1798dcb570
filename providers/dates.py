"""Times in the answers of servers that have no versions: a resource is as new as its last change."""

from datetime import UTC, datetime


def epoch(text: object) -> int | None:
    """Unix time (whole seconds) of an ISO 8601 time, without a zone in UTC; ``None`` if it is none."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    if at is None:
        return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
