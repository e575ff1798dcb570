"""Credentials of a GitHub App: its key signs a request for a token, which one of its installations is good for.

Source: GitHub's documentation, "Generating a JSON Web Token for a GitHub App" and "Generating an installation access
token".  A token lasts an hour.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import jwt

from providers.base import ProviderUnavailableError
from providers.dates import epoch
from providers.http import Web
from providers.settings import GitHubSettings

logger = logging.getLogger(__name__)

#: Seconds before its end at which a token is replaced.
_MARGIN_S = 300.0

#: Seconds that the request for a token is good for; GitHub takes no more than 600.
_REQUEST_S = 300

#: Seconds by which the clocks may differ.
_SKEW_S = 60


class GitHubApp:
    """Has a token when one is asked for, the same until it ends; ``wall`` is Unix time."""

    def __init__(self, settings: GitHubSettings, web: Web, wall: Callable[[], float] = time.time) -> None:
        self._settings, self._web, self._wall = settings, web, wall
        self._lock = asyncio.Lock()
        self._token, self._until = "", 0.0

    async def token(self) -> str:
        """A token of the installation; raises :class:`ProviderUnavailableError`."""
        async with self._lock:
            if self._wall() >= self._until - _MARGIN_S:
                self._token, self._until = await self._fetch()
            return self._token

    async def _fetch(self) -> tuple[str, float]:
        settings = self._settings
        path = f"app/installations/{settings.app_installation_id}/access_tokens"
        accept = {"Accept": "application/vnd.github+json"}
        answer = await self._web.post(
            f"{settings.api_base}/{path}", accept, secrets={"Authorization": f"Bearer {self._request()}"}
        )
        if answer.status != 201:
            logger.error("GitHub gives no token to the app in the settings of the gh provider (%d)", answer.status)
            raise ProviderUnavailableError("GitHub does not accept the credentials of this service.")
        wire = answer.object()
        token, until = wire.get("token"), epoch(wire.get("expires_at"))
        if not isinstance(token, str) or not token or until is None:
            raise answer.unreadable()
        return token, until

    def _request(self) -> str:
        now = int(self._wall())
        claims = {"iat": now - _SKEW_S, "exp": now + _REQUEST_S, "iss": self._settings.app_id}
        return jwt.encode(claims, self._settings.app_private_key.get_secret_value(), algorithm="RS256")
