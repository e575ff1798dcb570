"""Any Dataverse: ``dataverse/<DOI>``.

A DOI leads to a page of a dataset, or of a file in one, whose server is then asked for the latest published version.
Source: the Dataverse guides, Native API, "Get JSON representation of a dataset" and "Getting file metadata".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from yarl import URL

from contract.repos import repo_key
from providers.base import RefNotFoundError, RepoSpec, Resolved
from providers.doi import DOIProvider, DOIs, doi_url, resolved
from providers.http import Answer, Web
from providers.refs import not_found

_PAGES = ("/citation", "/dataset.xhtml", "/file.xhtml")
_IDENTIFIER = re.compile(r"[A-Za-z0-9._/-]{1,200}")
_PERSISTENT = re.compile(r"doi:10\.[A-Za-z0-9._/-]{1,200}")


class DataverseProvider(DOIProvider):
    """See the module; ``web`` makes what asks the servers."""

    prefix = "dataverse"
    label = "Dataverse DOI"
    example = "10.7910/DVN/TJCLKP"

    def __init__(self, dois: DOIs, web: Callable[[str], Web]) -> None:
        super().__init__(dois)
        self._web = web("The Dataverse")

    async def _resolve(self, spec: RepoSpec, doi: str, target: URL) -> Resolved:
        """Find the latest version of the dataset."""
        if not target.path.endswith(_PAGES):
            raise RefNotFoundError(f"{not_found(spec)} (The DOI leads to {target.host}, not to a Dataverse.)")
        # With the letters' case that the server gave it, which doi.org does not know.
        persistent = target.query.get("persistentId", f"doi:{doi}")
        answer = await self._dataset(target, persistent, spec)
        data = _object(answer, answer.json(), "data")
        latest = _object(answer, data, "latestVersion")
        major, minor = latest.get("versionNumber"), latest.get("versionMinorNumber")
        authority, identifier = data.get("authority"), data.get("identifier")
        numbers = [number for number in (data.get("id"), major, minor) if isinstance(number, int)]
        name = f"{authority}/{identifier}"
        if len(numbers) != 3 or not _IDENTIFIER.fullmatch(name):
            raise answer.unreadable()
        url = f"{answer.base}/citation?persistentId=doi:{name}"
        return resolved(spec, name, url, "{}.v{}.{}".format(*numbers), repo_key(doi_url(name)))

    async def _dataset(self, target: URL, persistent: str, spec: RepoSpec) -> Answer:
        """What the server says of a dataset, or of the one that a file is in."""
        answer = await self._ask(target, "datasets", persistent)
        if answer.status == 404:
            file = await self._ask(target, "files", persistent, "&returnDatasetVersion=true")
            if file.status == 200:
                version = _object(file, _object(file, file.json(), "data"), "datasetVersion")
                dataset = version.get("datasetPersistentId")
                if not isinstance(dataset, str) or not _PERSISTENT.fullmatch(dataset):
                    raise file.unreadable()
                answer = await self._ask(target, "datasets", dataset)
        if answer.is_absent:
            raise RefNotFoundError(f"{not_found(spec)} (There is no public dataset {persistent} at {target.host}.)")
        return answer

    async def _ask(self, target: URL, kind: str, persistent: str, more: str = "") -> Answer:
        query = f"persistentId={quote(persistent, safe=':/')}{more}"
        return await self._web.get(f"{target.origin()}/api/{kind}/:persistentId?{query}")


def _object(answer: Answer, wire: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = wire.get(name)
    if not isinstance(found, dict):
        raise answer.unreadable()
    return found
