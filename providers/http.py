"""HTTP to servers that a visitor may have named: what is asked is answered in time, in bounds, and by whom it should.

A server that the settings name is asked as it is.  Any other, and every one that a redirect leads to, is looked up
first, and only an address that was checked is connected to (:mod:`providers.addresses`).
"""

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urljoin

import aiohttp
from yarl import URL

from contract.json_types import loads_object
from providers.addresses import HostNotFoundError, PinnedResolver, public_addresses
from providers.base import ProviderUnavailableError, RefNotFoundError, SpecError
from providers.cache import Cache

logger = logging.getLogger(__name__)

USER_AGENT = "manybinder"

#: Redirects that one question follows.
MAX_REDIRECTS = 5

#: Bytes of an answer; more is none.
MAX_BODY = 8 * 1024 * 1024

#: Seconds that a server is left alone which refuses for now and does not say for how long ...
PAUSE_S = 60.0

#: ... and that it is left alone at most, whatever it says.
MAX_PAUSE_S = 3600.0

# Characters that mean something in a URL (RFC 3986, section 2.2), and the percent sign of those that are encoded.
_URL_SAFE = ":/?#[]@!$&'()*+,;=%~"

_MOVED = frozenset({301, 302, 303, 307, 308})

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said; ``url`` is where, after all redirects."""

    name: str
    status: int
    headers: Headers
    body: bytes
    url: URL

    @property
    def is_absent(self) -> bool:
        """Whether it says that there is no such thing, or none for everybody."""
        return self.status in (401, 403, 404, 410, 451)

    @property
    def base(self) -> str:
        """The server's address, without an end slash."""
        return str(self.url.origin())

    def json(self) -> dict[str, Any]:
        """The JSON object that was asked for; raises :class:`ProviderUnavailableError`."""
        self.check()
        return self.object()

    def object(self) -> dict[str, Any]:
        """The JSON object that it is, whatever its status; raises :class:`ProviderUnavailableError`."""
        try:
            return loads_object(self.body)
        except ValueError as error:
            raise self.unreadable() from error

    def json_list(self) -> list[Any]:
        """The JSON list that was asked for; raises :class:`ProviderUnavailableError`."""
        self.check()
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise self.unreadable() from error
        if not isinstance(found, list):
            raise self.unreadable()
        return found

    def unreadable(self) -> ProviderUnavailableError:
        """The error for an answer that is not of the form it should have."""
        logger.warning("%s: the answer of %s is not of the form it should have", self.name, self.url)
        return ProviderUnavailableError(f"The answer of {self.name} is not readable.")

    def check(self) -> None:
        """Raises :class:`ProviderUnavailableError` if it is not the answer to what was asked."""
        if self.status != 200:
            raise ProviderUnavailableError(f"{self.name} answered with an error ({self.status}).")


