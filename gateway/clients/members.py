"""One HTTP client for all members: probes, build streams, cancellation.

Speaks BinderHub's public API as members serve it.  Redirects are never followed: a member's answer is its own.
"""

import asyncio
import io
import logging
from collections.abc import AsyncGenerator, Callable, Mapping

import aiohttp

from contract import sse
from contract.json_types import loads_object
from contract.launches import event_id
from gateway.clients.answers import (
    CONNECT_ERRORS,
    address,
    check_stream,
    describe,
    flat_versions,
    late,
    number_of,
    read_event,
    read_health,
)
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.orders import LaunchOrder, Told
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from gateway.core.transitions import ProbeResult

logger = logging.getLogger(__name__)

#: The longest answer to a probe that is read.
MAX_ANSWER = 256 * 1024

#: Bytes that are shown of an answer that was not hoped for.
_SHOWN = 300


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
            return self._read_health(status, body, found)
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
        response = await self._open(member, order.path, headers, deadline)
        try:
            check_stream(response)
            parser = sse.Parser()
            while True:
                chunk = await self._chunk(response, None if begun else deadline)
                for item in parser.feed(chunk):
                    begun = True
                    told = Told(read_event(item.data), number_of(item.id, order.launch_id))
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
                address(member, f"api/v1/launches/{launch_id}"),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                if response.status not in (204, 404):
                    logger.warning("%s answered %d when told to cancel a launch", member.name, response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            logger.warning("%s could not be told to cancel a launch: %s", member.name, describe(error))

    async def put_bans(self, member: Member, token: str, timeout_s: float = 5.0) -> str | None:
        """Tell a member the bans of the federation, signed; ``None``, or why it does not know them now."""
        try:
            async with self._session.put(
                address(member, "api/v1/bans"),
                data=io.BytesIO(token.encode()),
                headers={"Content-Type": "application/jwt"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                # 409: it has newer ones, of another replica.
                if response.status in (204, 409):
                    return None
                said = await response.content.read(_SHOWN)
                return f"it answered HTTP {response.status}: {' '.join(said.decode(errors='replace').split())}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return describe(error)

    def _read_health(self, status: int, body: bytes, versions: Mapping[str, str]) -> ProbeResult:
        """What an answer to a probe means for this kind of member; raises ``ValueError`` if it is no JSON object."""
        return read_health(status, body, versions)

    async def _open(
        self, member: Member, path: str, headers: Mapping[str, str], deadline: float
    ) -> aiohttp.ClientResponse:
        """Ask for a stream; raises :class:`MemberFault`."""
        try:
            async with asyncio.timeout_at(deadline):
                return await self._session.get(
                    address(member, path),
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout),
                )
        except TimeoutError as error:
            raise late(error, self._settings) from error
        except aiohttp.ClientResponseError as error:
            raise MemberFault(Fault.ANSWER, f"gave no answer that can be read ({describe(error)})") from error
        except (aiohttp.ClientError, OSError) as error:
            fault = Fault.CONNECT if isinstance(error, CONNECT_ERRORS) else Fault.CUT
            raise MemberFault(fault, f"could not be reached ({describe(error)})") from error

    async def _chunk(self, response: aiohttp.ClientResponse, deadline: float | None) -> bytes:
        """The next bytes, within what is left until the first event or the bound on silence."""
        try:
            timeout = asyncio.timeout_at(deadline) if deadline else asyncio.timeout(self._settings.silence_timeout)
            async with timeout:
                chunk = await response.content.readany()
        except TimeoutError as error:
            if deadline:
                raise late(error, self._settings) from error
            seconds = self._settings.silence_timeout
            raise MemberFault(Fault.SILENCE, f"has fallen silent for {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise MemberFault(Fault.CUT, f"broke the stream ({describe(error)})") from error
        if not chunk:
            raise MemberFault(Fault.CUT, "ended the stream before the launch had ended")
        return chunk

    async def _get(self, member: Member, path: str) -> tuple[int, bytes]:
        async with self._session.get(address(member, path), allow_redirects=False) as response:
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
            return flat_versions(loads_object(body)) if status == 200 else {}
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return {}
