"""Whether a container registry has an image.

Source: OCI Distribution Specification, "Checking if content exists in the registry"; the Docker registry's "Token
Authentication Specification".
"""

import base64
import re
from urllib.parse import urlsplit

import aiohttp

from contract.json_types import loads_object

#: Both kinds of manifest, and lists of either: Podman pushes OCI's, Docker its own.
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)

_TIMEOUT_S = 10.0
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryError(Exception):
    """The registry did not say whether it has an image; the text is a sentence for the operator."""


class Manifests:
    """Asks one registry; ``url`` is its address without ``/v2``, by default that of the images' names."""

    def __init__(
        self, session: aiohttp.ClientSession, *, url: str | None = None, username: str = "", password: str = ""
    ) -> None:
        self._session, self._url = session, url
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._basic = {"Authorization": f"Basic {pair}"} if username else {}

    async def has(self, image: str) -> bool:
        """Whether the registry has ``host/name:tag``; raises :class:`RegistryError` where it does not say."""
        host, _, rest = image.partition("/")
        name, _, tag = rest.rpartition(":")
        where = f"{(self._url or f'https://{host}').rstrip('/')}/v2/{name}/manifests/{tag}"
        try:
            status, challenge = await self._ask(where, None)
            if status == 401 and challenge.lower().startswith("bearer"):
                status, _ = await self._ask(where, await self._token(challenge, where))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or "no answer in time"
            raise RegistryError(f"the registry of {host} does not answer: {reason}") from error
        if status not in (200, 404):
            raise RegistryError(f"the registry of {host} answered HTTP {status}")
        return status == 200

    async def check(self, image_prefix: str) -> None:
        """Raise :class:`RegistryError` unless the registry answers, to these credentials."""
        await self.has(f"{image_prefix}no-such-image:none")

    async def _ask(self, url: str, token: str | None) -> tuple[int, str]:
        headers = {"Accept": _ACCEPT, **({"Authorization": f"Bearer {token}"} if token else self._basic)}
        async with self._session.head(
            url,
            headers=headers,
            allow_redirects=True,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        ) as response:
            return response.status, response.headers.get("WWW-Authenticate", "")

    async def _token(self, challenge: str, asked: str) -> str:
        parameters = dict(_PARAMETER.findall(challenge))
        realm = parameters.pop("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError("the registry asks for a token and does not say where one is had")
        if urlsplit(asked).scheme == "https" and urlsplit(realm).scheme != "https":
            raise RegistryError("the registry asks for credentials to be sent unencrypted")
        async with self._session.get(
            realm, params=parameters, headers=self._basic, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
        ) as response:
            if response.status != 200:
                raise RegistryError(f"the registry does not accept this member's credentials (HTTP {response.status})")
            try:
                answer = loads_object(await response.read())
            except ValueError as error:
                raise RegistryError("the registry's token service does not answer with a token") from error
        return str(answer.get("token") or answer.get("access_token") or "")
