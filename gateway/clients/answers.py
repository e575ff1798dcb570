"""What members' answers mean, and their silence: shared by the clients of all kinds of members."""

import errno
import os
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Phase, event, parse_event
from contract.json_types import loads_object
from contract.launches import parse_event_id
from contract.reports import Check
from gateway.clients.faults import Fault, MemberFault
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from gateway.core.transitions import ProbeResult

#: Seconds after which a member that has no room is asked again, where it does not say when.
RETRY_AFTER = 30.0

#: What aiohttp raises where there is no connection at all.
CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


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


def address(member: Member, path: str) -> URL:
    """A route of a member's API; ``path`` is percent-encoded as it is to arrive."""
    return URL(f"{member.url.rstrip('/')}/{path}", encoded=True)


def late(error: TimeoutError, settings: LaunchSettings) -> MemberFault:
    """The fault of a member from which nothing has come in time."""
    if isinstance(error, aiohttp.ServerTimeoutError | aiohttp.ConnectionTimeoutError):
        return MemberFault(Fault.CONNECT, f"could not be reached within {settings.connect_timeout:g} s")
    return MemberFault(Fault.HANG, f"did not begin within {settings.first_event_timeout:g} s")


def check_stream(response: aiohttp.ClientResponse) -> None:
    """Raises :class:`MemberFault` unless the answer is a stream of events."""
    if response.status == 429:
        raise MemberFault(Fault.REFUSED, "refused the launch (HTTP 429)", _retry_after(response))
    if response.status != 200:
        raise MemberFault(Fault.STATUS, f"answered HTTP {response.status}")
    if response.content_type != sse.CONTENT_TYPE:
        raise MemberFault(Fault.ANSWER, f"answered with {response.content_type[:80]} instead of a build stream")


def _retry_after(response: aiohttp.ClientResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and 0 < int(text) < 3600 else RETRY_AFTER


def read_event(data: str) -> BuildEvent:
    """An event; what cannot be read as one is a line of a log."""
    try:
        return parse_event(data)
    except ValueError:
        return event(Phase.UNKNOWN, data + "\n")


def number_of(text: str, launch_id: str) -> int:
    """A member's number of an event, by which it can be asked to go on after it; -1 if it has none."""
    parsed = parse_event_id(text)
    return parsed[1] if parsed is not None and parsed[0] == launch_id else -1


def read_health(status: int, body: bytes, versions: Mapping[str, str]) -> ProbeResult:
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


def flat_versions(wire: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """An answer of ``/versions`` as texts: ``builder_info.repo2docker-version`` → its value."""
    flat = {}
    for key, value in list(wire.items())[:50]:
        if isinstance(value, dict) and not prefix:
            flat.update(flat_versions(value, f"{key}."))
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = str(value)[:200]
    return flat
