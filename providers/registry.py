"""All providers behind one door: a spec finds its provider, and an answer is asked for once."""

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp

from providers.base import (
    NO_RULE,
    ProviderError,
    RefNotFoundError,
    RepoProvider,
    RepoSpec,
    Resolved,
    SpecError,
    SpecQuota,
    UnknownProviderError,
)
from providers.cache import Cache
from providers.ckan import CKANProvider
from providers.credentials import git_credentials
from providers.dataverse import DataverseProvider
from providers.doi import DOIs
from providers.figshare import FigshareProvider
from providers.gist import GistProvider
from providers.git import GitProvider
from providers.github import GitHubProvider
from providers.github_api import GitHubAPI
from providers.gitlab import GitLabProvider
from providers.http import Web
from providers.hydroshare import HydroShareProvider
from providers.refs import is_commit, spec_name
from providers.rules import SpecRules
from providers.settings import ProvidersSettings
from providers.swh import SoftwareHeritageProvider
from providers.zenodo import ZenodoProvider
from servicekit.tasks import Tasks

# Characters that a path may hold as they are (RFC 3986, section 3.3), and the percent sign of those that are encoded.
_PATH_SAFE = "/%:@!$&'()*+,;=~"

#: Characters of a spec; an honest one is a few hundred at most, and patterns are matched against it.
MAX_SPEC = 2000

_Key = tuple[str, str, str]


