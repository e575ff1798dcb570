"""Why repo2docker failed, and whose failure it is: from its last lines; pure."""

import re
from collections.abc import Iterable

from contract.events import Failure
from member.builders.base import BuildFailedError

#: What goes wrong on this member or around it, and may well go right on another one.
_MEMBERS = re.compile(
    r"no space left on device|could not resolve host|name resolution|failed to resolve|connection (refused|reset)"
    r"|i/o timeout|tls handshake timeout|toomanyrequests|network is unreachable"
    r"|cannot connect to the docker daemon|unable to connect to podman|is the docker daemon running",
    re.IGNORECASE,
)

#: What a step is ended with that took more memory than it may.
_KILLED = re.compile(r"exit status 137|exit code: 137|\bKilled\b")

_EMPTY = re.compile(r"^\W*$")

_MAX_SHOWN = 300


def why(status: int, lines: Iterable[str]) -> BuildFailedError:
    """The error for a repo2docker that ended with a status above zero."""
    said = [line.strip() for line in lines if not _EMPTY.match(line)]
    text = "\n".join(said)
    if _KILLED.search(text):
        return BuildFailedError(Failure.USER, "The build was ended: a step of it took more memory than a build may.")
    reason = next((line for line in reversed(said) if re.match(r"error|fatal", line, re.IGNORECASE)), "")
    reason = reason or (said[-1] if said else f"repo2docker ended with status {status}")
    failure = Failure.MEMBER if _MEMBERS.search(text) else Failure.USER
    return BuildFailedError(failure, f"The build failed: {reason[:_MAX_SHOWN].rstrip('.')}.")