class Web:
    """Asks the servers of one provider; ``name`` is what visitors know it by.

    ``session`` asks the servers in ``trusted`` (URLs, of which the origin counts); with ``anywhere``, addresses of
    other servers are not checked either.  ``wall`` is Unix time.  ``pause_text`` says that no more requests are taken
    for so many seconds.
    """

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        *,
        timeout_s: float,
        trusted: Collection[str] = (),
        anywhere: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        pause_text: Callable[[float], str] | None = None,
    ) -> None:
        self._name, self._session, self._timeout_s = name, session, timeout_s
        self._pause_text = pause_text or self._usual_pause_text
        self._trusted = frozenset(URL(url).origin() for url in trusted)
        self._anywhere, self._clock, self._wall = anywhere, clock, wall
        self._paused: Cache[URL, float] = Cache(1000, clock)

    async def get(
        self,
        url: str,
        headers: Headers | None = None,
        *,
        secrets: Headers | None = None,
        seen: Callable[[Headers], None] | None = None,
    ) -> Answer:
        """Ask; ``secrets`` are headers for the origin of ``url`` alone, not for where it redirects.

        ``seen`` is given the headers of every answer, those of a refusal too.

        Raises :class:`ProviderUnavailableError` for a server that does not answer or refuses for now,
        :class:`SpecError` for one that may not be asked, and :class:`RefNotFoundError` for one that does not exist.
        """
        return await self._answer("GET", url, headers or {}, secrets or {}, seen)

    async def post(self, url: str, headers: Headers | None = None, *, secrets: Headers | None = None) -> Answer:
        """Send a request without a body, and follow no redirect; the rest as for :meth:`get`."""
        return await self._answer("POST", url, headers or {}, secrets or {}, None)

    async def _answer(
        self, method: str, url: str, headers: Headers, secrets: Headers, seen: Callable[[Headers], None] | None
    ) -> Answer:
        address = URL(url, encoded=True)
        home = address.origin()
        all_headers = {"User-Agent": USER_AGENT, "Accept": "application/json", **headers}
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(MAX_REDIRECTS + 1):
                    secret = secrets if address.origin() == home else {}
                    answer = await self._ask(method, address, {**all_headers, **secret})
                    if seen is not None:
                        seen(answer.headers)
                    if method != "GET" or answer.status not in _MOVED or not answer.headers.get("Location"):
                        return self._checked(answer)
                    address = self._next(answer)
        except TimeoutError as error:
            raise ProviderUnavailableError(
                f"{self._name} did not answer within {self._timeout_s:g} seconds."
            ) from error
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError, ValueError) as error:
            logger.warning("asking %s failed: %s", self._name, error)
            raise ProviderUnavailableError(f"{self._name} cannot be reached.") from error
        raise ProviderUnavailableError(f"{self._name} redirects too often.")

    async def _ask(self, method: str, address: URL, headers: Headers) -> Answer:
        self._check_pause(address)
        async with (
            self._session_for(address) as session,
            session.request(method, address, headers=headers, allow_redirects=False) as response,
        ):
            body = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                body += chunk
                if len(body) > MAX_BODY:
                    raise ProviderUnavailableError(f"The answer of {self._name} is too long.")
            return Answer(self._name, response.status, response.headers, bytes(body), address)

    @asynccontextmanager
    async def _session_for(self, address: URL) -> AsyncIterator[aiohttp.ClientSession]:
        """What a server may be asked with; the caller's session is left open."""
        if self._anywhere or address.origin() in self._trusted:
            yield self._session
            return
        host = address.host or ""
        try:
            addresses = await public_addresses(host, address.port or 0)
        except HostNotFoundError as error:
            raise RefNotFoundError(f"There is no host {host}.") from error
        connector = aiohttp.TCPConnector(resolver=PinnedResolver(addresses), force_close=True)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield session

    def _next(self, answer: Answer) -> URL:
        """Where a redirect leads."""
        try:
            # A server may write bytes that no address has.
            location = quote(answer.headers["Location"], safe=_URL_SAFE, errors="surrogateescape")
            target = URL(urljoin(str(answer.url), location), encoded=True)
            known = target.scheme in ("http", "https") and bool(target.host) and target.port is not None
        except ValueError:
            known = False
        if not known:
            raise ProviderUnavailableError(f"{self._name} redirects, and does not say where to.")
        if answer.url.scheme == "https" and target.scheme != "https":
            raise SpecError(f"{self._name} redirects to a connection that is not encrypted.")
        if target.user is not None or target.password is not None:
            raise SpecError(f"{self._name} redirects to an address with a password.")
        return target.with_fragment(None)

    def _checked(self, answer: Answer) -> Answer:
        wait_s = refused_for(answer.status, answer.headers, self._wall())
        if wait_s is not None:
            self._paused.set(answer.url.origin(), self._clock() + wait_s, wait_s)
            logger.error("%s takes no more requests; it is asked again in %.0f s", self._name, wait_s)
            raise self._pause(wait_s)
        if answer.status >= 500:
            logger.warning("%s answered %d", self._name, answer.status)
            raise ProviderUnavailableError(f"{self._name} answered with an error ({answer.status}).")
        return answer

    def _check_pause(self, address: URL) -> None:
        until = self._paused.get(address.origin())
        if until is not None:
            raise self._pause(until - self._clock())

    def _pause(self, wait_s: float) -> ProviderUnavailableError:
        return ProviderUnavailableError(self._pause_text(wait_s), retry_after_s=math.ceil(max(wait_s, 1.0)))

    def _usual_pause_text(self, wait_s: float) -> str:
        minutes = max(1, math.ceil(wait_s / 60))
        return f"{self._name} takes no more requests for now. Try again in {minutes} minute{'s' * (minutes > 1)}."


def refused_for(status: int, headers: Headers, now: float) -> float | None:
    """Seconds for which a server says that it takes no more requests; ``None`` if it does not say so.

    Sources: RFC 9110, section 10.2.3 (Retry-After) and RFC 6585, section 4; the headers of quotas are GitHub's and
    Zenodo's (X-RateLimit-…) and GitLab's (RateLimit-…).
    """
    left = headers.get("X-RateLimit-Remaining", headers.get("RateLimit-Remaining"))
    if status not in (403, 429, 503) or (status == 403 and left != "0" and "Retry-After" not in headers):
        return None
    wait_s = _retry_after(headers.get("Retry-After"), now)
    if status == 503 and wait_s is None:
        return None
    if wait_s is None:
        reset = _number(headers.get("X-RateLimit-Reset", headers.get("RateLimit-Reset")))
        wait_s = PAUSE_S if reset is None else reset - now
    return min(max(wait_s, 1.0), MAX_PAUSE_S)


def _retry_after(text: str | None, now: float) -> float | None:
    """Seconds, or a date (RFC 9110, section 5.6.7)."""
    if text is None:
        return None
    if (seconds := _number(text)) is not None:
        return seconds
    try:
        return parsedate_to_datetime(text).timestamp() - now
    except ValueError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None
