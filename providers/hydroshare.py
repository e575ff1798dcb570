"""HydroShare: ``hydroshare/<resource id, or its percent-encoded URL>``.

A resource has no versions that could be asked for; it is as new as its last change.  Source: HydroShare's REST API
(hsapi), ``/resource/{id}/scimeta/elements``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from contract.repos import repo_key
from contract.sentences import said
from providers.base import RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.dates import epoch
from providers.http import Answer, Web
from providers.refs import decode, not_found
from providers.settings import HydroShareSettings

_RESOURCE = re.compile(r"(?:.*[^0-9a-f])?(?P<id>[0-9a-f]{32})(?:[^0-9a-f].*)?", re.DOTALL)


class HydroShareProvider:
    """See the module; ``web`` makes what asks the server."""

    prefix = "hydroshare"

    def __init__(self, settings: HydroShareSettings, web: Callable[[str], Web]) -> None:
        self._base, self._web = settings.url, web("HydroShare")

    def parse(self, spec: str) -> RepoSpec:
        """Read the id of a resource, or an address that holds it; raises :class:`SpecError`."""
        found = _RESOURCE.fullmatch(decode(spec).lower())
        if found is None:
            raise SpecError("The specified Hydroshare resource id was not recognized.")
        url = f"{self._base}/resource/{found['id']}"
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, "HEAD", repo_key(url))

    def identity(self, spec: RepoSpec) -> str:
        """The resource."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find when the resource was changed last."""
        resource = spec.repo_url.rpartition("/")[2]
        answer = await self._web.get(f"{self._base}/hsapi/resource/{resource}/scimeta/elements/")
        if answer.is_absent or answer.status == 400:
            raise RefNotFoundError(f"{not_found(spec)} (There is no public resource {resource}.)")
        resolved_spec = f"hydroshare/{resource}"
        return Resolved(spec, f"{resource}.v{_changed(answer)}", resolved_spec, spec.repo_url)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": said("Hydroshare resource"),
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+"},
            "repo": {
                "label": "Hydroshare resource id",
                "placeholder": "example: 8f7c2f0341ef4180b0dbe97f59130756",
                "urlEncode": True,
            },
            "ref": {"enabled": False},
        }


def _changed(answer: Answer) -> int:
    dates = answer.json().get("dates")
    for date in dates if isinstance(dates, list) else []:
        if isinstance(date, dict) and date.get("type") == "modified":
            changed = epoch(date.get("start_date"))
            if changed is not None:
                return changed
    raise answer.unreadable()
