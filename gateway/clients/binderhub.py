"""Any BinderHub as a member, through its public API.

What it does otherwise than a member of manybinder: it rate-limits builds without a build token, counts its sessions in
its health check, does not say whose a failure is, may leave a stream open after a failure or add a second one, and
cannot be told to cancel.
"""

import asyncio
import binascii
import json
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp

from contract import sse
from contract.events import BuildEvent, Phase
from contract.json_types import loads_object
from frontend.page_config import parse_page_config
from frontend.tokens import make_build_token
from gateway.clients import binderhub_check as check
from gateway.clients.answers import address, check_stream, describe, late, read_event
from gateway.clients.binderhub_check import Answer, Finding
from gateway.clients.binderhub_failures import Course
from gateway.clients.binderhub_health import read_health
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.members import MAX_ANSWER, MemberClient
from gateway.clients.orders import LaunchOrder, Told
from gateway.core.fleet import Member
from gateway.core.origins import origin
from gateway.core.settings import LaunchSettings
from gateway.core.transitions import ProbeResult

#: The share of the time until the first event that may go into a page with a token.
PAGE_SHARE = 0.3

#: Seconds that a failure without a word waits for the one with the reason, which comes another way and may be later.
REASON_WITHIN = 1.0

#: BinderHub's pages before 2024 (``<meta id="build-token" data-token="…">``), and variants of them.
_OLD_TOKEN = re.compile(
    r"""id=["']build-token["'][^<>]{0,200}?\bdata-token=["']([\w.=-]+)["']|\bdata-build-token=["']([\w.=-]+)["']""",
    re.ASCII,
)
_TOKEN = re.compile(r"[\w.=-]{1,4096}", re.ASCII)


