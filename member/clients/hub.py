"""JupyterHub's REST API, in the order in which a launch needs it.

Source: JupyterHub's documentation, "JupyterHub REST API", and what BinderHub does.  Works with JupyterHub 5 and 6.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from contract import sse
from contract.json_types import loads_object
from contract.repos import RepoKey, repo_key
from member.core.launching import server_key

logger = logging.getLogger(__name__)

#: Seconds before a second try; doubled for each further one, at most :data:`_LONGEST_PAUSE_S`.
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0

#: Users in one answer of the Hub.
_PAGE = 200

_PAGINATED = {"Accept": "application/jupyterhub-pagination+json"}


class HubError(Exception):
    """The Hub did not do what it was asked; the text is a sentence for the operator.

    ``status`` is what it answered, if that says something.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class HubBusyError(HubError):
    """The Hub answered 429, 5xx or not at all: worth another try."""


class SpawnFailedError(HubError):
    """The Hub tried to start the server and failed; the text is the Hub's."""


class UserRefusedError(HubError):
    """The Hub takes nobody who is called so; the text is for the operator."""


_UNKNOWN = RepoKey("")


@dataclass(frozen=True, slots=True)
class HubUser:
    """A user of the Hub with one of its servers, of which ``ready`` and ``pending`` say whether it runs or starts.

    ``server`` is the server's name, "" for the default one, which a user without a server has too.
    """

    name: str
    ready: bool
    pending: bool
    server: str = ""
    stopping: bool = False
    image: str = ""
    repo_url: str = ""
    repo: RepoKey = _UNKNOWN
    """The key of its repository, by which quotas and bans go."""
    spec: str = ""
    """What its visitor has asked for, with its provider."""
    client_ip: str = ""
    """What is known of the visitor's address."""
    launch_host: str = ""
    """Where its visitor came to: the public URL of a gateway, or of this member."""

    @property
    def key(self) -> str:
        """What names this server among all (:func:`member.core.launching.server_key`)."""
        return server_key(self.name, self.server)

    @property
    def has_server(self) -> bool:
        """Whether a server is there, starts or stops."""
        return self.ready or self.pending


