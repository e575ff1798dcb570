"""GitHub's REST API, for all providers that ask it: credentials, quota, and answers that are remembered.

The answers' ETags are kept: asking again with one costs nothing of the quota while nothing has changed.  Sources:
GitHub's REST API documentation, "Best practices", "Rate limits" and "Authenticating as a GitHub App installation".
"""

import base64
import logging
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import aiohttp

from providers.base import ProviderUnavailableError
from providers.cache import Cache
from providers.github_app import GitHubApp
from providers.http import Answer, Headers, Web
from providers.settings import GitHubSettings

logger = logging.getLogger(__name__)

#: Seconds for which a 404 is believed; it carries no ETag, and the repository may be made any moment.
NOT_FOUND_TTL_S = 300.0

#: Seconds for which an ETag is kept.
ETAG_TTL_S = 7 * 86400.0

_ABSENT = frozenset({404, 410, 422, 451})

T = TypeVar("T")


class GitHubAPI:
    """Asks one server; ``wall`` is Unix time, which GitHub counts its quota in."""

    def __init__(
        self,
        settings: GitHubSettings,
        session: aiohttp.ClientSession,
        *,
        cache_size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._web = Web(
            "GitHub",
            session,
            timeout_s=settings.timeout,
            trusted=[settings.api_base],
            clock=clock,
            wall=wall,
            pause_text=_quota_text,
        )
        self._app = GitHubApp(settings, self._web, wall) if settings.app_id else None
        self._known: Cache[Hashable, tuple[str, Any]] = Cache(cache_size, clock)
        self._absent: Cache[Hashable, bool] = Cache(cache_size, clock)
        self.quota_remaining: int | None = None
        """Requests that the API still allows in its present hour, as it last said."""

    async def ask(self, key: Hashable, path: str, read: Callable[[Answer], T], query: str = "") -> T | None:
        """What ``read`` makes of the answer, which is remembered as ``key``; ``None`` if there is no such thing.

        Raises :class:`ProviderUnavailableError`, and what ``read`` raises.
        """
        if self._absent.get(key):
            return None
        known = self._known.get(key)
        answer = await self._get(f"{self._settings.api_base}/{path}{query}", known[0] if known else None)
        if answer.status == 304 and known:
            kept: T = known[1]
            return kept
        if answer.status in _ABSENT:
            self._known.discard(key)
            self._absent.set(key, True, NOT_FOUND_TTL_S)
            return None
        if answer.status == 401:
            logger.error("GitHub does not accept the credentials in the settings of the gh provider")
            raise ProviderUnavailableError("GitHub does not accept the credentials of this service.")
        found = read(answer)
        if etag := answer.headers.get("ETag"):
            self._known.set(key, (etag, found), ETAG_TTL_S)
        return found

    async def _get(self, url: str, etag: str | None) -> Answer:
        headers = {"Accept": "application/vnd.github+json"}
        if etag:
            headers["If-None-Match"] = etag
        return await self._web.get(url, headers, secrets=await self._credentials(), seen=self._note)

    async def _credentials(self) -> Headers:
        settings = self._settings
        if token := settings.access_token.get_secret_value():
            return {"Authorization": f"Bearer {token}"}
        if self._app is not None:
            return {"Authorization": f"Bearer {await self._app.token()}"}
        if settings.client_id:
            pair = f"{settings.client_id}:{settings.client_secret.get_secret_value()}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}

    def _note(self, headers: Headers) -> None:
        remaining = headers.get("X-RateLimit-Remaining", "")
        if remaining.isdecimal():
            self.quota_remaining = int(remaining)


def _quota_text(wait_s: float) -> str:
    # In steps of five minutes, as BinderHub does: visitors need not come back all in the same second.
    minutes = 5 * (1 + int(wait_s // 60 // 5))
    return f"GitHub rate limit exceeded. Try again in {minutes} minutes."
