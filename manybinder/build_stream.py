"""A launch through the public API of a gateway, a member or any BinderHub: page, token, stream, reconnects, cancelling.

Source: BinderHub's ``/build`` and the WHATWG HTML standard, "9.2.3 Processing model" (Last-Event-ID, retry, 204).
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

import aiohttp
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, event, parse_event
from contract.launches import parse_event_id
from frontend.page_config import parse_page_config
from manybinder import public_api
from manybinder.errors import CommandError, Exit

#: Seconds without a byte after which a connection counts as cut; servers send a comment every 25 s.
SILENCE_S = 90.0

#: Seconds for which a lost gateway is tried again.
RECONNECT_S = 60.0

_CANCEL_TIMEOUT = aiohttp.ClientTimeout(total=5)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
_CUT = (aiohttp.ClientError, TimeoutError, OSError)


class BuildStream:
    """One launch; ``path_spec`` is percent-encoded, with its provider."""

    def __init__(
        self, http: aiohttp.ClientSession, base: str, path_spec: str, reconnect_s: float = RECONNECT_S
    ) -> None:
        self._http = http
        self._base = base
        self._path_spec = path_spec
        self._reconnect_s = reconnect_s
        self._last_id = ""
        self._retry_s = 0.5

    async def events(self) -> AsyncGenerator[BuildEvent, None]:
        """Launch, and yield each event once, the final one last; raises :class:`CommandError` if there is none."""
        token = await self._open_page()
        lost_at: float | None = None
        delay = 0.0
        while True:
            try:
                async with contextlib.aclosing(self._connect(token)) as connection:
                    async for item in connection:
                        lost_at = None
                        yield item
                        if item.is_final:
                            return
                why = "the stream ended without saying how the launch did"
                code = Exit.FAILED
            except _CUT as error:
                why, code = public_api.reason(error), Exit.UNREACHABLE
            if parse_event_id(self._last_id) is None:
                # Without ids there is nothing to resume by: to ask again would be to launch again.
                raise CommandError(f"{self._base}: {why}", code)
            delay = self._retry_s if lost_at is None else min(delay * 2, 5.0)
            lost_at = lost_at or time.monotonic()
            if time.monotonic() + delay > lost_at + self._reconnect_s:
                raise CommandError(f"the connection to {self._base} was lost: {why}", Exit.UNREACHABLE)
            await asyncio.sleep(delay)

    async def cancel(self) -> bool:
        """End the launch; whether the server has said yes."""
        found = parse_event_id(self._last_id)
        if found is None:
            return False
        try:
            url = f"{self._base}api/v1/launches/{found[0]}"
            async with self._http.delete(url, timeout=_CANCEL_TIMEOUT) as response:
                return response.status == 204
        except _CUT:
            return False

    async def _open_page(self) -> str:
        """The build token of the launch page; "" where the page has none."""
        route = f"v2/{self._path_spec}"
        try:
            async with self._http.get(_url(self._base + route), headers={"Accept": "text/html"}) as response:
                page = await response.text(errors="replace")
        except _CUT as error:
            raise public_api.unreachable(self._base, error) from error
        # A redirecting federation's token is good at the member that it led to, and nowhere else.
        address = f"{response.url.origin()}{response.url.raw_path}"
        if address.endswith(f"/{route}"):
            self._base = address.removesuffix(route)
        if response.status == 200:
            try:
                return str(parse_page_config(page).get("buildToken") or "")
            except ValueError:
                return ""
        if response.status in (400, 404):
            await self._refusal_of_the_spec()
            return ""
        raise public_api.refused(self._base, response.status, page)

    async def _refusal_of_the_spec(self) -> None:
        """Raise :class:`CommandError` with what a manybinder says of a spec that has no page."""
        try:
            url = _url(f"{self._base}api/v1/explain").update_query(repo=self._path_spec)
            async with self._http.get(url) as response:
                text = public_api.detail(await response.text(errors="replace"))
        except _CUT:
            return
        if response.status == 400 and text:
            raise CommandError(text)

    async def _connect(self, token: str) -> AsyncGenerator[BuildEvent, None]:
        query = f"?build_token={token}" if token else ""
        headers = {"Accept": sse.CONTENT_TYPE, "Cache-Control": "no-cache"}
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        url = _url(f"{self._base}build/{self._path_spec}{query}")
        async with self._http.get(url, headers=headers, timeout=_STREAM_TIMEOUT) as response:
            if response.status == 204:
                raise CommandError("the launch has ended, and its last event was missed: please start again")
            if response.status >= 500 and self._last_id:
                raise aiohttp.ClientConnectionError(f"HTTP {response.status}")
            if response.status != 200:
                raise public_api.refused(self._base, response.status, await response.text(errors="replace"))
            if response.content_type != sse.CONTENT_TYPE:
                raise CommandError(f"{self._base} is not a Binder: it answered with {response.content_type}")
            parser = sse.Parser()
            parser.last_event_id = self._last_id
            async for chunk in response.content.iter_any():
                for item in self._feed(parser, chunk):
                    self._last_id = item.id
                    yield _event(item.data)

    def _feed(self, parser: sse.Parser, chunk: bytes) -> list[sse.ServerSentEvent]:
        try:
            items = parser.feed(chunk)
        except sse.StreamTooLongError as error:
            raise CommandError(f"{self._base}: {error}") from error
        if parser.retry_ms is not None:
            self._retry_s = min(max(parser.retry_ms / 1000, 0.1), 5.0)
        return items


def _event(data: str) -> BuildEvent:
    try:
        return parse_event(data)
    except ValueError:
        return event(Phase.UNKNOWN, f"{data}\n")


def _url(text: str) -> URL:
    # The spec is encoded as the gateway is to see it.
    return URL(text, encoded=True)
