"""What a member asks of a gateway besides reporting: to join, to change its keys, to leave."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from contract.json_types import loads_object
from servicekit.streams import read_up_to

#: Seconds for one request.
TIMEOUT_S = 30.0

#: Bytes of an answer that are read.
_MOST_BYTES = 64 * 1024


class GatewayRefusedError(Exception):
    """The gateway did not do it; ``status`` is HTTP's, ``title`` names why, the text is a sentence of the gateway's."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status, self.title = status, title


class GatewayAwayError(Exception):
    """The gateway could not be asked, or its answer is none; the text says why."""


class GatewayClient:
    """Talks to the gateway at ``url`` (with an end slash); ``session`` stays the caller's to close."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def join(self, join_token: str, request: str) -> str:
        """Send a signed request to join; returns the gateway's welcome, signed."""
        return await self._post("join", request, {"Authorization": f"Bearer {join_token}"})

    async def change_keys(self, change: str) -> None:
        """Send a signed change of this member's keys."""
        await self._post("keys", change, {})

    async def leave(self, farewell: str) -> None:
        """Send a signed farewell."""
        await self._post("leave", farewell, {})

    async def _post(self, path: str, body: str, headers: dict[str, str]) -> str:
        """Raises :class:`GatewayRefusedError` or :class:`GatewayAwayError`."""
        try:
            async with self._session.post(
                f"{self._url}api/v1/{path}",
                data=body,
                headers={"Content-Type": "application/jwt", **headers},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                allow_redirects=False,
            ) as response:
                text = (await read_up_to(response.content, _MOST_BYTES)).decode(errors="replace")
                status = response.status
        except TimeoutError as error:
            raise GatewayAwayError(f"cannot reach {self._url}: it does not answer") from error
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayAwayError(f"cannot reach {self._url}: {str(error) or type(error).__name__}") from error
        if status in (200, 204):
            return text
        try:
            problem = loads_object(text)
            title, detail = str(problem["title"]), str(problem["detail"])
        except (ValueError, KeyError) as error:
            raise GatewayAwayError(
                f"{self._url} answered HTTP {status} and nothing that can be read: is it the address of a gateway?"
            ) from error
        raise GatewayRefusedError(status, title, detail)


@asynccontextmanager
async def gateway_client(url: str) -> AsyncIterator[GatewayClient]:
    """A client with a session of its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield GatewayClient(session, url)
