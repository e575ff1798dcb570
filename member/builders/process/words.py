"""What programs say when they fail, as sentences for the visitor: pure."""

import re
from collections.abc import Sequence

from contract.events import Failure

_LIMIT = 900

#: The status by which a program says that its input is at fault (sysexits.h).
EX_DATAERR = 65

_GIT_ABSENT = re.compile(
    r"not found|does not appear to be a git repository|returned error: (40[0-9]|410)|authentication failed"
    r"|could not read username|access denied|permission denied|repository not exported|not our ref|bad object"
    r"|unadvertised object|unable to read tree|reference is not a tree|couldn't find remote ref"
    r"|transport '.*' not allowed",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"dns error|connect error|connection (refused|reset|closed)|timed out|network is unreachable|error sending request"
    r"|temporary failure in name resolution|no space left on device|5\d\d (internal|bad|service|gateway)",
    re.IGNORECASE,
)
_UV_BEGIN = re.compile(r"^\s*(error:|\u00d7)", re.IGNORECASE)
_FRAME = re.compile(r"^[\s│├╰─▶╭\u00d7]+")
_HINT = re.compile(r"^\s*(hint|help):", re.IGNORECASE)


def git_failure(lines: Sequence[str], url: str, commit: str) -> tuple[Failure, str]:
    """Why a repository could not be fetched, and whose failure that is."""
    reason = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), "")
    text = "\n".join(lines)
    sentence = f"{url} could not be fetched at {commit[:12]}: {reason or 'git gave no reason'}"
    return (Failure.USER if _GIT_ABSENT.search(text) else Failure.MEMBER), _cut(sentence)


def content_failure(status: int, lines: Sequence[str], url: str) -> tuple[Failure, str]:
    """Why what is in no Git repository could not be fetched, by the status and the last line of what fetched it."""
    reason = lines[-1] if lines else f"status {status}"
    failure = Failure.USER if status == EX_DATAERR else Failure.MEMBER
    return failure, _cut(f"{url} could not be fetched: {reason}")


def begins_error(line: str) -> bool:
    """Whether what uv says from this line on tells why it failed."""
    return _UV_BEGIN.match(line) is not None


def uv_failure(lines: Sequence[str], what: str) -> tuple[Failure, str]:
    """Why uv failed, and whose failure that is; ``what`` could not be installed."""
    begin = next((number for number, line in enumerate(lines) if begins_error(line)), max(0, len(lines) - 5))
    told = []
    for line in lines[begin:]:
        if _HINT.match(_FRAME.sub("", line)):
            break
        if text := _FRAME.sub("", line).strip():
            told.append(text)
    reason = " ".join(told).removeprefix("error: ")
    failure = Failure.MEMBER if _UNREACHABLE.search(reason) and "://" in reason else Failure.USER
    return failure, _cut(f"{what} could not be installed: {reason or 'uv gave no reason'}")


def _cut(text: str) -> str:
    return text if len(text) <= _LIMIT else text[:_LIMIT] + "…"
