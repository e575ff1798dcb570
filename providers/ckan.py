"""Datasets of any CKAN: ``ckan/<percent-encoded URL of the dataset>``.

A dataset is as new as its last change, or as the activity in its history that the address names.  Source: CKAN's Action
API, ``package_show`` and ``activity_data_show``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from contract.repos import repo_key
from contract.sentences import said
from providers.base import RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.dates import epoch
from providers.git_url import parse_git_url
from providers.http import Web
from providers.refs import decode, not_found

# CKAN's rule for names, and the ids of datasets and activities.
_ID = re.compile(r"[A-Za-z0-9_-]{2,100}")

_FORM = "{!r} is not the address of a CKAN dataset (https://demo.ckan.org/dataset/my-sample-dataset)."


@dataclass(frozen=True, slots=True)
class DatasetURL:
    """The address of a dataset; ``base`` is the CKAN's, without an end slash, ``activity`` "" for the present state."""

    base: str
    dataset: str
    activity: str = ""

    def __str__(self) -> str:
        # The form of address that repo2docker knows too.
        history = f"/history/{self.activity}" if self.activity else ""
        return f"{self.base}/dataset/{self.dataset}{history}"

    @property
    def question(self) -> str:
        """Where the dataset's description is."""
        if self.activity:
            query = urlencode({"id": self.activity, "object_type": "package"})
            return f"{self.base}/api/3/action/activity_data_show?{query}"
        return f"{self.base}/api/3/action/package_show?{urlencode({'id': self.dataset})}"


def read_dataset_url(text: str) -> DatasetURL:
    """Read the address of a dataset; raises :class:`SpecError`."""
    if not text.lower().startswith(("http://", "https://")):
        raise SpecError(_FORM.format(text[:200]))
    without_query, _, rest = text.partition("?")
    url = parse_git_url(without_query.partition("#")[0], ("http", "https"))
    prefix, found, below = url.path.partition("/dataset/")
    dataset, *more = unquote(below).strip("/").split("/")
    try:
        named = parse_qs(urlsplit(f"?{rest}").query).get("activity_id", [""])[0]
    except ValueError:
        named = ""
    activity = more[1] if len(more) > 1 and more[0] == "history" else named
    if not found or not _ID.fullmatch(dataset) or (activity and not _ID.fullmatch(activity)):
        raise SpecError(_FORM.format(text[:200]))
    return DatasetURL(f"{url.scheme}://{url.authority}{prefix}", dataset, activity)


class CKANProvider:
    """See the module; ``web`` makes what asks the servers."""

    prefix = "ckan"

    def __init__(self, web: Callable[[str], Web]) -> None:
        self._web = web("The CKAN")

    def parse(self, spec: str) -> RepoSpec:
        """Read ``percent-encoded-url``; raises :class:`SpecError`."""
        url = read_dataset_url(decode(spec))
        ref = url.activity or "HEAD"
        return RepoSpec(
            self.prefix, f"{self.prefix}/{spec}", str(url), ref, repo_key(f"{url.base}/dataset/{url.dataset}")
        )

    def identity(self, spec: RepoSpec) -> str:
        """The URL: what another scheme leads to need not be the same."""
        return spec.repo_url

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find when the dataset was changed last."""
        url = read_dataset_url(spec.repo_url)
        answer = await self._web.get(url.question)
        if answer.is_absent or answer.status in (400, 409):
            raise RefNotFoundError(f"{not_found(spec)} (There is no public dataset {url.dataset}.)")
        wire = answer.json()
        result = wire.get("result")
        changed = epoch(result.get("metadata_modified")) if isinstance(result, dict) else None
        if wire.get("success") is not True or changed is None:
            raise answer.unreadable()
        return Resolved(spec, f"{url.dataset}.v{changed}", f"ckan/{quote(str(url), safe='')}", str(url))

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": said("CKAN dataset"),
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+"},
            "repo": {
                "label": "CKAN dataset URL",
                "placeholder": "https://demo.ckan.org/dataset/my-sample-dataset-001",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        }