class Providers:
    """The providers of one service; resolves each (repository, ref) once at a time and remembers the answer.

    ``session`` stays the caller's to close.  :meth:`close` ends the look-ups that still run.
    """

    def __init__(
        self,
        settings: ProvidersSettings,
        session: aiohttp.ClientSession,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        made = make_providers(settings, session, clock, wall)
        self._providers = {provider.prefix: provider for provider in made if rules_of(settings, provider).enabled}
        self._settings = settings
        self.configure(settings)
        self._cache: Cache[_Key, Resolved] = Cache(settings.cache_size, clock)
        self._running: dict[_Key, asyncio.Task[Resolved | ProviderError]] = {}
        self._tasks = Tasks()

    def configure(self, settings: ProvidersSettings) -> None:
        """Go by other rules of specs from now on; all else of the settings stays as it was."""
        self._rules = {prefix: rules_of(settings, provider) for prefix, provider in self._providers.items()}

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of all providers, in the order in which they are shown."""
        return tuple(self._providers)

    def parse(self, path_spec: str) -> RepoSpec:
        """Read a spec with its prefix, percent-encoded as it stands in a path (``gh/org/repo/main``).

        Raises :class:`UnknownProviderError` or :class:`SpecError`.
        """
        if len(path_spec) > MAX_SPEC:
            raise SpecError(f"The spec is longer than {MAX_SPEC} characters.")
        raw = quote(path_spec.rstrip("/"), safe=_PATH_SAFE, errors="surrogateescape")
        prefix, _, spec = raw.partition("/")
        return self._named(prefix).parse(spec)

    def bans(self, raw: str) -> bool:
        """Whether the rules of its provider ban a spec (with its prefix, percent-encoded as it came)."""
        prefix, _, spec = raw.partition("/")
        rules = self._rules.get(prefix)
        return rules is not None and rules.bans(spec)

    def quota(self, raw: str) -> SpecQuota:
        """What the rules of its provider say of the number of a spec's sessions."""
        prefix, _, spec = raw.partition("/")
        rules = self._rules.get(prefix)
        return rules.quota(spec) if rules is not None else NO_RULE

    def may_be_private(self, spec: RepoSpec) -> bool:
        """Whether it takes credentials of this service to fetch a repository, as far as is known."""
        return git_credentials(spec.provider, spec.repo_url, self._settings) is not None

    @property
    def github_quota(self) -> int | None:
        """Requests that GitHub's API still allows in its present hour, as it last said."""
        github = self._providers.get(GitHubProvider.prefix)
        return github.quota_remaining if isinstance(github, GitHubProvider) else None

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit of a spec; raises :class:`ProviderError` or a subclass.

        A caller that is cancelled stops waiting; the look-up goes on for the others.
        """
        key = (spec.provider, self._providers[spec.provider].identity(spec), spec.ref)
        found: Resolved | ProviderError | None = self._cache.get(key)
        if found is None:
            task = self._running.get(key)
            if task is None:
                task = self._tasks.spawn(f"resolve {spec.provider}", self._look_up(key, spec))
                self._running[key] = task
            outcome: Resolved | ProviderError = await asyncio.shield(task)
            found = outcome
        if isinstance(found, ProviderError):
            # A copy for each caller: a shared exception would collect the tracebacks of all.
            raise copy.copy(found)
        # Where it has led elsewhere (a redirect, a DOI), the repository there is the one that counts.
        return replace(found, spec=replace(spec, repo_url=found.spec.repo_url, repo=found.spec.repo))

    def descriptions(self) -> list[Mapping[str, Any]]:
        """What ``/api/repoproviders`` answers."""
        return [provider.description() for provider in self._providers.values()]

    def description(self, prefix: str) -> Mapping[str, Any]:
        """What it answers of one provider; raises :class:`UnknownProviderError`."""
        return self._named(prefix).description()

    async def close(self) -> None:
        """End the look-ups that still run."""
        await self._tasks.close()

    def _named(self, prefix: str) -> RepoProvider:
        provider = self._providers.get(prefix)
        if provider is None:
            raise UnknownProviderError(f"No provider found for prefix {prefix[:80]}")
        return provider

    async def _look_up(self, key: _Key, spec: RepoSpec) -> Resolved | ProviderError:
        try:
            found = await self._providers[spec.provider].resolve(spec)
        except ProviderError as error:
            # Failures are remembered by the providers that may, each in its own way.
            return error.with_traceback(None)
        else:
            ttl_s = self._settings.commit_ttl if is_commit(spec.ref) else self._settings.ref_ttl
            self._cache.set(key, found, ttl_s)
            return found
        finally:
            del self._running[key]


def make_providers(
    settings: ProvidersSettings,
    session: aiohttp.ClientSession,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> tuple[RepoProvider, ...]:
    """All providers that there are, in the order in which they are shown."""

    def web(timeout_s: float, *trusted: str, anywhere: bool = False) -> Callable[[str], Web]:
        return lambda name: Web(
            name, session, timeout_s=timeout_s, trusted=trusted, anywhere=anywhere, clock=clock, wall=wall
        )

    github = GitHubAPI(settings.gh, session, cache_size=settings.cache_size, clock=clock, wall=wall)
    doi, zenodo, figshare, hydroshare = settings.doi_url, settings.zenodo, settings.figshare, settings.hydroshare
    dataverse, ckan, swh = settings.dataverse, settings.ckan, settings.swh
    dois = DOIs(doi, web(zenodo.timeout, doi))
    return (
        GitHubProvider(settings.gh, github),
        GistProvider(settings.gist, github),
        GitLabProvider(settings.gl, session, cache_size=settings.cache_size, clock=clock, wall=wall),
        GitProvider(settings.git),
        ZenodoProvider(zenodo, dois, web(zenodo.timeout, *zenodo.urls)),
        FigshareProvider(figshare, dois, web(figshare.timeout, figshare.api_url)),
        DataverseProvider(dois, web(dataverse.timeout, anywhere=dataverse.allow_private_addresses)),
        HydroShareProvider(hydroshare, web(hydroshare.timeout, hydroshare.url)),
        CKANProvider(web(ckan.timeout, anywhere=ckan.allow_private_addresses)),
        SoftwareHeritageProvider(swh, web(swh.timeout, swh.url)),
    )


def rules_of(settings: ProvidersSettings, provider: RepoProvider) -> SpecRules:
    """The rules of a provider, which its settings hold."""
    found = getattr(settings, provider.prefix)
    if not isinstance(found, SpecRules):
        raise TypeError(f"the settings of {provider.prefix} hold no rules")
    return found


def failure_text(spec: RepoSpec, error: ProviderError) -> str:
    """What BinderHub tells a visitor whose ref was not resolved."""
    if isinstance(error, RefNotFoundError):
        return str(error)
    return f"Error resolving ref for {spec_name(spec)}: {error}"
