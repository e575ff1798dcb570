"""Zenodo, and other servers of InvenioRDM: ``zenodo/<DOI>``.

A DOI leads to a record; one that stands for all versions of a work leads to the latest.  A record never changes, so its
id is what a commit is elsewhere.  Source: Zenodo's and InvenioRDM's REST API, "Retrieve a record", which redirects from
the id of all versions to that of the latest.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from yarl import URL

from providers.base import RefNotFoundError, RepoSpec, Resolved
from providers.doi import DOIProvider, DOIs, resolved
from providers.http import Answer, Web
from providers.refs import not_found
from providers.settings import ZenodoSettings

_PAGE = re.compile(r"/(?:records?|doi)/(?:10\.\d+/)?(?:zenodo\.)?(?P<id>[A-Za-z0-9-]{1,40})/?", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9-]{1,40}")
_DOI = re.compile(r"10\.\d{3,9}/[A-Za-z0-9._/-]{1,100}")


class ZenodoProvider(DOIProvider):
    """See the module; ``web`` makes what asks the servers."""

    prefix = "zenodo"
    label = "Zenodo DOI"
    example = "10.5281/zenodo.3242074"

    def __init__(self, settings: ZenodoSettings, dois: DOIs, web: Callable[[str], Web]) -> None:
        super().__init__(dois)
        self._settings, self._web = settings, web("Zenodo")

    async def _resolve(self, spec: RepoSpec, doi: str, target: URL) -> Resolved:
        """Find the record, of all versions the latest."""
        base, record = self._record(target, spec)
        answer = await self._web.get(f"{base}/api/records/{record}")
        if answer.is_absent:
            raise RefNotFoundError(f"{not_found(spec)} (There is no public record {record} at {target.host}.)")
        wire = answer.json()
        record = str(wire.get("id", ""))
        if not _ID.fullmatch(record):
            raise answer.unreadable()
        if not _is_open(wire):
            raise RefNotFoundError(f"{not_found(spec)} (The files of the record {record} are not public.)")
        doi = _doi_of(answer, wire, doi)
        url = f"{base}/records/{record}"
        return resolved(spec, doi, url, record)

    def _record(self, target: URL, spec: RepoSpec) -> tuple[str, str]:
        """The server and the record that a page is about."""
        page = _PAGE.fullmatch(target.path)
        for base in self._settings.urls:
            server = URL(base)
            # Old DOIs lead to http, and are redirected.
            if page and (target.host, target.explicit_port) == (server.host, server.explicit_port):
                return base, page["id"]
        hosts = ", ".join(str(URL(base).host) for base in self._settings.urls)
        raise RefNotFoundError(f"{not_found(spec)} (The DOI leads to {target.host}, not to a record at {hosts}.)")


def _is_open(wire: Mapping[str, Any]) -> bool:
    """Whether everybody may read its files: by InvenioRDM's word, or by Zenodo's older one."""
    access, metadata = wire.get("access"), wire.get("metadata")
    if isinstance(access, dict) and "files" in access:
        return bool(access["files"] == "public")
    right = metadata.get("access_right", "open") if isinstance(metadata, dict) else "open"
    return bool(right == "open")


def _doi_of(answer: Answer, wire: Mapping[str, Any], asked: str) -> str:
    """The DOI of the record itself, which the one that was asked for may not be."""
    pids = wire.get("pids")
    pid = pids.get("doi") if isinstance(pids, dict) else None
    found = wire.get("doi") or (pid.get("identifier") if isinstance(pid, dict) else None)
    if found is None:
        return asked
    if not isinstance(found, str) or not _DOI.fullmatch(found):
        raise answer.unreadable()
    return found
