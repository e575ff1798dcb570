"""A session's notebook server, as a page of another origin uses it: its API, a kernel, the kernel's websocket.

Source: Jupyter Server's REST API, and "Messaging in Jupyter" (version 5.3) for what goes through the websocket.
"""

import asyncio
import contextlib
import json
import secrets
from typing import Any

import aiohttp

from gateway.clients.answers import describe
from gateway.core.origins import origin

#: An origin that is nobody's: what works from there works from any page.
FOREIGN_ORIGIN = "https://page.elsewhere.invalid"

_TIMEOUT = aiohttp.ClientTimeout(total=30)

#: Seconds for a kernel to start and to answer.
_KERNEL_S = 120.0


class NotebookError(Exception):
    """Something does not work; the text is a sentence without its subject ("gives no …")."""


class Notebook:
    """The session at ``url`` (with an end slash); ``session`` stays the caller's to close."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session, self._url, self._token = session, url, token
        self._origin = FOREIGN_ORIGIN

    async def open(self) -> str:
        """Read its status as a page elsewhere would; returns whose pages can. Raises :class:`NotebookError`.

        Where one site's pages alone are let in, what follows is done as one of those.
        """
        try:
            async with self._request("GET", "api/status") as response:
                allowed = response.headers.get("Access-Control-Allow-Origin")
                if response.status != 200:
                    raise NotebookError(f"answers HTTP {response.status} to its token")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotebookError(f"could not be reached ({describe(error)})") from error
        if allowed in ("*", FOREIGN_ORIGIN):
            return "a page of any other origin"
        if allowed is None or not _is_another(allowed, self._url):
            raise NotebookError("lets no page of another origin read it (Access-Control-Allow-Origin)")
        self._origin = allowed
        return f"pages of {allowed}, and of no other origin beside its own (cors_allow_origin)"

    async def compute(self) -> None:
        """Have a kernel compute something through its websocket; raises :class:`NotebookError`."""
        try:
            async with asyncio.timeout(_KERNEL_S):
                async with self._request("POST", "api/kernels", json={}) as response:
                    if response.status not in (200, 201):
                        raise NotebookError(f"starts no kernel (HTTP {response.status})")
                    kernel = str((await response.json())["id"])
                await self._talk(kernel)
        except TimeoutError as error:
            raise NotebookError(f"has no kernel that answers within {_KERNEL_S:g} s") from error
        except aiohttp.WSServerHandshakeError as error:
            raise NotebookError(
                f"refuses a kernel's websocket to a page of another origin (HTTP {error.status}): "
                "see that proxies before it pass websockets on"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            raise NotebookError(f"has no kernel that can be talked to ({describe(error)})") from error

    async def end(self) -> None:
        """Shut the server down; one that stays ends by its idleness."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._request("POST", "api/shutdown"):
                pass

    async def _talk(self, kernel: str) -> None:
        factors = secrets.randbelow(10_000), secrets.randbelow(10_000)
        message = secrets.token_hex(16)
        address = f"{self._url}api/kernels/{kernel}/channels"
        async with self._session.ws_connect(
            address, headers={"Origin": self._origin}, params={"token": self._token}, max_msg_size=2**20
        ) as socket:
            await socket.send_str(json.dumps(_execution(message, f"print({factors[0]} * {factors[1]})")))
            async for frame in socket:
                if frame.type is aiohttp.WSMsgType.TEXT and _printed(frame.data, message) == factors[0] * factors[1]:
                    return
        raise NotebookError("breaks a kernel's websocket off")

    def _request(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"token {self._token}", "Origin": self._origin}
        return self._session.request(
            method, self._url + path, headers=headers, timeout=_TIMEOUT, allow_redirects=False, **options
        )


def _is_another(allowed: str, url: str) -> bool:
    """Whether a header's value is an origin, and not the one of a URL."""
    try:
        return origin(allowed) == allowed.lower() and origin(allowed) != origin(url)
    except ValueError:
        return False


def _execution(message: str, code: str) -> dict[str, Any]:
    names = {"msg_id": message, "msg_type": "execute_request", "username": "", "session": message, "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    return {
        "header": {**names, "date": ""},
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


def _printed(data: str, message: str) -> int | None:
    """The number that a message says was printed."""
    wire = json.loads(data)
    if wire.get("parent_header", {}).get("msg_id") != message or wire.get("header", {}).get("msg_type") != "stream":
        return None
    text = str(wire["content"]["text"]).strip()
    return int(text) if text.isascii() and text.isdigit() else None
