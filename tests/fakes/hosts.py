"""GitLab's API and that of gists, as far as refs go.

Sources: GitLab's REST API, "Get a single commit"; GitHub's REST API, "Get a gist".
"""

from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from tests.fakes.faulty import FaultyServer, answer


@dataclass
class FakeGitLab(FaultyServer):
    """``projects`` maps paths to refs, and those to commits."""

    projects: dict[str, dict[str, str]] = field(default_factory=dict)
    token: str | None = None
    """If set, a question with another token, or with none, is refused with 401."""

    def routes(self, app: web.Application) -> None:
        """One route: the path of a project is one percent-encoded segment."""
        app.router.add_get("/api/v4/projects/{rest:.+}", self._commit)

    async def _commit(self, request: web.Request) -> web.Response:
        if self.token is not None and self.token not in (
            request.headers.get("PRIVATE-TOKEN"),
            request.headers.get("Authorization", "").removeprefix("Bearer "),
        ):
            return answer({"message": "401 Unauthorized"}, 401)
        project, *middle, ref = request.rel_url.raw_path.removeprefix("/api/v4/projects/").split("/")
        if middle != ["repository", "commits"]:
            return answer({"error": "404 Not Found"}, 404)
        refs = self.projects.get(unquote(project).lower())
        if refs is None:
            return answer({"message": "404 Project Not Found"}, 404)
        commit = refs.get(unquote(ref))
        if commit is None:
            return answer({"message": "404 Commit Not Found"}, 404)
        return answer({"id": commit, "short_id": commit[:8], "title": "Something"})


@dataclass
class FakeGists(FaultyServer):
    """``gists`` maps ids to what the API says of them."""

    gists: dict[str, dict[str, object]] = field(default_factory=dict)

    def routes(self, app: web.Application) -> None:
        """One route."""
        app.router.add_get("/gists/{id}", self._gist)

    def add(self, gist_id: str, owner: str, *commits: str, public: bool = True) -> None:
        """Add a gist, its latest commit first."""
        history = [{"version": commit, "user": {"login": owner}} for commit in commits]
        self.gists[gist_id] = {"id": gist_id, "public": public, "owner": {"login": owner}, "history": history}

    async def _gist(self, request: web.Request) -> web.Response:
        found = self.gists.get(request.match_info["id"])
        return answer({"message": "Not Found"}, 404) if found is None else answer(found)
