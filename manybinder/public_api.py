"""A gateway's public API as a client sees it, and what its failures mean for a command."""

import os
from typing import Any

import aiohttp
from yarl import URL

from contract.json_types import loads_object
from manybinder.errors import CommandError, Exit
from manybinder.terminal import plain

_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)


def client() -> aiohttp.ClientSession:
    """A session for a command; specs in redirects stay encoded as they came."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, requote_redirect_url=False, cookie_jar=aiohttp.DummyCookieJar())


async def get_object(http: aiohttp.ClientSession, base: str, path: str, **query: str) -> dict[str, Any]:
    """GET a JSON object; raises :class:`CommandError`."""
    try:
        async with http.get(URL(base + path, encoded=True).update_query(query)) as response:
            body = await response.text(errors="replace")
            if response.status == 200:
                return loads_object(body)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise unreachable(base, error) from error
    except ValueError as error:
        raise CommandError(f"{base} gave an answer that is not understood: {error}") from error
    raise refused(base, response.status, body)


def unreachable(base: str, error: BaseException) -> CommandError:
    """The error for a gateway that could not be asked."""
    return CommandError(f"cannot reach {base}: {reason(error)}", Exit.UNREACHABLE)


def refused(base: str, status: int, body: str = "") -> CommandError:
    """The error for an answer that is none; what a problem+json says is passed on."""
    text = detail(body)
    if status in (403, 429):
        return CommandError(text or f"{base} refused (HTTP {status})", Exit.REFUSED)
    if status in (502, 503, 504):
        return CommandError(f"cannot reach {base}: {text or f'HTTP {status}'}", Exit.UNREACHABLE)
    if status == 404 and not text:
        return CommandError(f"{base} does not have this: is it a manybinder gateway?")
    return CommandError(text or f"{base} answered HTTP {status}")


def detail(body: str) -> str:
    """The sentence in a problem+json body; "" if it is none."""
    try:
        found = loads_object(body).get("detail", "")
    except ValueError:
        return ""
    return plain(found) if isinstance(found, str) else ""


def reason(error: BaseException) -> str:
    """Why a connection failed, for people."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno and error.os_error.errno > 0:
        return os.strerror(error.os_error.errno)
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return str(error) or type(error).__name__
