"""GitLab.com, and GitLab servers of one's own: ``gl/<percent-encoded namespace/repository>/<ref>``.

Source: GitLab's REST API, "Get a single commit", "Namespaced paths" and "Rate limits".
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from contract.repos import repo_key
from providers.base import ProviderUnavailableError, RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.cache import Cache
from providers.http import Headers, Web
from providers.refs import decode, is_commit, not_found, read_ref
from providers.settings import GitLabSettings

logger = logging.getLogger(__name__)

#: Seconds for which a 404 is believed.
NOT_FOUND_TTL_S = 300.0

# GitLab's rules for paths: letters, digits, "_", "-" and "."; not ending in ".git" or ".atom".
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


class GitLabProvider:
    """See the module."""

    prefix = "gl"

    def __init__(
        self,
        settings: GitLabSettings,
        session: aiohttp.ClientSession,
        *,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._web = Web(
            f"The GitLab server {settings.host}",
            session,
            timeout_s=settings.timeout,
            trusted=[settings.base],
            clock=clock,
            wall=wall,
        )
        self._absent: Cache[tuple[str, str], bool] = Cache(cache_size, clock)

    def parse(self, spec: str) -> RepoSpec:
        """Read ``percent-encoded-namespace/ref``; raises :class:`SpecError`."""
        quoted, _, ref = spec.partition("/")
        path = decode(quoted).strip("/").removesuffix(".git")
        names = path.split("/")
        if not ref or len(names) < 2:
            raise SpecError(
                f'Spec is not of the form "url-escaped-namespace/ref", provided: "{spec[:200]}". '
                "The slashes between group and project must be percent-encoded (group%2Fproject)."
            )
        for name in names:
            if not _NAME.fullmatch(name):
                raise SpecError(f"{name[:80]!r} cannot be the name of a GitLab group or project.")
        url = f"https://{self._settings.host}/{path}.git"
        # GitLab compares paths without regard to letter case.
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, read_ref(ref), repo_key(url.lower()))

    def identity(self, spec: RepoSpec) -> str:
        """The repository's key, which has no letter case."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit; a whole commit id is taken as it is."""
        commit = spec.ref if is_commit(spec.ref) else await self._commit(spec)
        quoted = spec.raw.split("/")[1]
        page = f"{spec.repo_url.removesuffix('.git')}/tree/{commit}"
        return Resolved(spec, commit, f"gl/{quoted}/{commit}", page)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        host = self._settings.host
        project = "mosaik/examples/mosaik-tutorials-on-binder"
        return {
            "displayName": "GitLab",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/.+"},
            "detect": {"regex": f"^(https?://{re.escape(host)}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitLab repository name or URL",
                "placeholder": f"example: https://{host}/{project} or {project}",
                "urlEncode": True,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    async def _commit(self, spec: RepoSpec) -> str:
        key = (spec.repo, spec.ref)
        if self._absent.get(key):
            raise RefNotFoundError(not_found(spec))
        project = quote(URL(spec.repo_url).path.strip("/").removesuffix(".git"), safe="")
        path = f"api/v4/projects/{project}/repository/commits/{quote(spec.ref, safe='')}"
        answer = await self._web.get(f"{self._settings.base}/{path}", secrets=self._credentials())
        if answer.status == 401 and self._credentials():
            logger.error("GitLab does not accept the token in the settings of the gl provider")
            raise ProviderUnavailableError("GitLab does not accept the token of this service.")
        # A project that is not public is said not to exist.
        if answer.is_absent:
            self._absent.set(key, True, NOT_FOUND_TTL_S)
            raise RefNotFoundError(not_found(spec))
        commit = answer.json().get("id")
        if not isinstance(commit, str) or not is_commit(commit):
            raise answer.unreadable()
        return commit

    def _credentials(self) -> Headers:
        settings = self._settings
        if token := settings.access_token.get_secret_value():
            return {"Authorization": f"Bearer {token}"}
        if token := settings.private_token.get_secret_value():
            return {"PRIVATE-TOKEN": token}
        return {}
