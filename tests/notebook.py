"""A visitor's notebook client: speaks to a running Jupyter server over HTTP and the kernel websocket."""

import asyncio
import json
import uuid
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
from yarl import URL


class Notebook:
    """A session's Jupyter server, reached as the visitor's browser does: through the member's proxy.

    Without a token it is the cookies that let in, those of a browser that has opened the session.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self.url = url.rstrip("/") + "/"
        self.token = token

    @classmethod
    def at(cls, http: aiohttp.ClientSession, notebook_url: str) -> "Notebook":
        """From the URL that ``manybinder launch`` prints, whatever page of the session it opens."""
        parts = urlsplit(notebook_url)
        prefix = "/".join(parts.path.split("/")[:3])  # /user/<name>
        return cls(http, f"{parts.scheme}://{parts.netloc}{prefix}/", parse_qs(parts.query)["token"][0])

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"} if self.token else {"X-XSRFToken": self._xsrf()}

    def _xsrf(self) -> str:
        cookie = self._http.cookie_jar.filter_cookies(URL(self.url)).get("_xsrf")
        return cookie.value if cookie else ""

    async def get(self, path: str) -> Any:
        """GET an API path below the session's URL; raises on an error status."""
        async with self._http.get(self.url + path, headers=self._headers(), raise_for_status=True) as response:
            return await response.json()

    async def start_kernel(self) -> str:
        """Start a Python kernel; returns its id."""
        async with self._http.post(
            self.url + "api/kernels", headers=self._headers(), json={"name": "python3"}, raise_for_status=True
        ) as response:
            return str((await response.json())["id"])

    async def run(self, code: str, deadline_s: float = 150) -> str:
        """Run code in a new kernel; returns what it printed, with the error's text if it raised."""
        async with asyncio.timeout(deadline_s):
            kernel = await self.start_kernel()
            query = f"token={self.token}" if self.token else f"_xsrf={quote(self._xsrf())}"
            url = f"{self.url}api/kernels/{kernel}/channels?{query}"
            async with self._http.ws_connect(url, headers=self._headers(), max_msg_size=0) as socket:
                message_id = uuid.uuid4().hex
                await socket.send_str(json.dumps(_execute_request(message_id, code)))
                return await _output(socket, message_id)


def _execute_request(message_id: str, code: str) -> dict[str, Any]:
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    header = {
        "msg_id": message_id,
        "msg_type": "execute_request",
        "username": "",
        "session": uuid.uuid4().hex,
        "version": "5.3",
        "date": "",
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }


async def _output(socket: aiohttp.ClientWebSocketResponse, message_id: str) -> str:
    parts: list[str] = []
    async for frame in socket:
        message = json.loads(frame.data)
        if message.get("parent_header", {}).get("msg_id") != message_id:
            continue
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            parts.append(content["text"])
        elif kind == "execute_result":
            parts.append(content["data"].get("text/plain", ""))
        elif kind == "error":
            parts.append(f"{content['ename']}: {content['evalue']}\n")
        elif kind == "status" and content["execution_state"] == "idle":
            return "".join(parts)
    raise AssertionError("the kernel's websocket closed before the code had ended")
