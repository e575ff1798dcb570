"""From the address of a record, an article, a dataset or an archived object to a provider and a spec; pure."""

import re
from urllib.parse import quote, unquote

_DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:)?(?P<doi>10\.\d{3,9}(?:\.\d+)*/[^\s?#]+)", re.IGNORECASE)
#: Providers whose specs are DOIs.
DOI_PROVIDERS = frozenset({"zenodo", "figshare", "dataverse"})

_SCHEME = r"(?:https?://)?(?:www\.)?"

# Each with what makes a spec of it.  A DOI given by hand comes last: it says least.
_PAGES = (
    (re.compile(rf"{_SCHEME}zenodo\.org/records?/(\d+)\b.*"), "zenodo", "10.5281/zenodo.{}"),
    (re.compile(rf"{_SCHEME}sandbox\.zenodo\.org/records?/(\d+)\b.*"), "zenodo", "10.5072/zenodo.{}"),
    (re.compile(rf"{_SCHEME}(?:sandbox\.)?zenodo\.org/doi/(10\.\d+/zenodo\.\d+)\b.*"), "zenodo", "{}"),
    (
        re.compile(rf"{_SCHEME}(?:[\w-]+\.)?figshare\.com/articles/(?:[^/]+/)?[^/]*[^/\d][^/]*/(\d+)/(\d+)\b.*"),
        "figshare",
        "10.6084/m9.figshare.{}.v{}",
    ),
    (
        re.compile(rf"{_SCHEME}(?:[\w-]+\.)?figshare\.com/articles/(?:[^/]+/)?[^/]*[^/\d][^/]*/(\d+)/?(?:[?#].*)?"),
        "figshare",
        "10.6084/m9.figshare.{}",
    ),
    (re.compile(rf"{_SCHEME}hydroshare\.org/resource/([0-9a-f]{{32}})\b.*"), "hydroshare", "{}"),
    (
        re.compile(rf"(?:{_SCHEME}archive\.softwareheritage\.org/)?(swh:1:(?:dir|rev|rel):[0-9a-f]{{40}})\b.*"),
        "swh",
        "{}",
    ),
    (
        re.compile(
            r"https?://[^/]+/(?:.*/)?(?:dataset\.xhtml|citation|file\.xhtml)\?(?:.*&)?persistentId=doi:([^&#]+).*"
        ),
        "dataverse",
        "{}",
    ),
)


def archive_spec(text: str) -> tuple[str, str] | None:
    """The provider and the spec, percent-encoded, of an archive's page or a DOI; ``None`` for anything else.

    A DOI does not say what it leads to: Zenodo and Figshare write their names into theirs, and any other is taken for
    one of a Dataverse, of which there are many.
    """
    for page, provider, form in _PAGES:
        if found := page.fullmatch(text):
            return provider, quote(form.format(*map(unquote, found.groups())), safe="/:;()")
    if found := _DOI.fullmatch(text):
        doi = unquote(found["doi"]).rstrip("/")
        provider = next((name for name in ("zenodo", "figshare") if name in doi.lower()), "dataverse")
        return provider, quote(doi, safe="/:;()")
    return None
