"""Whose failure it is that ends a BinderHub's stream: BinderHub itself does not say.

It follows from what came before on the stream and from BinderHub's own sentences.
Source: BinderHub's ``builder.py``, ``base.py``, ``quota.py``, ``launcher.py``, ``repoproviders.py`` and ``build.py``;
repo2docker's ``app.py``, whose lines are passed through.
"""

import re

from contract.events import BuildEvent, Failure, Phase
from gateway.clients.answers import RETRY_AFTER

#: The longest wait that is believed: BinderHub's own period for its rate limit.
_LONGEST_WAIT = 3600

#: Characters of a message that are looked at; the patterns below take time that grows with its square.
_LOOKED_AT = 1000

#: What a visitor is told of a failure that came without a word.
_WORDLESS = "The build has ended there without a word about why.\n"

_RATE_LIMIT = re.compile(r"Rate limit exceeded\b(?:.*?\bTry again in (\d{1,6}) seconds)?")
_FULL = re.compile(r"Too many users on this BinderHub\b")
_FULL_FOR_REPO = re.compile(r"Too many users running ")
_BAD_TOKEN = re.compile(r"Invalid build token\b")

#: Before anything is built, in this order; each is compared with the beginning of the message.
_EARLY = (
    (re.compile(r"Requests from .* are not allowed"), Failure.REFUSED),
    (re.compile(r"Sorry, .* is not allowed to launch"), Failure.REFUSED),
    # What it does not take, another member may.
    (re.compile(r"No provider found for prefix "), Failure.REFUSED),
    (re.compile(r"Unsupported git url "), Failure.REFUSED),
    (re.compile(r"Spec is not of the form "), Failure.USER),
    (re.compile(r"`unresolved_ref` must be specified "), Failure.USER),
    (re.compile(r"An unresolved ref is required"), Failure.USER),
    (re.compile(r"(not enough|too many) values to unpack "), Failure.USER),  # a spec with too few or too many slashes
    (re.compile(r"Could not resolve ref for "), Failure.USER),
    (re.compile(r"Error resolving ref for .*You seem to want to use a secret Gist", re.DOTALL), Failure.REFUSED),
    (
        re.compile(
            r"Error resolving ref for .*("
            r"Unexpected figshare doi: |Article \S+ has no versions|Hydroshare resource id was not recognized"
            r"| HTTP (404|410): "
            r"|Unable to run git ls-remote .*(not found|does not exist|does not appear to be a git repository"
            r"|Authentication failed|could not read Username|Permission denied \()"
            r")",
            re.DOTALL | re.IGNORECASE,
        ),
        Failure.USER,
    ),
    # An API that cannot be asked, or whose limit is used up.
    (re.compile(r"Error resolving ref for "), Failure.MEMBER),
)

#: While it builds: not the repository's doing, though it looks like a failed build.
_BUILD_TROUBLE = re.compile(
    r"Unhandled error watching for build events"
    r"|Internal Server Error"
    r"|Error during build: ("
    r"The \S+ commandline client must be installed|The buildx plugin must be installed|Container engine '"
    r"|\[Errno 28\]|Command '\['[^']+', 'login'"
    r")"
)

#: BuildKit's own line; those of the repository's commands begin with a number.
_PUSH_FAILED = re.compile(r"ERROR: .*\bfailed to push\b")


class Course:
    """What a stream has told so far."""

    def __init__(self) -> None:
        self._building = self._pushing = self._started = False

    def take(self, item: BuildEvent) -> BuildEvent:
        """Take in an event; one that ends the launch in failure comes back with ``failure``, and a message."""
        if item.phase == Phase.FAILED:
            return self._judged(item)
        self._building |= item.phase in (Phase.FETCHING, Phase.BUILDING, Phase.PUSHING)
        self._pushing |= item.phase == Phase.PUSHING or (
            not self._started and _PUSH_FAILED.match(item.message) is not None
        )
        self._started |= item.phase in (Phase.BUILT, Phase.LAUNCHING)
        return item

    def _judged(self, item: BuildEvent) -> BuildEvent:
        if item.failure is None:
            failure, retry_after_s = self._whose(item)
            item = item.with_fields(failure=failure.value, retry_after_s=retry_after_s)
        if not item.message.strip():
            item = BuildEvent(item.phase, _WORDLESS, item.fields)
        return item

    def _whose(self, item: BuildEvent) -> tuple[Failure, float | None]:
        """Whose failure it is, and for a refusal that passes, the seconds until it is worth another try."""
        message, status = item.message.lstrip()[:_LOOKED_AT], item.fields.get("status_code")
        if isinstance(status, int) and not isinstance(status, bool):
            return _by_status(status, message)
        if self._building and not self._started:
            # What a repository's build says must not pass for a sentence of BinderHub's.
            trouble = self._pushing or not message or _BUILD_TROUBLE.match(message)
            return (Failure.MEMBER if trouble else Failure.USER), None
        if _FULL.match(message):
            return Failure.REFUSED, RETRY_AFTER
        if _FULL_FOR_REPO.match(message):
            # The member has room for others: nothing to wait for that it could tell.
            return Failure.REFUSED, None
        if self._started:
            return Failure.MEMBER, None
        if _RATE_LIMIT.match(message):
            return Failure.REFUSED, _wait(message)
        return next((failure for pattern, failure in _EARLY if pattern.match(message)), Failure.MEMBER), None


def _by_status(status: int, message: str) -> tuple[Failure, float | None]:
    """BinderHub's handlers put the HTTP status of an error into the event, and answer 200."""
    if _BAD_TOKEN.match(message):
        # Nobody was refused: gateway and member do not agree on the secret, and no launch succeeds until they do.
        return Failure.MEMBER, None
    if status == 429:
        return Failure.REFUSED, _wait(message)
    return (Failure.REFUSED if status == 403 else Failure.MEMBER), None


def _wait(message: str) -> float:
    found = _RATE_LIMIT.match(message)
    seconds = int(found[1]) if found and found[1] else 0
    return float(seconds) if 0 < seconds <= _LONGEST_WAIT else RETRY_AFTER
