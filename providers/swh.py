"""The Software Heritage archive: ``swh/<SWHID>``.

A SWHID names content by a hash of it, so there is nothing that could change: a directory and a revision are what they
are, and a release is the revision that it names.  Sources: "SoftWare Hash IDentifiers (SWHIDs)" (ISO/IEC 18670) and the
archive's Web API, ``/api/1/resolve/`` and ``/api/1/release/``.
"""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from contract.repos import RepoKey, repo_key
from providers.base import ProviderUnavailableError, RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.http import Answer, Headers, Web
from providers.refs import decode, is_commit, not_found
from providers.settings import SoftwareHeritageSettings

logger = logging.getLogger(__name__)

_CORE = re.compile(r"swh:1:(?P<kind>dir|rev|rel):(?P<hash>[0-9a-f]{40})")
_OTHER = re.compile(r"swh:1:(cnt|snp|ori):[0-9a-f]{40}")
_KINDS = {"dir": "directory", "rev": "revision", "rel": "release"}


class SoftwareHeritageProvider:
    """See the module; ``web`` makes what asks the archive."""

    prefix = "swh"

    def __init__(self, settings: SoftwareHeritageSettings, web: Callable[[str], Web]) -> None:
        self._settings, self._web = settings, web("Software Heritage")

    def parse(self, spec: str) -> RepoSpec:
        """Read a SWHID; its qualifiers (``;origin=…``) are context and make no difference.

        Raises :class:`SpecError`.
        """
        core = decode(spec).partition(";")[0].strip("/")
        found = _CORE.fullmatch(core)
        if found is None:
            hint = " A directory, a revision or a release can be launched." if _OTHER.fullmatch(core) else ""
            example = "swh:1:rev:94dca98c006b80309704c717b5d83dff3c1fa3a0"
            raise SpecError(f'Spec is not a SWHID of the form "{example}": "{spec[:200]}".{hint}')
        key = self._key(found["kind"], found["hash"])
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", core, found["hash"], key)

    def identity(self, spec: RepoSpec) -> str:
        """The SWHID."""
        return spec.repo_url

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """See that the archive has it, and which revision a release is."""
        kind, sha = spec.repo_url.split(":")[2:]
        if kind == "rel":
            answer = await self._ask(f"release/{sha}", spec)
            wire = answer.json()
            target, target_kind = wire.get("target"), wire.get("target_type")
            kinds = {name: short for short, name in _KINDS.items() if short != "rel"}
            if not isinstance(target, str) or not is_commit(target):
                raise answer.unreadable()
            if target_kind not in kinds:
                raise RefNotFoundError(f"{not_found(spec)} (The release is of a {target_kind}, not of a revision.)")
            kind, sha = kinds[target_kind], target
        swhid = f"swh:1:{kind}:{sha}"
        await self._ask(f"resolve/{swhid}", spec)
        found = replace(spec, repo_url=swhid, repo=self._key(kind, sha))
        return Resolved(found, sha, f"swh/{swhid}", f"{self._settings.url}/{swhid}")

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": "Software Heritage",
            "id": self.prefix,
            "spec": {"validateRegex": r"swh:1:(dir|rev|rel):[0-9a-f]{40}(;.+)?"},
            "detect": {"regex": f"^({re.escape(self._settings.url)}/)?(?<repo>swh:1:.*[^/])/?"},
            "repo": {
                "label": "SWHID of a directory, revision or release",
                "placeholder": "example: swh:1:rev:94dca98c006b80309704c717b5d83dff3c1fa3a0",
                "urlEncode": False,
            },
            "ref": {"enabled": False},
        }

    async def _ask(self, path: str, spec: RepoSpec) -> Answer:
        answer = await self._web.get(f"{self._settings.url}/api/1/{path}/", secrets=self._credentials())
        if answer.status in (401, 403) and self._credentials():
            logger.error("Software Heritage does not accept the token in the settings of the swh provider")
            raise ProviderUnavailableError("Software Heritage does not accept the token of this service.")
        if answer.is_absent or answer.status == 400:
            raise RefNotFoundError(f"{not_found(spec)} (The archive has no such object.)")
        answer.check()
        return answer

    def _key(self, kind: str, sha: str) -> RepoKey:
        return repo_key(f"{self._settings.url}/browse/{_KINDS[kind]}/{sha}")

    def _credentials(self) -> Headers:
        token = self._settings.access_token.get_secret_value()
        return {"Authorization": f"Bearer {token}"} if token else {}
