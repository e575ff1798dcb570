"""A container registry over real HTTP, as far as its manifests go, with fault knobs."""

import asyncio
import base64
from collections import Counter
from typing import Any, Self

from aiohttp import web

OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


class FakeRegistry:
    """Answers as the distribution specification says; ``manifests`` maps ``name:tag`` to a media type."""

    def __init__(self) -> None:
        self.manifests: dict[str, str] = {}
        self.login: tuple[str, str] | None = None
        """With this, it wants a token, which this user gets."""
        self.basic = False
        """It wants the password itself instead."""
        self.status: int | None = None
        """All requests are answered with this status."""
        self.hides_absence = False
        """Tokens are good for what is there alone, as Docker Hub's are: what is not is refused."""
        self.plain_404 = False
        """What is not there is answered as a web server does that is no registry."""
        self.delay_s = 0.0
        self.expires_in: int | None = 300
        self.asked: Counter[str] = Counter()
        self.scopes: list[str] = []
        self._tokens: set[str] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/token", self._token)
        app.router.add_route("*", "/v2/{rest:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        self.asked["token"] += 1
        self.scopes.append(request.query.get("scope", ""))
        if self.login is None or request.headers.get("Authorization") != _basic(self.login):
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        token = f"token-{self.asked['token']}"
        self._tokens.add(token)
        lasts: dict[str, Any] = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return web.json_response({"token": token, **lasts})

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked[request.method] += 1
        await asyncio.sleep(self.delay_s)
        if self.status is not None:
            return web.Response(status=self.status)
        if self.login is not None and (refusal := self._refusal(request)) is not None:
            return refusal
        rest = request.match_info["rest"]
        if not rest:
            return web.json_response({})
        name, _, tag = rest.partition("/manifests/")
        kind = self.manifests.get(f"{name}:{tag}")
        if kind is not None and kind in request.headers.get("Accept", ""):
            return web.Response(body=b"{}", content_type=kind)
        if self.hides_absence:
            headers = {"WWW-Authenticate": f'{self._challenge},error="insufficient_scope"'}
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers=headers)
        if self.plain_404:
            return web.Response(text="<h1>Not Found</h1>", status=404, content_type="text/html")
        return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)

    @property
    def _challenge(self) -> str:
        return f'Bearer realm="{self.url}/token",service="fake"'

    def _refusal(self, request: web.Request) -> web.Response | None:
        authorization = request.headers.get("Authorization", "")
        if self.basic:
            wanted, good = 'Basic realm="registry"', authorization == _basic(self.login)
        else:
            wanted = self._challenge
            good = authorization.removeprefix("Bearer ") in self._tokens
        return None if good else web.Response(status=401, headers={"WWW-Authenticate": wanted})


def _basic(login: tuple[str, str] | None) -> str:
    return "Basic " + base64.b64encode(":".join(login or ()).encode()).decode()
