"""DOIs: how they are written, and where they lead.

Sources: the DOI Handbook ("DOI name syntax") and doi.org's factsheet "DOI resolution documentation", section "Proxy
server REST API": ``/api/handles/<doi>`` answers with the values of a DOI, and 404 for one that is not registered.
"""

import re
from collections.abc import Callable
from urllib.parse import quote

from yarl import URL

from providers.base import RefNotFoundError, RepoSpec, SpecError
from providers.http import Answer, Web
from providers.refs import decode, not_found

#: Longer than any DOI that a registry gives out.
_MAX = 250

_WRITTEN = re.compile(
    r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(?P<doi>10\.\d{3,9}(?:\.\d+)*/[A-Za-z0-9._;()/:+~-]+)", re.IGNORECASE
)

DOI_PATTERN = r"10\.\d+\/(.)+"
"""``spec.validateRegex`` of the providers that take DOIs."""


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
