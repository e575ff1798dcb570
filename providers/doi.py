"""DOIs: how they are written, where they lead, and what the providers that take them share.

Sources: the DOI Handbook ("DOI name syntax") and doi.org's factsheet "DOI resolution documentation", section "Proxy
server REST API": ``/api/handles/<doi>`` answers with the values of a DOI, and 404 for one that is not registered.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote

from yarl import URL

from contract.repos import RepoKey, repo_key
from providers.base import RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.http import Answer, Web
from providers.refs import decode, not_found

#: Longer than any DOI that a registry gives out.
_MAX = 250

_WRITTEN = re.compile(
    r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(?P<doi>10\.\d{3,9}(?:\.\d+)*/[A-Za-z0-9._;()/:+~-]+)", re.IGNORECASE
)


def read_doi(spec: str) -> str:
    """The DOI in a spec: ``10.5281/zenodo.3242074``, also behind ``doi:`` or as an address of doi.org.

    Raises :class:`SpecError`.
    """
    written = _WRITTEN.fullmatch(decode(spec))
    doi = written["doi"].rstrip("/") if written else ""
    if not doi or len(doi) > _MAX or any(segment in ("", ".", "..") for segment in doi.split("/")):
        raise SpecError(f'Spec is not a DOI, such as "10.5281/zenodo.3242074": "{spec[:200]}".')
    return doi


def doi_url(doi: str) -> str:
    """The address that everybody knows a DOI by.  DOIs are compared without regard to letter case."""
    return f"https://doi.org/{quote(doi, safe='/:;()')}"


class DOIs:
    """Asks the resolver at ``base``."""

    def __init__(self, base: str, web: Callable[[str], Web]) -> None:
        self._base, self._web = base, web("doi.org")

    async def target(self, doi: str, spec: RepoSpec) -> URL:
        """The address that a DOI leads to.

        Raises :class:`RefNotFoundError` for a DOI that leads nowhere, and :class:`ProviderUnavailableError`.
        """
        answer = await self._web.get(f"{self._base}/api/handles/{quote(doi.lower(), safe='/')}?type=URL")
        if answer.is_absent:
            raise RefNotFoundError(f"{not_found(spec)} (There is no DOI {doi}.)")
        for value in _values(answer):
            try:
                url = URL(value)
            except ValueError:
                continue
            if url.scheme in ("http", "https") and url.host:
                return url
        raise RefNotFoundError(f"{not_found(spec)} (The DOI {doi} leads to no page.)")


class DOIProvider(ABC):
    """A provider whose specs are DOIs; each kind knows what the page is that one leads to."""

    prefix: ClassVar[str]
    label: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, dois: DOIs) -> None:
        self._dois = dois

    def parse(self, spec: str) -> RepoSpec:
        """Read a DOI; raises :class:`SpecError`."""
        url = doi_url(read_doi(spec))
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, "HEAD", repo_key(url))

    def identity(self, spec: RepoSpec) -> str:
        """The DOI's key, which has no letter case."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Follow the DOI, and find the version that it means; raises :class:`ProviderError`."""
        doi = read_doi(spec.raw.partition("/")[2])
        return await self._resolve(spec, doi, await self._dois.target(doi, spec))

    @abstractmethod
    async def _resolve(self, spec: RepoSpec, doi: str, target: URL) -> Resolved:
        """Find the version; ``target`` is the page that the DOI leads to."""

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": self.label,
            "id": self.prefix,
            "spec": {"validateRegex": r"10\.\d+\/(.)+"},
            "repo": {"label": self.label, "placeholder": f"example: {self.example}", "urlEncode": False},
            "ref": {"enabled": False},
        }


def resolved(spec: RepoSpec, doi: str, url: str, version: str, repo: RepoKey | None = None) -> Resolved:
    """What has been found at ``url``, whose own DOI is ``doi``; ``repo`` where versions have addresses of their own."""
    found = replace(spec, repo_url=url, repo=repo or repo_key(url))
    return Resolved(found, version, f"{spec.provider}/{doi}", doi_url(doi))


def _values(answer: Answer) -> list[str]:
    values = answer.json().get("values", [])
    if not isinstance(values, list):
        raise answer.unreadable()
    found = []
    for value in values:
        if isinstance(value, dict) and value.get("type") == "URL" and isinstance(value.get("data"), dict):
            text = value["data"].get("value")
            found += [text] if isinstance(text, str) else []
    return found
