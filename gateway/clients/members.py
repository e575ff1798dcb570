"""One HTTP client for all members: probes, build streams, cancellation.

Speaks BinderHub's public API as members serve it.  Redirects are never followed: a member's answer is its own.
"""

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, event, parse_event
from contract.json_types import loads_object
from contract.launches import event_id, parse_event_id
from contract.reports import Check
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.orders import LaunchOrder, Told
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from gateway.core.transitions import ProbeResult

logger = logging.getLogger(__name__)

#: The longest answer to a probe that is read.
MAX_ANSWER = 256 * 1024

#: Seconds after which a member that has no room is asked again, where it does not say when.
RETRY_AFTER = 30.0

_CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class MemberClient:
    """Talks to members; ``session`` stays the caller's to close, ``settings`` gives those of the moment."""

    def __init__(self, session: aiohttp.ClientSession, settings: Callable[[], LaunchSettings]) -> None:
        self._session = session
        self._current = settings

    @property
    def _settings(self) -> LaunchSettings:
        return self._current()

    async def probe(self, member: Member, timeout_s: float, *, versions: bool = False) -> ProbeResult:
        """Ask for ``/health`` within a deadline, and for ``/versions`` within another; never raises."""
        try:
            async with asyncio.timeout(timeout_s):
                status, body = await self._get(member, "health")
        except TimeoutError:
            return ProbeResult(False, False, f"It did not answer within {timeout_s:g} s.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return ProbeResult(False, False, f"It could not be reached: {describe(error)}.")
        found = await self._versions(member, timeout_s) if versions else {}
        try:
            return _health(status, body, found)
        except ValueError:
            return ProbeResult(True, False, f"It answered its health check with HTTP {status} and no JSON.", (), found)

    async def build(self, member: Member, order: LaunchOrder) -> AsyncGenerator[Told, None]:
        """A launch's events, each as soon as it has arrived, up to the final one.

        Raises :class:`MemberFault`.  Closing the generator closes the connection.
        """
        headers = {"Accept": sse.CONTENT_TYPE, "Authorization": f"Bearer {order.token}", "Cache-Control": "no-cache"}
        if order.heard >= 0:
            headers["Last-Event-ID"] = event_id(order.launch_id, order.heard)
        deadline = asyncio.get_running_loop().time() + self._settings.first_event_timeout
        begun = False
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._session.get(
                    _address(member, f"build/{order.spec}"),
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout),
                )
        except TimeoutError as error:
            raise _late(error, self._settings) from error
        except (aiohttp.ClientError, OSError) as error:
            fault = Fault.CONNECT if isinstance(error, _CONNECT_ERRORS) else Fault.CUT
            raise MemberFault(fault, f"could not be reached ({describe(error)})") from error
        try:
            _check_stream(response)
            parser = sse.Parser()
            while True:
                chunk = await self._chunk(response, None if begun else deadline)
                for item in parser.feed(chunk):
                    begun = True
                    told = Told(_event(item.data), _number(item.id, order.launch_id))
                    yield told
                    if told.event.is_final:
                        return
        except sse.StreamTooLongError as error:
            raise MemberFault(Fault.ANSWER, f"sent something that is no build stream ({error})") from error
        finally:
            # Never back to the pool: what is left of a stream is of no use.
            response.close()

    async def cancel(self, member: Member, launch_id: str, timeout_s: float = 5.0) -> None:
        """Tell a member to end a launch; never raises: a member that does not hear it ends the launch by itself."""
        try:
            async with self._session.delete(
                _address(member, f"api/v1/launches/{launch_id}"),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                if response.status not in (204, 404):
                    logger.warning("%s answered %d when told to cancel a launch", member.name, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            logger.warning("%s could not be told to cancel a launch: %s", member.name, describe(error))

    async def _chunk(self, response: aiohttp.ClientResponse, deadline: float | None) -> bytes:
        """The next bytes, within what is left until the first event or the bound on silence."""
        try:
            timeout = asyncio.timeout_at(deadline) if deadline else asyncio.timeout(self._settings.silence_timeout)
            async with timeout:
                chunk = await response.content.readany()
        except TimeoutError as error:
            if deadline:
                raise _late(error, self._settings) from error
            seconds = self._settings.silence_timeout
            raise MemberFault(Fault.SILENCE, f"has fallen silent for {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise MemberFault(Fault.CUT, f"broke the stream ({describe(error)})") from error
        if not chunk:
            raise MemberFault(Fault.CUT, "ended the stream before the launch had ended")
        return chunk

    async def _get(self, member: Member, path: str) -> tuple[int, bytes]:
        async with self._session.get(_address(member, path), allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError(f"its answer is longer than {MAX_ANSWER} bytes")
            return response.status, bytes(body)

    async def _versions(self, member: Member, timeout_s: float) -> dict[str, str]:
        """What it says of its versions; a member that does not say is none the worse for it."""
        try:
            async with asyncio.timeout(timeout_s):
                status, body = await self._get(member, "versions")
            return _flat(loads_object(body)) if status == 200 else {}
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return {}


def describe(error: BaseException) -> str:
    """What a network error is, for people; without addresses and class names where that can be."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or 'no reason is given'}"
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno in errno.errorcode:
        return os.strerror(cause.errno).lower()
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()  # of a name that cannot be looked up
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "the connection was closed"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ClientResponseError):
        # Its text holds the whole URL, which may bear a token or a launch's id.
        return "its answer is not HTTP"
    return (" ".join(str(error).split())[:200] or type(error).__name__).rstrip(".")


def _address(member: Member, path: str) -> URL:
    return URL(f"{member.url.rstrip('/')}/{path}", encoded=True)


def _late(error: TimeoutError, settings: LaunchSettings) -> MemberFault:
    if isinstance(error, aiohttp.ServerTimeoutError | aiohttp.ConnectionTimeoutError):
        return MemberFault(Fault.CONNECT, f"could not be reached within {settings.connect_timeout:g} s")
    return MemberFault(Fault.HANG, f"did not begin within {settings.first_event_timeout:g} s")


def _check_stream(response: aiohttp.ClientResponse) -> None:
    if response.status == 429:
        raise MemberFault(Fault.REFUSED, "refused the launch (HTTP 429)", _retry_after(response))
    if response.status != 200:
        raise MemberFault(Fault.STATUS, f"answered HTTP {response.status}")
    if response.content_type != sse.CONTENT_TYPE:
        raise MemberFault(Fault.ANSWER, f"answered with {response.content_type[:80]} instead of a build stream")


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and 0 < int(text) < 3600 else RETRY_AFTER


def _event(data: str) -> BuildEvent:
    try:
        return parse_event(data)
    except ValueError:
        return event(Phase.UNKNOWN, data + "\n")


def _number(text: str, launch_id: str) -> int:
    """A member's number of an event, by which it can be asked to go on after it; -1 if it has none."""
    parsed = parse_event_id(text)
    return parsed[1] if parsed is not None and parsed[0] == launch_id else -1


def _health(status: int, body: bytes, versions: Mapping[str, str]) -> ProbeResult:
    """Read an answer of BinderHub's ``/health``; raises ``ValueError`` if it is no JSON object."""
    wire = loads_object(body)
    checks = []
    listed = wire.get("checks")
    for item in listed if isinstance(listed, list) else []:
        if isinstance(item, dict) and isinstance(item.get("service"), str):
            message = item.get("message", "")
            checks.append(Check(item["service"], item.get("ok") is True, message if isinstance(message, str) else ""))
    if status == 200 and wire.get("ok") is True:
        return ProbeResult(True, True, "", tuple(checks), versions)
    if status not in (200, 503):
        return ProbeResult(True, False, f"It answered its health check with HTTP {status}.", tuple(checks), versions)
    failing = ", ".join(check.service for check in checks if not check.ok)[:300] or "it does not say what"
    return ProbeResult(True, False, f"It says that it is not healthy: {failing}.", tuple(checks), versions)


def _flat(wire: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """An answer of ``/versions`` as texts: ``builder_info.repo2docker-version`` → its value."""
    flat = {}
    for key, value in list(wire.items())[:50]:
        if isinstance(value, dict) and not prefix:
            flat.update(_flat(value, f"{key}."))
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = str(value)[:200]
    return flat
