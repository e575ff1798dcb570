"""All providers behind one door: a spec finds its provider, and an answer is asked for once."""

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp

from contract.repos import repo_key
from providers.base import ProviderError, RefNotFoundError, RepoProvider, RepoSpec, Resolved, UnknownProviderError
from providers.cache import Cache
from providers.git import GitProvider
from providers.github import GitHubProvider
from providers.refs import is_commit, spec_name
from providers.settings import ProvidersSettings
from servicekit.tasks import Tasks

# Characters that a path may hold as they are (RFC 3986, section 3.3), and the percent sign of those that are encoded.
_PATH_SAFE = "/%:@!$&'()*+,;=~"

_Key = tuple[str, str, str]


class Providers:
    """The providers of one service; resolves each (repository, ref) once at a time and remembers the answer.

    ``session`` stays the caller's to close.  :meth:`close` ends the look-ups that still run.
    """

    def __init__(
        self, settings: ProvidersSettings, session: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.github = GitHubProvider(settings.gh, session, cache_size=settings.cache_size, clock=clock)
        self.git = GitProvider(settings.git)
        providers: tuple[RepoProvider, ...] = (self.github, self.git)
        self._providers = {provider.prefix: provider for provider in providers}
        self._settings = settings
        self._cache: Cache[_Key, Resolved] = Cache(settings.cache_size, clock)
        self._running: dict[_Key, asyncio.Task[Resolved | ProviderError]] = {}
        self._tasks = Tasks()

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of all providers, in the order in which they are shown."""
        return tuple(self._providers)

    def parse(self, path_spec: str) -> RepoSpec:
        """Read a spec with its prefix, percent-encoded as it stands in a path (``gh/org/repo/main``).

        Raises :class:`UnknownProviderError` or :class:`SpecError`.
        """
        raw = quote(path_spec.rstrip("/"), safe=_PATH_SAFE, errors="surrogateescape")
        prefix, _, spec = raw.partition("/")
        provider = self._providers.get(prefix)
        if provider is None:
            raise UnknownProviderError(f"No provider found for prefix {prefix[:80]}")
        return provider.parse(spec)

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
        url = found.spec.repo_url
        # Where it has led elsewhere (a redirect, a new name), the repository there is the one that counts.
        repo = spec.repo if url == spec.repo_url else repo_key(url)
        return replace(found, spec=replace(spec, repo_url=url, repo=repo))

    def descriptions(self) -> list[Mapping[str, Any]]:
        """What ``/api/repoproviders`` answers."""
        return [provider.description() for provider in self._providers.values()]

    async def close(self) -> None:
        """End the look-ups that still run."""
        await self._tasks.close()

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


def failure_text(spec: RepoSpec, error: ProviderError) -> str:
    """What BinderHub tells a visitor whose ref was not resolved."""
    if isinstance(error, RefNotFoundError):
        return str(error)
    return f"Error resolving ref for {spec_name(spec)}: {error}"
