"""A container registry's API, as far as a member needs it: is an image there, and who says so.

Source: OCI Distribution Specification 1.1, and Docker's "Token Authentication Specification".  "Not there" and "broken"
are told apart: only a registry's own word makes an image absent.
"""

import asyncio
import base64
import re
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp

from contract.json_types import loads_object
from member.registry_settings import RegistrySettings
from servicekit.streams import read_up_to

T = TypeVar("T")

#: Podman pushes OCI manifests, Docker its own; both have lists for several platforms.
ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)

#: What a registry says of an image that is not there.
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})

#: Where Docker Hub answers as a registry.
_DOCKER_HUB = re.compile(r"(.+\.)?docker\.(io|com)")

_MAX_ANSWER = 64 * 1024
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')

#: Seconds for which a token is used that does not say for how long; the specification's.
_TOKEN_S = 60.0

#: Failures in a row after which a registry is left alone for a while (seconds).
TRIPS_AT, OPEN_S = 3, 30.0


class RegistryError(Exception):
    """The registry is broken, out of reach or refuses us; the text is a sentence for the operator."""


class _NotGrantedError(RegistryError):
    """The registry has given us a token, which is not good for what we ask."""


class CredentialSource(Protocol):
    """Where user name and password come from."""

    async def get(self) -> tuple[str, str] | None:
        """User name and password, fresh enough to be used now; ``None`` = anonymous.  Raises ``ValueError``."""


class Registry:
    """One registry; ``session`` stays the caller's to close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: RegistrySettings,
        credentials: CredentialSource,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host, self._host_name = settings.host, urlsplit(settings.url).hostname or ""
        self._session, self._url, self._credentials = session, settings.url.rstrip("/"), credentials
        self._timeout_s, self._clock = settings.timeout, clock
        self._tokens: dict[str, tuple[str, float]] = {}
        self._failures, self._open_until, self._problem = 0, float("-inf"), ""

    async def exists(self, image: str) -> bool:
        """Whether ``name:tag`` (without the registry) is there; raises :class:`RegistryError`."""
        name, _, tag = image.rpartition(":")
        path = f"/v2/{name}/manifests/{tag}"
        return await self._guarded(self._exists(path, f"repository:{name}:pull"))

    async def check(self) -> None:
        """Whether it answers and lets us in; raises :class:`RegistryError`."""
        await self._guarded(self._check())

    async def credentials(self) -> tuple[str, str] | None:
        """User name and password, for an engine that pushes or pulls; raises :class:`RegistryError`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._credentials.get()
        except (ValueError, TimeoutError) as error:
            raise RegistryError(f"no credentials for the registry {self.host}: {error or 'not in time'}") from error

    async def _guarded(self, question: Coroutine[Any, Any, T]) -> T:
        """Ask within the deadline; a registry that has failed a few times is not asked for a while."""
        if self._clock() < self._open_until:
            question.close()
            raise RegistryError(self._problem)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await question
        except (RegistryError, aiohttp.ClientError, TimeoutError, ValueError) as error:
            self._failures += 1
            self._problem = _sentence(self.host, error, self._timeout_s)
            if self._failures >= TRIPS_AT:
                self._open_until = self._clock() + OPEN_S
            raise RegistryError(self._problem) from error
        self._failures = 0
        return answer

    async def _exists(self, path: str, scope: str) -> bool:
        try:
            status, _ = await self._ask("HEAD", path, scope)
        except _NotGrantedError:
            # Docker Hub says so of repositories that do not exist, since April 2023 (BinderHub's not_found_401), and of
            # those that we may not read.  Who gives a wrong password gets no token there.
            if _DOCKER_HUB.fullmatch(self._host_name):
                return False
            raise
        if status == 200:
            return True
        if status != 404:
            raise RegistryError(f"the registry {self.host} answered HTTP {status}")
        # A proxy or a wrong address answers 404 too: the registry's own word is in the body.
        status, body = await self._ask("GET", path, scope)
        if status == 200:
            return True
        if status == 404 and _codes(body) & _ABSENT:
            return False
        raise RegistryError(f"what answers as the registry {self.host} (HTTP {status}) is none")

    async def _check(self) -> None:
        status, _ = await self._ask("GET", "/v2/", "")
        if status != 200:
            raise RegistryError(f"the registry {self.host} answered HTTP {status}")

    async def _ask(self, method: str, path: str, scope: str) -> tuple[int, bytes]:
        """One request, with a token or a password where the registry asks for it; status and the body's beginning."""
        authorization = self._known_token(scope)
        status, body, challenge = await self._request(method, path, authorization)
        if status == 401:
            authorization = await self._authorize(challenge, scope)
            status, body, challenge = await self._request(method, path, authorization)
        if status in (401, 403):
            self._tokens.pop(scope, None)
            granted = dict(_CHALLENGE.findall(challenge)).get("error") != "insufficient_scope"
            error = RegistryError if granted else _NotGrantedError
            raise error(f"the registry {self.host} does not let us in (HTTP {status})")
        return status, body

    async def _request(self, method: str, path: str, authorization: str) -> tuple[int, bytes, str]:
        headers = {"Accept": ACCEPT} | ({"Authorization": authorization} if authorization else {})
        async with self._session.request(method, self._url + path, headers=headers, allow_redirects=False) as response:
            body = await read_up_to(response.content, _MAX_ANSWER)
            return response.status, body, response.headers.get("WWW-Authenticate", "")

    async def _authorize(self, challenge: str, scope: str) -> str:
        """The header for an answer to a challenge; raises :class:`RegistryError`."""
        scheme, _, rest = challenge.partition(" ")
        known = await self.credentials()
        if scheme.lower() == "basic":
            if known is None:
                raise RegistryError(f"the registry {self.host} wants a user name and a password")
            return _basic(*known)
        fields = dict(_CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or urlsplit(fields.get("realm", "")).scheme not in ("http", "https"):
            raise RegistryError(f"the registry {self.host} asks for credentials in a way that is not known")
        # A client asks for what it needs; the challenge of HEAD /v2/ names no scope.
        query = {"service": fields.get("service", ""), "scope": fields.get("scope") or scope}
        headers = {"Authorization": _basic(*known)} if known else {}
        wanted = {name: value for name, value in query.items() if value}
        async with self._session.get(fields["realm"], params=wanted, headers=headers) as response:
            if response.status != 200:
                raise RegistryError(f"the registry {self.host} gives us no token (HTTP {response.status})")
            told = loads_object(await read_up_to(response.content, _MAX_ANSWER))
        token = told.get("token") or told.get("access_token")
        if not isinstance(token, str):
            raise RegistryError(f"the registry {self.host} answered without a token")
        lasts = told.get("expires_in")
        self._tokens[scope] = (token, self._clock() + 0.8 * (lasts if isinstance(lasts, int | float) else _TOKEN_S))
        return f"Bearer {token}"

    def _known_token(self, scope: str) -> str:
        token, until = self._tokens.get(scope, ("", 0.0))
        return f"Bearer {token}" if token and self._clock() < until else ""


def _basic(username: str, password: str) -> str:
    """RFC 7617."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _codes(body: bytes) -> set[str]:
    try:
        errors = loads_object(body).get("errors")
    except ValueError:
        return set()
    listed = errors if isinstance(errors, list) else []
    return {str(error.get("code")) for error in listed if isinstance(error, dict)}


def _sentence(host: str, error: BaseException, timeout_s: float) -> str:
    if isinstance(error, RegistryError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"the registry {host} did not answer within {timeout_s:g} s"
    return f"the registry {host} does not answer: {error or type(error).__name__}"
