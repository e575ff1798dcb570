"""GitHub's REST API as far as refs go: a real server with its answers, its quota and its faults.

Source: GitHub's REST API documentation, "Get a commit", "Rate limits" and "Conditional requests".
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


@dataclass
class FakeRepository:
    """``refs`` maps branches and tags to commits; the key ``HEAD`` is the default branch's commit."""

    refs: dict[str, str]
    moved_to: str | None = None
    """Set to ``owner/name`` once the repository was renamed: the API redirects."""


@dataclass
class FakeGitHub:
    """Use as an asynchronous context manager; ``api_url`` is its base."""

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

    # Faults: each lasts until it is unset.
    status: int | None = None
    """Answer everything with this status."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with :attr:`status`."""
    body: bytes | None = None
    """Answer 200 with this body."""
    hang: bool = False
    """Take requests and say nothing."""
    drop: bool = False
    """Close connections without an answer."""
    loop: bool = False
    """Redirect each request to itself."""

    requests: list[web.Request] = field(default_factory=list)
    """Every request that came."""
    charged: int = 0
    """How many of them counted against the quota."""

    api_url: str = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/repos/{owner}/{repo}/commits/{ref:.+}", self._commit)
        app.router.add_post("/app/installations/{id}/access_tokens", self._installation)
        app.router.add_get("/{rest:.*}", self._nothing)
        # Whoever hangs is cut off when the server ends.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.api_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def add(self, name: str, **refs: str) -> FakeRepository:
        """Add ``owner/name`` with refs."""
        repository = self.repositories[name.lower()] = FakeRepository(refs)
        return repository

    def mend(self) -> None:
        """Unset all faults."""
        self.status, self.headers, self.body = None, {}, None
        self.hang = self.drop = self.loop = False

    async def _nothing(self, request: web.Request) -> web.Response:
        self.requests.append(request)
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
        self.requests.append(request)
        if self.hang:
            await asyncio.sleep(3600)
        if self.drop:
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        if self.loop:
            return web.Response(status=302, headers={"Location": str(request.rel_url)})
        if self.status is not None:
            return self._answer(self.status, {"message": "fault"}, self.headers)
        if self.body is not None:
            return web.Response(body=self.body, content_type="application/json")
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
