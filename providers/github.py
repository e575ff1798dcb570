"""GitHub, and GitHub Enterprise: ``gh/<owner>/<repository>/<ref>``.

A ref is resolved by the REST API, "Get a commit".  A whole commit id is taken as it is, without a request: it names its
content, so there is nothing to look up, and a commit that does not exist is noticed by whoever fetches it.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from yarl import URL

from contract.repos import repo_key
from providers.base import RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.github_api import GitHubAPI
from providers.http import Answer
from providers.refs import decode, is_commit, not_found, read_ref
from providers.settings import GitHubSettings

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")

# One of the commit's files is enough: only its id is wanted.
_BRIEFLY = "?per_page=1"


class GitHubProvider:
    """See the module."""

    prefix = "gh"

    def __init__(self, settings: GitHubSettings, api: GitHubAPI) -> None:
        self._settings, self._api = settings, api

    @property
    def quota_remaining(self) -> int | None:
        """Requests that the API still allows in its present hour, as it last said."""
        return self._api.quota_remaining

    def parse(self, spec: str) -> RepoSpec:
        """Read ``owner/repository/ref``; raises :class:`SpecError`."""
        parts = spec.split("/", 2)
        if len(parts) < 3:
            hint = f' Did you mean "{spec}/HEAD"?' if len(parts) == 2 and all(parts) else ""
            raise SpecError(f'Spec is not of the form "user/repo/ref", provided: "{spec}".{hint}')
        owner, repo = read_name(parts[0]), read_name(decode(parts[1]).removesuffix(".git"))
        url = f"https://{self._settings.host}/{owner}/{repo}"
        # GitHub compares names without regard to letter case, an Enterprise server too.
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, read_ref(parts[2]), repo_key(url.lower()))

    def identity(self, spec: RepoSpec) -> str:
        """The repository's key, which has no letter case."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit; the branches ``master`` and ``main`` stand for the default branch where they are absent."""
        if is_commit(spec.ref):
            return self._resolved(spec, spec.ref)
        commit = await self._commit(spec, spec.ref)
        if commit is not None:
            return self._resolved(spec, commit)
        text = not_found(spec)
        if spec.ref in ("master", "main"):
            if spec.ref == "master":
                text += ' GitHub has changed default branches from "master" to "main".'
            text += " Tip: HEAD will always resolve to a repository's default branch."
            commit = await self._commit(spec, "HEAD")
            if commit is not None:
                note = f"{text}\nTrying again with HEAD instead of {spec.ref}. Please update your links."
                return self._resolved(spec, commit, note)
        raise RefNotFoundError(text)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        host = self._settings.host
        return {
            "displayName": "GitHub",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+/.+"},
            "detect": {"regex": f"^(https?://{re.escape(host)}/)?(?<repo>.*[^/])/?"},
            "repo": {
                "label": "GitHub repository name or URL",
                "placeholder": f"example: binder-examples/requirements or https://{host}/binder-examples/requirements",
                "urlEncode": False,
            },
            "ref": {"enabled": True, "default": "HEAD"},
        }

    def _resolved(self, spec: RepoSpec, commit: str, *notes: str) -> Resolved:
        owner_and_repo = "/".join(spec.raw.split("/")[1:3])
        return Resolved(spec, commit, f"gh/{owner_and_repo}/{commit}", f"{spec.repo_url}/tree/{commit}", notes)

    async def _commit(self, spec: RepoSpec, ref: str) -> str | None:
        """The commit of a ref; ``None`` if there is none."""
        path = f"repos{URL(spec.repo_url).raw_path}/commits/{quote(ref)}"
        return await self._api.ask((spec.repo, ref), path, _sha, _BRIEFLY)


def read_name(encoded: str) -> str:
    """The name of a user or a repository; raises :class:`SpecError`."""
    name = decode(encoded)
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise SpecError(f"{name[:80]!r} cannot be the name of a GitHub user or repository.")
    return name


def _sha(answer: Answer) -> str:
    commit = answer.json().get("sha")
    if not isinstance(commit, str) or not is_commit(commit):
        raise answer.unreadable()
    return commit
