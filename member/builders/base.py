"""What a builder is: it turns a repository at a commit into an image that a session can start from."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contract.events import BuildEvent, Failure
from contract.reports import Check, Usage
from contract.repos import RepoKey


class BuildFailedError(Exception):
    """A build that ended without an image; the text is a sentence for the visitor.

    ``fields`` are added to the event that tells it.
    """

    def __init__(self, failure: Failure, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.failure, self.fields = failure, fields


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build; ``image`` is the name that the image gets (see :mod:`member.core.images`).

    ``provider`` is the prefix of the repo provider, which says how ``repo_url`` is fetched: most have a Git repository,
    and ``repo_url`` is what repo2docker takes in any case.
    """

    repo: RepoKey
    repo_url: str
    commit: str
    image: str
    provider: str = "git"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that is there; ``used_at`` (Unix time) is when a session was last started from it.

    ``registry`` is where other members can get it too, if there is such a place.
    """

    image: str
    repo: RepoKey
    commit: str
    size_bytes: int
    used_at: float
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What there is for builds and sessions, on this machine or in this cluster: bytes, and cores for CPU.

    ``sessions`` is how many more of them have room, where something knows that better than a look at the memory.
    """

    memory: Usage
    cpu: Usage
    disk: Usage
    sessions: int | None = None


class Builder(Protocol):
    """One way to build."""

    @property
    def kind(self) -> str:
        """``process``, ``container`` or ``kubernetes``."""

    @property
    def confined(self) -> bool:
        """Whether what runs of a repository is kept from the member's files and from other sessions."""

    @property
    def confinement_reason(self) -> str:
        """How what runs of a repository is confined, or why not: a sentence for the operator."""

    @property
    def info(self) -> Mapping[str, str]:
        """What ``/versions`` says of it, as ``builder_info`` does in BinderHub."""

    async def start(self) -> None:
        """Check what it needs and clear away what a crash left; raises ``RuntimeError`` with a sentence."""

    async def close(self) -> None:
        """End what still runs in the background, builds included."""

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from this image now."""

    def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """Build, yielding log lines as they appear; the image is there when it ends without an error.

        Raises :class:`BuildFailedError`.  Closing the generator, or cancelling its reader, ends every process of the
        build and leaves nothing behind.
        """

    async def images(self) -> Sequence[BuiltImage]:
        """What is there, the most recently used first."""

    async def clean(self) -> None:
        """Remove old images, by size and age, and nothing that a session uses."""

    async def checks(self) -> Sequence[Check]:
        """Whether what it needs is there; each answers or fails within its own deadline of a few seconds."""

    async def resources(self) -> Resources:
        """What there is, and what of it is taken by whomever."""