class BinderHubClient(MemberClient):
    """Talks to BinderHubs; ``session`` stays the caller's to close.

    ``secrets`` are their build token secrets by member, looked up anew for each launch; ``public_url`` the gateway's.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: Callable[[], LaunchSettings],
        secrets: Mapping[str, str | bytes],
        *,
        public_url: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(session, settings)
        self._secrets, self._public_url, self._wall = secrets, public_url, wall

    def _read_health(self, status: int, body: bytes, versions: Mapping[str, str]) -> ProbeResult:
        return read_health(status, body, versions)

    async def build(self, member: Member, order: LaunchOrder) -> AsyncGenerator[Told, None]:
        """A launch's events, each as soon as it has arrived, up to the final one, which says whose a failure is.

        Raises :class:`MemberFault`.  Closing the generator closes the connection.
        """
        deadline = asyncio.get_running_loop().time() + self._settings.first_event_timeout
        token = await self._build_token(member, order.spec)
        headers = {"Accept": sse.CONTENT_TYPE, **self._headers(member)}
        response = await self._open(member, _with_token(order.path, token), headers, deadline)
        try:
            check_stream(response)
            course = Course()
            async with aclosing(self._events(response, deadline)) as events:
                async for item in events:
                    yield Told(course.take(item))
        except sse.StreamTooLongError as error:
            raise MemberFault(Fault.ANSWER, f"sent something that is no build stream ({error})") from error
        finally:
            # Never back to the pool: what is left of a stream is of no use.
            response.close()

    async def cancel(self, member: Member, launch_id: str, timeout_s: float = 5.0) -> None:
        """Nothing: a BinderHub is told by the end of the connection alone, which the end of the stream has closed."""

    async def conformance(self, member: Member, timeout_s: float = 10.0) -> list[Finding]:
        """What stands in the way of being a member; never raises, and launches nothing.

        Without the member's secret, the question counts as one build for its rate limit.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._findings(member)
        except TimeoutError:
            what = f"It did not answer within {timeout_s:g} s."
        except (aiohttp.ClientError, OSError, ValueError) as error:
            what = f"It could not be reached: {describe(error)}."
        return [Finding(what, True, "See that its address in members is right, and that it can be reached from here.")]

    async def _findings(self, member: Member) -> list[Finding]:
        findings = check.health_findings(await self._ask(member, "health"))
        findings += check.versions_findings(await self._ask(member, "versions"))
        page = await self._ask(member, f"v2/{await self._some_provider(member)}/manybinder/conformance/HEAD")
        findings += check.page_findings(page, self._public_url)
        token = self._signed_token(member, check.NO_PROVIDER)
        build = await self._ask(
            member, _with_token(f"build/{check.NO_PROVIDER}", token), {"Accept": sse.CONTENT_TYPE}, until_event=True
        )
        findings += check.build_findings(build, signed=bool(token), page_token=bool(_token_on(page.text)))
        return list(dict.fromkeys(findings))

    async def _some_provider(self, member: Member) -> str:
        """A provider that has pages there."""
        answer = await self._ask(member, "api/repoproviders")
        try:
            listed = json.loads(answer.body)
        except (ValueError, RecursionError):
            return "gh"
        ids = [item.get("id") for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        good = [name for name in ids if isinstance(name, str) and re.fullmatch(r"[a-z0-9]{1,40}", name)]
        return "gh" if "gh" in good or not good else good[0]

    def _headers(self, member: Member) -> dict[str, str]:
        # A token is bound to the host in Origin, or to that in Host, which a proxy before the member may rewrite.
        return {"Origin": origin(self._public_url or member.url), "Cache-Control": "no-cache"}

    def _signed_token(self, member: Member, spec: str) -> str:
        secret = secret_bytes(self._secrets.get(member.name, ""))
        if not secret:
            return ""
        return make_build_token(secret, spec, urlsplit(self._headers(member)["Origin"]).netloc, self._wall())

    async def _build_token(self, member: Member, spec: str) -> str:
        """A token for a build, signed here or from the member's page; "" if none is to be had.

        Raises :class:`MemberFault` only where the member cannot be reached: all else the build itself will tell.
        """
        if token := self._signed_token(member, spec):
            return token
        try:
            async with asyncio.timeout(self._settings.first_event_timeout * PAGE_SHARE):
                return _token_on((await self._ask(member, f"v2/{spec}")).text)
        except aiohttp.ConnectionTimeoutError as error:
            raise late(error, self._settings) from error
        except aiohttp.ClientConnectorError as error:
            raise MemberFault(Fault.CONNECT, f"could not be reached ({describe(error)})") from error
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return ""

    async def _ask(
        self, member: Member, path: str, headers: Mapping[str, str] | None = None, *, until_event: bool = False
    ) -> Answer:
        """What an address answers, cut where it becomes too long; ``until_event``: read no more than one event."""
        async with self._session.get(
            address(member, path),
            headers={**self._headers(member), **(headers or {})},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._settings.connect_timeout),
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER or (until_event and b"data:" in body and body.endswith(b"\n\n")):
                    response.close()
                    break
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, response.content_type, found, bytes(body[:MAX_ANSWER]))

    async def _events(self, response: aiohttp.ClientResponse, deadline: float) -> AsyncGenerator[BuildEvent, None]:
        """Events as they are sent, up to the first final one.

        A build's pod that has failed and the last words of its log come independently of each other.
        """
        loop = asyncio.get_running_loop()
        parser, begun = sse.Parser(), False
        wordless: BuildEvent | None = None
        reason_until: float | None = None
        while True:
            try:
                async with asyncio.timeout_at(reason_until):
                    chunk = await self._chunk(response, None if begun else deadline)
            except (TimeoutError, MemberFault):
                if wordless is None:
                    raise
                yield wordless
                return
            for item in parser.feed(chunk):
                begun = True
                parsed = _parsed(item.data)
                if parsed.phase == Phase.FAILED and not parsed.message.strip():
                    wordless = wordless or parsed
                    reason_until = reason_until or loop.time() + REASON_WITHIN
                    continue
                yield parsed
                if parsed.is_final:
                    return


def secret_bytes(secret: str | bytes) -> bytes:
    """A build token secret as BinderHub uses it: text is hexadecimal there, as long as it can be."""
    if isinstance(secret, bytes):
        return secret
    try:
        return binascii.a2b_hex(secret.strip())
    except ValueError:
        return secret.strip().encode()


def _with_token(path: str, token: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}build_token={token}" if token else path


def _token_on(page: str) -> str:
    """The build token on a page; "" if there is none."""
    try:
        token = parse_page_config(page).get("buildToken")
    except ValueError:
        token = None
    if isinstance(token, str) and _TOKEN.fullmatch(token):
        return token
    found = _OLD_TOKEN.search(page)
    return (found[1] or found[2]) if found else ""


def _parsed(data: str) -> BuildEvent:
    """An event; BinderHub takes repo2docker's old word ``failure`` for ``failed``."""
    item = read_event(data)
    if item.phase == Phase.UNKNOWN and "failure" in data.lower():
        try:
            phase = loads_object(data).get("phase")
        except ValueError:
            return item
        if isinstance(phase, str) and phase.lower() == "failure":
            return replace(item, phase=Phase.FAILED)
    return item
