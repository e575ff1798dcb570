"""Launch ids and the event ids made of them.

An event's id is ``<launch_id>.<n>``.  The launch id is 128 random bits, so an event id cannot be guessed; whoever holds
one may follow, resume and cancel that launch.  It is therefore never logged whole: use :func:`short`.
"""

import hashlib
import re

#: Random bytes that a launch id is made of.
LAUNCH_ID_BYTES = 16

_LAUNCH_ID = re.compile(r"[0-9a-f]{32}")
_EVENT_ID = re.compile(r"(?P<launch>[0-9a-f]{32})\.(?P<n>0|[1-9][0-9]{0,8})")


def launch_id(entropy: bytes) -> str:
    """A launch id from 16 random bytes (``os.urandom(LAUNCH_ID_BYTES)``)."""
    if len(entropy) != LAUNCH_ID_BYTES:
        raise ValueError(f"a launch id needs {LAUNCH_ID_BYTES} random bytes, got {len(entropy)}")
    return entropy.hex()


def is_launch_id(text: str) -> bool:
    """Whether the text has the form of a launch id."""
    return _LAUNCH_ID.fullmatch(text) is not None


def short(launch: str) -> str:
    """What may be shown and logged of a launch id: it names the launch and gives no access to it."""
    return hashlib.sha256(launch.encode()).hexdigest()[:12]


def event_id(launch: str, n: int) -> str:
    """The id of a launch's n-th event, counted from 0 across attempts and replicas."""
    return f"{launch}.{n}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """The launch id and number in an event id; ``None`` if it is not one of ours."""
    match = _EVENT_ID.fullmatch(text)
    return (match["launch"], int(match["n"])) if match else None
