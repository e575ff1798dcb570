"""What a repo provider is, and how it fails.

A provider turns the visitor's spec (``gh/org/repo/main`` without the prefix) into a repository and a ref, and the ref
into a commit.  Parsing is pure; resolving talks to the provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from contract.repos import RepoKey


class ProviderError(Exception):
    """A spec that leads nowhere; the text is a sentence for the visitor."""


class SpecError(ProviderError):
    """The spec cannot be parsed, or names an address or protocol that is not allowed: the visitor's to mend."""


class UnknownProviderError(ProviderError):
    """A spec whose prefix belongs to no provider."""


class RefNotFoundError(ProviderError):
    """The repository or the ref does not exist, or is not public: the visitor's to mend."""


class ProviderUnavailableError(ProviderError):
    """The provider did not answer, or refused for now; nobody can tell whether the ref exists.

    ``retry_after_s`` says when it is worth trying again, where the provider told.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RepoSpec:
    """A parsed spec.

    ``raw`` is the spec as it came, percent-encoded, with the prefix (``git/https%3A%2F%2Fhost%2Frepo/main``);
    ``repo_url`` the URL to clone; ``ref`` the ref as the visitor gave it ("HEAD" where none was given).
    """

    provider: str
    raw: str
    repo_url: str
    ref: str
    repo: RepoKey


@dataclass(frozen=True, slots=True)
class Resolved:
    """A spec with its commit.

    ``resolved_spec`` is ``raw`` with the commit for the ref; ``ref_url`` shows that commit to people ("" = no such
    page); ``notes`` are sentences for the visitor on how the ref was found.  ``listed``: the provider shows it to
    everybody, which it does not say of all that it shows to those who know its address.
    """

    spec: RepoSpec
    commit: str
    resolved_spec: str
    ref_url: str = ""
    notes: tuple[str, ...] = ()
    listed: bool = False


@dataclass(frozen=True, slots=True)
class SpecQuota:
    """What the rules say of the number of sessions of a repository.

    ``limit`` counts only if it is ``given``; ``None`` is any number.  ``higher``: the federation's higher limit.
    """

    higher: bool = False
    given: bool = False
    limit: int | None = None


#: What no rule says anything of.
NO_RULE = SpecQuota()


class RepoProvider(Protocol):
    """One kind of repository host."""

    @property
    def prefix(self) -> str:
        """The first part of a spec, such as ``gh``."""

    def parse(self, spec: str) -> RepoSpec:
        """Read a spec (without its prefix, percent-encoded as it came); raises :class:`SpecError`."""

    def identity(self, spec: RepoSpec) -> str:
        """Specs with one identity and one ref have one answer."""

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit; raises :class:`ProviderError` or a subclass."""

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``, with BinderHub's fields."""
