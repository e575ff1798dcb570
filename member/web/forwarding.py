"""Requests that another replica of this member answers: passed on as they came, and its answer as it comes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import NoReturn

import aiohttp
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from contract.events import Failure, failed
from frontend.refusals import Refused
from member.core.leases import ReplicaState
from servicekit.streams import WRITE_TIMEOUT_S

logger = logging.getLogger(__name__)

#: Marks a request that was passed on once; it is not again.
HEADER = "Manybinder-Passed-On"

#: Seconds for a connection to another replica, and without a byte from it (streams bring a comment every 25 s).
_CONNECT_S, _SILENCE_S = 5.0, 60.0

#: Seconds for which the log of a build may have nothing to say: it is text, and brings no comments.
_QUIET_LOG_S = 3600.0

#: Headers of one connection, not of the message (RFC 9110, 7.6.1); and what the server writes itself.
_OF_THE_CONNECTION = frozenset(
    name.lower()
    for name in (
        *(hdrs.CONNECTION, hdrs.KEEP_ALIVE, hdrs.PROXY_AUTHENTICATE, hdrs.PROXY_AUTHORIZATION, hdrs.TE, hdrs.TRAILER),
        *(hdrs.TRANSFER_ENCODING, hdrs.UPGRADE, hdrs.CONTENT_LENGTH, hdrs.CONTENT_ENCODING, hdrs.ACCEPT_ENCODING),
        *(hdrs.DATE, hdrs.SERVER),
    )
)


class UnreachedError(Exception):
    """The other replica cannot be reached."""


class Forwarding:
    """``session`` stays the caller's to close; ``others`` gives the replicas that are alive."""

    def __init__(self, session: aiohttp.ClientSession, others: Callable[[], list[ReplicaState]]) -> None:
        self._session, self._others = session, others

    @staticmethod
    def was_passed_on(request: web.Request) -> bool:
        """Whether another replica has sent it here."""
        return HEADER in request.headers

    async def pass_on(self, request: web.Request, address: str) -> web.StreamResponse:
        """Answer with the answer of the replica at ``address``; raises :class:`UnreachedError`."""
        async with self._ask(request, address) as answer:
            return await _relay(request, answer)

    async def first_that_knows(self, request: web.Request) -> web.StreamResponse | None:
        """The answer of the first replica that knows the log that is asked for; ``None`` where none does."""
        if self.was_passed_on(request):
            return None
        for other in self._others():
            try:
                async with self._ask(request, other.address, silence_s=_QUIET_LOG_S) as answer:
                    if answer.status != 404:
                        return await _relay(request, answer)
            except UnreachedError as error:
                logger.info("%s", error)
        return None

    async def tell_all(self, request: web.Request, body: bytes) -> str:
        """Send the same to all other replicas; who has not taken it, "" = all have."""
        if self.was_passed_on(request):
            return ""
        missed = []
        for other in self._others():
            try:
                async with self._ask(request, other.address, body) as answer:
                    # 409: it has a newer one.
                    if answer.status not in (204, 409):
                        missed.append(f"{other.address} answers HTTP {answer.status}")
            except UnreachedError as error:
                missed.append(str(error))
        return "; ".join(missed)

    @asynccontextmanager
    async def _ask(
        self, request: web.Request, address: str, body: bytes | None = None, *, silence_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = _of_the_message(request.headers)
        headers[HEADER] = "1"
        within = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=silence_s or _SILENCE_S)
        try:
            answer = await self._session.request(
                request.method,
                URL(f"{address}{request.raw_path}", encoded=True),
                headers=headers,
                data=body,
                timeout=within,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachedError(f"the replica at {address} cannot be reached: {error}") from error
        try:
            yield answer
        finally:
            answer.close()


def give_up(message: str) -> NoReturn:
    """End a launch that is another replica's, and cannot be had from there: a failure of this member."""
    raise Refused(failed(Failure.MEMBER, message, reason="restart"))


def _of_the_message(headers: Mapping[str, str]) -> "CIMultiDict[str]":
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OF_THE_CONNECTION)


async def _relay(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_of_the_message(answer.headers))
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError):
        # Of either side: the client is gone, or is to see that the answer broke off.
        if request.transport is not None:
            request.transport.abort()
    return response
