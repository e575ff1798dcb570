"""Where credentials for registries come from: the settings, or a cloud's own library."""

import asyncio
import base64
import importlib
import time
from typing import Any

from member.clients.registry import CredentialSource
from member.registry_settings import RegistrySettings

#: Amazon's last twelve hours, Google's one; this long before their end (seconds) a new one is asked for.
_EARLY_S = 300.0
_GOOGLE_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


def source(settings: RegistrySettings) -> CredentialSource:
    """The source that settings choose; raises ``ValueError`` where its library is missing."""
    if settings.auth == "google":
        return GoogleToken()
    if settings.auth == "ecr":
        return EcrToken(settings.host)
    return Password(settings)


class Password:
    """User name and password of the settings."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings

    async def get(self) -> tuple[str, str] | None:
        """See :class:`CredentialSource`."""
        if not self._settings.username:
            return None
        return self._settings.username, self._settings.secret_now("password")


class GoogleToken:
    """Artifact Registry: an access token of the application default credentials.

    Source: Google Cloud's documentation, "Configure authentication to Artifact Registry for Docker" (access token).
    """

    def __init__(self) -> None:
        self._auth = _library("google.auth", "google")
        self._requests = _library("google.auth.transport.requests", "google")
        self._known: Any = None

    async def get(self) -> tuple[str, str] | None:
        """See :class:`CredentialSource`."""
        return "oauth2accesstoken", await asyncio.to_thread(self._token)

    def _token(self) -> str:
        try:
            if self._known is None:
                self._known, _ = self._auth.default(scopes=[_GOOGLE_SCOPE])
            if not self._known.valid:
                self._known.refresh(self._requests.Request())
        except Exception as error:
            raise ValueError(f"Google gives none: {error}") from error
        return str(self._known.token)


class EcrToken:
    """Amazon's registry: ``GetAuthorizationToken``, in the region that the registry's name tells.

    Source: the ECR API reference, GetAuthorizationToken.
    """

    def __init__(self, host: str) -> None:
        self._boto3 = _library("boto3", "ecr")
        parts = host.split(".")
        # <account>.dkr.ecr.<region>.amazonaws.com
        self._region = parts[3] if len(parts) > 4 and parts[2] == "ecr" else None
        self._known: tuple[str, str] = ("", "")
        self._until = 0.0

    async def get(self) -> tuple[str, str] | None:
        """See :class:`CredentialSource`."""
        if time.time() > self._until - _EARLY_S:
            await asyncio.to_thread(self._refresh)
        return self._known

    def _refresh(self) -> None:
        try:
            client = self._boto3.client("ecr", region_name=self._region)
            (data, *_) = client.get_authorization_token()["authorizationData"]
            username, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
            self._known, self._until = (username, password), data["expiresAt"].timestamp()
        except Exception as error:
            raise ValueError(f"Amazon gives none: {error}") from error


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"registry.auth: {extra} needs a library; install manybinder[{extra}]") from error