class HubClient:
    """Talks to one Hub; ``session`` stays the caller's to close.  ``url`` ends with a slash.

    ``renewed`` says what the token is now, and is asked when the Hub has refused the one that it was.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        token: str,
        timeout_s: float,
        *,
        renewed: Callable[[], str] | None = None,
    ) -> None:
        self._session = session
        self._api = f"{url}hub/api/"
        self._token, self._renewed = token, renewed
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    @property
    def token(self) -> str:
        """The token that is good now, as far as is known."""
        return self._token

    async def version(self) -> str:
        """The Hub's version; raises :class:`HubError`."""
        answer = await self._once("GET", "")
        return str(answer.get("version", "unknown"))

    async def start(self, user: str, options: Mapping[str, str], server: str = "") -> None:
        """Make the user and ask for its server, trying again while the Hub is busy; the caller sets the deadline.

        ``server`` is its name, "" for the default one.  A user that exists already is this launch's own (see
        :func:`member.core.launching.user_name`), or a person.
        Raises :class:`HubError`; :class:`UserRefusedError` where it is the name that the Hub does not take.
        """
        if not user.strip("."):
            # An address of it would be another one; JupyterHub takes no such name either.
            raise UserRefusedError(f"nobody can be called {user!r} at a Hub")
        try:
            await self._patiently("POST", self._user(user), accept=(201, 409))
        except HubError as error:
            if error.status != 400:
                raise
            raise UserRefusedError(str(error)) from error
        # 400: the server is there or starting, from an attempt whose answer was lost; its progress will tell.
        await self._patiently("POST", self._server(user, server), body=dict(options), accept=(201, 202, 400))

    async def progress(self, user: str, server: str = "") -> AsyncGenerator[str, None]:
        """The messages of a server that starts; ends once it is ready.

        Raises :class:`SpawnFailedError` if it failed, :class:`HubBusyError` if the stream broke: follow it again.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout.total, sock_read=60)
        address = f"{self._api}{self._server(user, server)}/progress"
        try:
            sent = self._token
            async with self._session.get(address, headers=self._authorization(), timeout=timeout) as response:
                if response.status in (401, 403) and self._has_other_token(sent):
                    raise HubBusyError("the Hub has a new token for this member")
                if response.status != 200:
                    raise _refusal("follow the start of a server", response.status, await response.text())
                parser = sse.Parser()
                async for chunk in response.content.iter_any():
                    for item in parser.feed(chunk):
                        event = loads_object(item.data)
                        if event.get("ready"):
                            return
                        if event.get("failed"):
                            raise SpawnFailedError(str(event.get("message") or "no reason given"))
                        if isinstance(event.get("message"), str):
                            yield event["message"]
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise HubBusyError(f"the Hub broke off while a server started: {_describe(error)}") from error
        raise HubBusyError("the Hub broke off while a server started")

    async def remove(self, user: str, server: str = "", *, keep_user: bool = False) -> None:
        """Stop a user's server and, unless it is kept, delete the user; what is not there is no error.

        Raises :class:`HubError`.
        """
        # 202: it stops slowly, and the Hub deletes no user whose server is stopping.
        address, body = self._server(user, server), {"remove": True} if server else None
        await self._patiently("DELETE", address, body=body, accept=(202, 204, 400, 404))
        if keep_user:
            await self._patiently("DELETE", address, accept=(204, 400, 404), retry=(202,))
        else:
            await self._patiently("DELETE", self._user(user), accept=(204, 404), retry=(400,))

    async def users(self, *, patient: bool = False, stopped: bool = False) -> list[HubUser]:
        """All users, one with several servers so many times; ``stopped``: with named servers that have stopped.

        ``patient``: asking again while the Hub is busy, the caller sets the deadline.

        Raises :class:`HubError`.
        """
        ask = self._patiently if patient else self._once
        more = "&include_stopped_servers=1" if stopped else ""
        found: list[HubUser] = []
        offset: int | None = 0
        while offset is not None:
            page = await ask("GET", f"users?limit={_PAGE}&offset={offset}{more}", headers=_PAGINATED)
            found += [user for item in page.get("items", []) for user in _hub_users(item)]
            following = (page.get("_pagination") or {}).get("next")
            offset = following["offset"] if following else None
        return found

    def _user(self, name: str) -> str:
        return f"users/{quote(name, safe='')}"

    def _server(self, user: str, server: str) -> str:
        return f"{self._user(user)}/servers/{quote(server, safe='')}" if server else f"{self._user(user)}/server"

    async def _patiently(
        self,
        method: str,
        path: str,
        *,
        accept: tuple[int, ...] = (200,),
        body: Mapping[str, Any] | None = None,
        retry: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """A request, made again with growing pauses while the Hub is busy, until the caller's deadline ends it."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await self._once(method, path, accept=accept, body=body, retry=retry, headers=headers)
            except HubBusyError as error:
                logger.info("%s; trying again in %g s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"token {self._token}"}

    def _has_other_token(self, refused: str) -> bool:
        """Whether there is another token than the one that the Hub has refused; it is used from now on."""
        if self._token != refused:
            # Another request, made at the same time, has found it.
            return True
        new = self._renewed() if self._renewed else ""
        if new in ("", refused):
            return False
        self._token = new
        return True

    async def _once(
        self,
        method: str,
        path: str,
        *,
        accept: tuple[int, ...] = (200,),
        body: Mapping[str, Any] | None = None,
        retry: tuple[int, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        sent = self._token
        try:
            async with self._session.request(
                method,
                self._api + path,
                json=body,
                headers={**self._authorization(), **(headers or {})},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                text = await response.text()
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise HubBusyError(f"the Hub does not answer: {_describe(error)}") from error
        if status in (401, 403) and self._has_other_token(sent):
            return await self._once(method, path, accept=accept, body=body, retry=retry, headers=headers)
        if status in accept:
            try:
                return loads_object(text) if status == 200 and text else {}
            except ValueError as error:
                raise HubError(f"the Hub answered {method} {path} with something else than JSON") from error
        if status in retry:
            raise HubBusyError(f"the Hub is not ready for {method} {path.partition('/')[0]} (HTTP {status})")
        raise _refusal(f"{method} {path.partition('?')[0]}", status, text)


def _refusal(request: str, status: int, text: str) -> HubError:
    """The error for an answer that was not hoped for."""
    if status == 429 or status >= 500:
        return HubBusyError(f"the Hub answered HTTP {status} to {request}")
    if status in (401, 403):
        return HubError(f"the Hub does not accept this member's token (HTTP {status} to {request})")
    try:
        reason = str(loads_object(text).get("message", ""))
    except ValueError:
        reason = ""
    return HubError(f"the Hub answered HTTP {status} to {request}{': ' if reason else ''}{reason[:300]}", status)


def _hub_users(item: Mapping[str, Any]) -> list[HubUser]:
    servers = item.get("servers") or {"": {}}
    return [_hub_user(item, name, server or {}) for name, server in servers.items()]


def _hub_user(item: Mapping[str, Any], name: str, server: Mapping[str, Any]) -> HubUser:
    options = server.get("user_options") or {}
    pending = bool(server.get("pending") or (not name and item.get("pending")))
    repo_url = str(options.get("repo_url", ""))
    return HubUser(
        str(item.get("name")),
        bool(server.get("ready")),
        pending,
        server=name,
        stopping=server.get("pending") == "stop",
        image=str(options.get("image", "")),
        repo_url=repo_url,
        repo=RepoKey(str(options.get("repo") or repo_key(repo_url))),
        spec=str(options.get("binder_request", "")).removeprefix("v2/"),
        client_ip=str(options.get("binder_client_ip", "")),
        launch_host=str(options.get("binder_launch_host", "")),
    )


def _describe(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
