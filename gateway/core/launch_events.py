"""Launch events: what is told to everybody of each launch that has ended, one event a launch.

A launch that became ready gives BinderHub's own event, ``binderhub.jupyter.org/launch`` version 6, with its fields and
no others.  Any other one gives ``manybinder/launch-failure``, whose fields are the same and a few more.  Neither holds
anything of the visitor.  docs/launch-events.md describes both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from contract.events import Phase
from gateway.core.launch import Outcome
from gateway.core.origins import origin
from gateway.core.redaction import public_spec
from gateway.core.settings import PositiveCount
from providers.base import RepoSpec
from providers.names import PROVIDER_NAMES

LAUNCH, LAUNCH_VERSION = "binderhub.jupyter.org/launch", 6
FAILURE, FAILURE_VERSION = "manybinder/launch-failure", 1

#: Stands for a spec that is not for everybody.
REDACTED = "redacted"

#: The values of Sec-Fetch-Site (W3C, "Fetch Metadata Request Headers").
_FETCH_SITES = frozenset({"same-origin", "same-site", "cross-site", "none"})

_RESOLVED_REF = re.compile(r"[A-Za-z0-9._-]{1,100}")

_ORIGIN = re.compile(r"https?://(?P<host>[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?|\[::1\])(?::\d{1,5})?")
# The last label of a host is a number in an address only (WHATWG, "URL": ends in a number).
_ADDRESS = re.compile(r"\[.*|(?:.*\.)?(?:\d+|0x[0-9a-f]*)")
_LOOPBACK = re.compile(r"127(?:\.\d{1,3}){3}|\[::1\]")


@dataclass(frozen=True)
class ArchiveSettings:
    """The public archive of launches."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    enabled: bool = True
    """Whether launches are archived, and the archive is served."""

    directory: str = ""
    """Where it is kept; empty: ``archive`` in the gateway's data directory."""

    keep_days: PositiveCount | None = None
    """How many days are kept, today's among them; none: all."""


@dataclass(frozen=True, slots=True)
class FinishedLaunch:
    """A launch that has ended.

    ``ended_at`` is Unix time in seconds; ``phase`` the last one before the end; ``host_url`` the URL of the member that
    had the launch last, or of the gateway where none had; ``commit`` is empty if the ref was not resolved, ``member``
    if none had the launch last.  ``request_origin`` is what :func:`request_origin` gives.  ``known_public``: see
    :func:`gateway.core.redaction.public_spec`.  ``may_be_private``: whoever builds it has credentials for its server.
    """

    spec: RepoSpec
    outcome: Outcome
    ended_at: float
    host_url: str
    commit: str = ""
    member: str = ""
    attempts: int = 0
    phase: Phase = Phase.WAITING
    build_token: bool = False
    request_origin: str = ""
    known_public: bool = False
    may_be_private: bool = False


@dataclass(frozen=True, slots=True)
class LaunchEvent:
    """An event; ``at`` is Unix time in seconds, ``redacted`` says that its spec is left out."""

    at: float
    schema: str
    version: int
    fields: Mapping[str, str | int | bool]
    redacted: bool

    def to_wire(self, timestamp: str) -> dict[str, str | int | bool]:
        """The event in BinderHub's capsule."""
        return {"timestamp": timestamp, "schema": self.schema, "version": self.version, **self.fields}


def launch_event(launch: FinishedLaunch) -> LaunchEvent:
    """The event of a launch; raises ``ValueError`` for a provider that BinderHub's event has no name for."""
    provider = PROVIDER_NAMES.get(launch.spec.provider)
    if provider is None:
        raise ValueError(f"launch events have no name for the provider {launch.spec.provider[:80]!r}")
    # What was never resolved may be somebody's private repository, or a slip of the keyboard.
    hidden = not launch.commit or (launch.may_be_private and not launch.known_public)
    spec = None if hidden else public_spec(launch.spec, known_public=launch.known_public)
    # Of a repository that is not told, the commit is not told either: it can be looked for.
    ref = launch.commit if spec is not None and _RESOLVED_REF.fullmatch(launch.commit) else ""
    ready = launch.outcome == Outcome.READY
    fields: dict[str, str | int | bool] = {
        "provider": provider,
        "spec": REDACTED if spec is None else spec.partition("/")[2],
        "ref": ref,
        "status": "success" if ready else "failure",
        "build_token": launch.build_token,
        "origin": _host(launch.host_url),
        # Whatever has come to be in the field, nothing but an origin or a word leaves.
        "request_origin": _public_origin(launch.request_origin),
    }
    if ready:
        return LaunchEvent(launch.ended_at, LAUNCH, LAUNCH_VERSION, fields, spec is None)
    fields |= {
        "failure": launch.outcome.value,
        "member": launch.member,
        "attempts": launch.attempts,
        "phase": launch.phase.value,
    }
    return LaunchEvent(launch.ended_at, FAILURE, FAILURE_VERSION, fields, spec is None)


def request_origin(origin_header: str | None, fetch_site: str | None) -> str:
    """From where a launch is asked for, as BinderHub tells it: Origin, or else Sec-Fetch-Site, which scripts lack.

    ``None`` stands for a header that is absent.
    """
    return _public_origin((fetch_site or "") if origin_header is None else origin_header)


def _public_origin(text: str) -> str:
    """An origin on the web, or a value of Sec-Fetch-Site; empty for anything else.

    Left out is what could tell of a visitor: a host that is an address (of their own machine), the scheme of a browser
    extension (whose host may be a browser's own id), and whatever a forged header holds.
    """
    if text in _FETCH_SITES or text == "null":
        return text
    text = text.lower()
    form = _ORIGIN.fullmatch(text)
    if form is None or (_ADDRESS.fullmatch(form["host"]) and not _LOOPBACK.fullmatch(form["host"])):
        return ""
    return text


def _host(url: str) -> str:
    """The host of a URL with its port, where that is not its scheme's own; empty if there is none."""
    try:
        return origin(url).partition("://")[2]
    except ValueError:
        return ""
