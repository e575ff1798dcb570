"""GitHub's REST API as far as refs go: a real server with its answers, its quota and its faults.

Source: GitHub's REST API documentation, "Get a commit", "Rate limits" and "Conditional requests".
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.fakes.faulty import FaultyServer


@dataclass
class FakeRepository:
    """``refs`` maps branches and tags to commits; the key ``HEAD`` is the default branch's commit."""

    refs: dict[str, str]
    moved_to: str | None = None
    """Set to ``owner/name`` once the repository was renamed: the API redirects."""


@dataclass
class FakeGitHub(FaultyServer):
    """``api_url`` is its base."""

    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    """By ``owner/name``, compared without regard to letter case."""

    token: str | None = None
    """If set, another one is refused with 401; with this one the quota is that of :attr:`quota` all the same."""

    app_keys: dict[str, RSAPublicKey] = field(default_factory=dict)
    """Apps by their ids; each has the installation 42, which is given :attr:`token`."""
    tokens_given: int = 0

    limit: int = 60
    quota: int = 60
    reset_at: int = 2_000_000_000

    charged: int = 0
    """How many requests counted against the quota."""

    @property
    def api_url(self) -> str:
        """Where the API begins."""
        return self.url

    def routes(self, app: web.Application) -> None:
        """Commits, and what else a client may ask for."""
        app.router.add_get("/repos/{owner}/{repo}/commits/{ref:.+}", self._commit)
        app.router.add_post("/app/installations/{id}/access_tokens", self._installation)
        app.router.add_get("/{rest:.*}", self._nothing)

    def add(self, name: str, **refs: str) -> FakeRepository:
        """Add ``owner/name`` with refs."""
        repository = self.repositories[name.lower()] = FakeRepository(refs)
        return repository

    def failure(self, status: int) -> web.Response:
        """With what is left of the quota, as in all that GitHub answers."""
        return self._answer(status, {"message": "fault"}, self.headers)

    async def _nothing(self, _: web.Request) -> web.Response:
        return self._answer(404, {"message": "Not Found"})

    async def _installation(self, request: web.Request) -> web.Response:
        """A JSON Web Token of the app's is exchanged for a token of its installation."""
        signed = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            app = str(jwt.decode(signed, options={"verify_signature": False})["iss"])
            claims = jwt.decode(signed, self.app_keys[app], algorithms=["RS256"], options={"verify_exp": False})
        except (jwt.PyJWTError, KeyError):
            return self._answer(401, {"message": "A JSON web token could not be decoded"})
        if claims["exp"] - claims["iat"] > 660 or request.match_info["id"] != "42":
            return self._answer(404, {"message": "Not Found"})
        self.tokens_given += 1
        until = datetime.fromtimestamp(claims["iat"] + 3660, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._answer(201, {"token": self.token, "expires_at": until})

    async def _commit(self, request: web.Request) -> web.StreamResponse:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._answer(401, {"message": "Bad credentials"})
        return self._found(request)

    def _found(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['owner']}/{request.match_info['repo']}".lower()
        repository, ref = self.repositories.get(name), request.match_info["ref"]
        commit = repository.refs.get(ref) if repository else None
        if commit and request.headers.get("If-None-Match") == f'W/"{commit}"':
            return self._answer(304, None)  # costs nothing
        if self.quota <= 0:
            return self._answer(403, {"message": "API rate limit exceeded for 127.0.0.1."})
        self.quota -= 1
        self.charged += 1
        if repository is None:
            return self._answer(404, {"message": "Not Found"})
        if repository.moved_to:
            location = f"{self.api_url}/repos/{repository.moved_to}/commits/{ref}"
            return self._answer(301, {"message": "Moved Permanently", "url": location}, {"Location": location})
        if commit is None:
            return self._answer(422, {"message": f"No commit found for SHA: {ref}"})
        return self._answer(200, {"sha": commit, "files": []}, {"ETag": f'W/"{commit}"'})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
        quota = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(self.quota, 0)),
            "X-RateLimit-Reset": str(self.reset_at),
        }
        text = None if body is None else json.dumps(body)
        return web.Response(
            status=status, text=text, content_type="application/json", headers={**quota, **(headers or {})}
        )
