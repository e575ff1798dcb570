"""A container registry as far as one asks it for manifests: a real server with faults."""

import base64
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

_TOKEN = "a-token-for-one-repository"


@dataclass
class FakeRegistry:
    """Use as an asynchronous context manager; ``images`` are ``name:tag``, without the registry's host.

    ``auth`` says how it asks who comes: not at all, ``basic``, or ``bearer`` (by its own token service).
    """

    images: set[str] = field(default_factory=set)
    auth: str = ""
    user: tuple[str, str] = ("pusher", "secret")
    errors: list[int] = field(default_factory=list)
    """What the next requests for manifests are answered with."""
    asked: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("HEAD", "/v2/{name:.+}/manifests/{tag}", self._manifest)
        app.router.add_get("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        await web.SockSite(self._runner, listening).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def push(self, image: str) -> None:
        """Have an image, named with the registry's host."""
        self.images.add(image.partition("/")[2])

    async def _manifest(self, request: web.Request) -> web.Response:
        name, tag = request.match_info["name"], request.match_info["tag"]
        self.asked.append(f"{name}:{tag}")
        if self.errors:
            return web.Response(status=self.errors.pop(0))
        if self.auth and not self._is_known(request):
            challenge = (
                f'Bearer realm="{self.url}/token",service="registry",scope="repository:{name}:pull"'
                if self.auth == "bearer"
                else 'Basic realm="registry"'
            )
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if "application/vnd.oci.image.manifest.v1+json" not in request.headers.get("Accept", ""):
            # As registries do that hold what the asker does not take.
            return web.Response(status=404)
        return web.Response(status=200 if f"{name}:{tag}" in self.images else 404)

    def _is_known(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        if self.auth == "bearer":
            return given == f"Bearer {_TOKEN}"
        return self._by_password(given)

    def _by_password(self, given: str) -> bool:
        return given == f"Basic {base64.b64encode(':'.join(self.user).encode()).decode()}"

    async def _token(self, request: web.Request) -> web.Response:
        if not self._by_password(request.headers.get("Authorization", "")):
            return web.Response(status=401)
        assert request.query["scope"].startswith("repository:")
        return web.json_response({"token": _TOKEN, "expires_in": 60})
