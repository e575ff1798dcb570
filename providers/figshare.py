"""Figshare, and its portals of institutions: ``figshare/<DOI>``.

A DOI that ends in ``.v2`` means that version of an article, any other the latest.  A version never changes.  Source:
Figshare's API v2, "List article versions".
"""

import re
from collections.abc import Callable

from yarl import URL

from contract.repos import repo_key
from providers.base import RefNotFoundError, RepoSpec, Resolved
from providers.doi import DOIProvider, DOIs, resolved
from providers.http import Answer, Web
from providers.refs import not_found
from providers.settings import FigshareSettings

_VERSION = re.compile(r"(?P<article>.+?)\.v(?P<version>[1-9]\d{0,5})", re.IGNORECASE)
# A kind, which may be left out, a title, the article's number, and a version's.
_PAGE = re.compile(r"/articles/(?:[^/]+/)?[^/]*[^/\d][^/]*/(?P<article>\d{1,12})(?:/\d{1,6})?/?")


class FigshareProvider(DOIProvider):
    """See the module; ``web`` makes what asks the servers."""

    prefix = "figshare"
    label = "FigShare DOI"
    example = "10.6084/m9.figshare.9782777.v1"

    def __init__(self, settings: FigshareSettings, dois: DOIs, web: Callable[[str], Web]) -> None:
        super().__init__(dois)
        self._settings, self._web = settings, web("Figshare")

    async def _resolve(self, spec: RepoSpec, doi: str, target: URL) -> Resolved:
        """Find the version of the article."""
        page = _PAGE.fullmatch(target.path)
        # Others have articles too; Figshare writes their numbers into the DOIs.
        if page is None or not _VERSION.sub(r"\g<article>", doi).endswith(f".{page['article']}"):
            raise RefNotFoundError(
                f"{not_found(spec)} (The DOI leads to {target.host}, not to an article of Figshare.)"
            )
        article, named = page["article"], _VERSION.fullmatch(doi)
        answer = await self._web.get(f"{self._settings.api_url}/articles/{article}/versions")
        if answer.is_absent:
            raise RefNotFoundError(f"{not_found(spec)} (There is no public article {article}.)")
        versions = _versions(answer)
        version = int(named["version"]) if named else max(versions, default=0)
        if version not in versions:
            raise RefNotFoundError(f"{not_found(spec)} (The article {article} has no version {version}.)")
        # This is the form of address that leads to one version, whatever stands for its title.
        url = f"https://figshare.com/articles/dataset/_/{article}/{version}"
        doi = f"{named['article'] if named else doi}.v{version}"
        repo = repo_key(f"https://figshare.com/articles/{article}")
        return resolved(spec, doi, url, f"{article}.v{version}", repo)


def _versions(answer: Answer) -> set[int]:
    versions = {item.get("version") for item in answer.json_list() if isinstance(item, dict)}
    if not all(isinstance(version, int) and 0 < version < 10**6 for version in versions):
        raise answer.unreadable()
    return {version for version in versions if isinstance(version, int)}
