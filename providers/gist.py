"""GitHub's gists: ``gist/<user>/<gist id>[/<ref>]``.

The REST API, "Get a gist", lists the commits of a gist, the latest first.  A gist has one branch, whatever its name, so
that ``HEAD``, ``main`` and ``master`` are its latest commit, as is no ref at all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from contract.repos import repo_key
from providers.base import RefNotFoundError, RepoSpec, Resolved, SpecError
from providers.github import read_name
from providers.github_api import GitHubAPI
from providers.http import Answer
from providers.refs import decode, is_commit, not_found, read_ref
from providers.settings import GistSettings

_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_LATEST = ("HEAD", "main", "master")

_NOT_PUBLIC = (
    "You seem to want to use a secret Gist, but do not have permission to do so. "
    "To enable secret Gist support, an administrator sets 'providers.gist.allow_secret_gist'."
)


@dataclass(frozen=True, slots=True)
class _Gist:
    """What the API says of a gist; ``commits`` has the latest first."""

    public: bool
    owner: str
    commits: tuple[str, ...]


class GistProvider:
    """See the module."""

    prefix = "gist"

    def __init__(self, settings: GistSettings, api: GitHubAPI) -> None:
        self._settings, self._api = settings, api

    def parse(self, spec: str) -> RepoSpec:
        """Read ``user/gist-id[/ref]``; raises :class:`SpecError`."""
        parts = spec.split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise SpecError(f'Spec is not of the form "user/gist-id[/ref]", provided: "{spec[:200]}".')
        user, gist = read_name(parts[0]), decode(parts[1]).removesuffix(".git")
        if not _ID.fullmatch(gist):
            raise SpecError(f"{gist[:80]!r} cannot be the id of a gist.")
        ref = read_ref(parts[2]) if len(parts) == 3 else "HEAD"
        url = self._url(user, gist)
        return RepoSpec(self.prefix, f"{self.prefix}/{spec}", url, ref, repo_key(url.lower()))

    def identity(self, spec: RepoSpec) -> str:
        """The repository's key, which has no letter case."""
        return spec.repo

    async def resolve(self, spec: RepoSpec) -> Resolved:
        """Find the commit in the gist's history."""
        user, name = spec.raw.split("/")[1:3]
        gist_id = decode(name).removesuffix(".git")
        gist = await self._api.ask(("gist", gist_id.lower()), f"gists/{gist_id}", _read)
        if gist is None:
            raise RefNotFoundError(not_found(spec))
        if not gist.public and not self._settings.allow_secret_gist:
            raise RefNotFoundError(_NOT_PUBLIC)
        commit = gist.commits[0] if spec.ref in _LATEST else spec.ref
        # The history that the API lists may be cut short; whether such a commit is there, the fetch will tell.
        if commit not in gist.commits and not (is_commit(commit) and len(gist.commits) >= _LISTED):
            raise RefNotFoundError(not_found(spec))
        # Its owner by the API's word: a gist is found by its id alone, whatever user the spec names.
        url = self._url(gist.owner or decode(user), gist_id)
        spec = replace(spec, repo_url=url, repo=repo_key(url.lower()))
        page = f"{url.removesuffix('.git')}/{commit}"
        return Resolved(spec, commit, f"gist/{user}/{name}/{commit}", page, listed=gist.public)

    def description(self) -> Mapping[str, Any]:
        """Its entry in ``/api/repoproviders``."""
        return {
            "displayName": "GitHub Gist",
            "id": self.prefix,
            "spec": {"validateRegex": r"[^/]+/[^/]+(/[^/]+)?"},
            "detect": {"regex": f"^(https?://{re.escape(self._settings.host)}/)?(?<repo>.*[^/])/?"},
            "repo": {"label": "Gist ID (username/gistId) or URL", "placeholder": "", "urlEncode": False},
            "ref": {"enabled": True, "default": "HEAD"},
        }

    def _url(self, user: str, gist_id: str) -> str:
        return f"https://{self._settings.host}/{user}/{gist_id}.git"


#: Commits that the API lists on one page.
_LISTED = 30


def _read(answer: Answer) -> _Gist:
    wire = answer.json()
    owner, history = wire.get("owner"), wire.get("history")
    login = owner.get("login") if isinstance(owner, dict) else ""
    versions = [item.get("version") for item in history if isinstance(item, dict)] if isinstance(history, list) else []
    commits = tuple(version for version in versions if isinstance(version, str) and is_commit(version))
    if not commits or not isinstance(wire.get("public"), bool) or not isinstance(login, str):
        raise answer.unreadable()
    return _Gist(wire["public"], login, commits)
