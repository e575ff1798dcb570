"""repo2docker's log: its lines for the visitor, and whose failure it is if it ends badly; pure.

What a repository's commands print stands in that log too, and the text of its Dockerfile in what the engine says of it.
Neither may make a failure the member's: the launch would go on to other members, and fail there as well.  So it is the
member's only by words that a repository has no hand in, each taken at the beginning of a line:

- repo2docker's last word, which has the phase ``failed``;
- the error of the engine's client.  Commands can print the like of it, but not in its place: it is always there, so
  that a failure is the member's only if every line that begins as an error does is one of the member's;
- of BuildKit's errors those that come before or after all steps.  A frontend of the repository's choice (``# syntax=``)
  can say anything, and BuildKit says beforehand that it fetches one.

Source: repo2docker's ``app.py`` and ``docker.py``; the messages of buildx, BuildKit and Podman.
"""

import re
from collections import deque

from contract.events import BuildEvent, Failure, Phase, event, parse_event

#: Lines that are remembered, to say why it failed.
_REMEMBERED = 40

_MAX_REASON = 300

#: repo2docker's last words, of what it misses on the member.
_OWN_MEMBERS = re.compile(
    r"Error during build: (?:the (?:docker|podman) commandline client must be installed"
    r"|the buildx plugin must be installed|container engine '|\[Errno 28\])",
    re.IGNORECASE,
)

#: And of the engine's client, which has said itself why it failed.
_CLIENT_FAILED = re.compile(r"Error during build: Command '\['(?:docker|podman)', ")

_CLONE_FAILED = "Error during build: Failed to clone repository from "

#: Git's word on a server that cannot be reached or is broken; one that refuses answers 4xx.
_UNREACHABLE = re.compile(r"fatal: unable to access '[^']*': (?!the requested url returned error: 4)", re.IGNORECASE)

_ERROR = re.compile(r"error: ", re.IGNORECASE)

#: What a registry that nobody can choose for its failures has against us, or the way to it.
_TROUBLE = (
    r"(?:too ?many ?requests|i/o timeout|TLS handshake timeout|no such host|connection refused|connection reset"
    r"|network is unreachable|server misbehaving|: EOF|unexpected EOF|: 5\d\d )"
)

#: An image of Docker Hub: without a host, or with its own.
_HUB_IMAGE = (
    r"(?-i:(?!localhost/)(?:docker\.io/)?[a-z0-9][a-z0-9_-]*(?:/[a-z0-9][a-z0-9._-]*)?"
    r"(?::[\w.-]+)?(?:@sha256:[0-9a-f]+)?)"
)

_ENGINE_MEMBERS = re.compile(
    r"error: (?:"
    r"cannot connect to the docker daemon|error during connect: |unable to connect to podman"
    r"|failed to (?:receive|get) status: rpc error: code = Unavailable"
    r"|(?:failed to build: )?(?:failed to solve: )?failed to push "
    rf"|(?:failed to build: )?failed to solve: (?:DeadlineExceeded: )*{_HUB_IMAGE}:"
    rf" (?:failed to|pulling from host registry-1\.docker\.io|unexpected status) .*{_TROUBLE}"
    rf"|creating build container: (?:[a-z ]+: )*initializing source docker://{_HUB_IMAGE}: .*{_TROUBLE}"
    r")",
    re.IGNORECASE,
)

_FOREIGN_FRONTEND = re.compile(
    r"#\d+ resolve image config for (?!(?:docker-image://)?docker\.io/docker/dockerfile(?:-upstream)?[:@])"
)

#: What a step ends with that the kernel has killed.
_KILLED = re.compile(r"exit (?:status|code):? 137$")

_EMPTY = re.compile(r"^\W*$")


class Repo2dockerLog:
    """Reads one run's log line by line, from the first to the last."""

    def __init__(self) -> None:
        self._last: deque[str] = deque(maxlen=_REMEMBERED)
        self._own: bool | None = None
        """Whether repo2docker's last word is that the member is at fault; ``None`` if there was none of its own."""
        self._engine: bool | None = None
        """Whether all of the engine's errors were the member's; ``None`` if there was none."""
        self._foreign = self._unreachable = self._killed = False

    def read(self, line: str) -> BuildEvent:
        """The event for the visitor; it never ends a launch, and one that is no JSON is a line of the log."""
        try:
            told = parse_event(line)
        except ValueError:
            self._note(line)
            return event(Phase.UNKNOWN, f"{line}\n")
        text = told.message if told.message.endswith(("\n", "\r")) or not told.message else f"{told.message}\n"
        self._note(text)
        if told.phase is Phase.FAILED:
            self._hear_repo2docker(text)
        elif told.phase is Phase.FETCHING:
            self._unreachable = self._unreachable or _UNREACHABLE.match(text) is not None
        else:
            self._hear_engine(text.rstrip())
        # Whether it is the end is not for its log to say.
        return event(Phase.BUILDING if told.is_final else told.phase, text)

    @property
    def failure(self) -> Failure:
        """Whose failure it is that repo2docker has failed."""
        # Of another last word than one on its client, the engine's errors are not the cause.
        by_engine = self._engine is True and not self._foreign and self._own is not False
        return Failure.MEMBER if self._own or by_engine else Failure.USER

    @property
    def killed(self) -> bool:
        """Whether the step that failed was killed, as the kernel does for memory; a step can pretend it."""
        return self._killed

    @property
    def reason(self) -> str:
        """The line that says best why it failed, without its full stop; empty if nothing was said."""
        said = [line for line in self._last if not _EMPTY.match(line)]
        best = next((line for line in reversed(said) if re.match(r"error|fatal", line, re.IGNORECASE)), "")
        return (best or (said[-1] if said else ""))[:_MAX_REASON].rstrip(".")

    def _note(self, text: str) -> None:
        self._last.append(text.strip())

    def _hear_repo2docker(self, text: str) -> None:
        # Of what is fetched, only the repository itself was asked for by us: its submodules it names itself.
        if _CLIENT_FAILED.match(text):
            return
        clone = text.startswith(_CLONE_FAILED) and self._unreachable
        self._own = clone or _OWN_MEMBERS.match(text) is not None

    def _hear_engine(self, text: str) -> None:
        self._foreign = self._foreign or _FOREIGN_FRONTEND.match(text) is not None
        if _ERROR.match(text):
            self._engine = _ENGINE_MEMBERS.match(text) is not None and self._engine is not False
        # A line may have been cut in two: what a step has ended with stands at the end.
        self._killed = _KILLED.search(text) is not None or (self._killed and not text)
