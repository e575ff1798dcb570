"""URLs of Git servers, read strictly: Git, ssh and this service must all understand one and the same host.

Source: git-clone(1), "GIT URLS".
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from providers.base import SpecError

DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}

_SCP_STYLE = re.compile(r"(?P<user>[A-Za-z0-9_][\w.-]*)@(?P<host>[A-Za-z0-9_][\w.-]*):(?P<path>[^/].*|/.+)", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9_][\w.-]{0,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([\w.-]{0,251}[A-Za-z0-9_])?", re.ASCII)
_PATH_SAFE = "/%:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True)
class GitURL:
    """A repository's address; ``port`` is ``None`` where the scheme's own is meant, ``user`` is for ssh only."""

    scheme: str
    host: str
    port: int | None
    path: str
    user: str = ""

    @property
    def effective_port(self) -> int:
        """The port that is connected to."""
        return self.port if self.port is not None else DEFAULT_PORTS.get(self.scheme, 0)

    @property
    def authority(self) -> str:
        """Host and port as in a URL, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.authority}{self.path}"


def parse_git_url(text: str, protocols: Collection[str]) -> GitURL:
    """Read a repository's URL, or its scp-style form; raises :class:`SpecError` with a sentence."""
    scp = _SCP_STYLE.fullmatch(text)
    url = f"ssh://{scp['user']}@{scp['host']}/{scp['path'].lstrip('/')}" if scp and "://" not in text else text
    shown = text[:200]
    try:
        parts = urlsplit(url)
        port, host, user = parts.port, parts.hostname or "", parts.username or ""
    except ValueError as error:
        raise SpecError(f"{shown!r} is not a readable URL.") from error
    scheme = parts.scheme.lower()
    if scheme not in protocols or not url[len(scheme) :].startswith("://"):
        allowed = ", ".join(sorted(protocols))
        raise SpecError(f"Unsupported git url {shown}, protocol {scheme} not in {allowed}")
    # Spaces are encoded; any other control character may end what one of the readers takes for the URL.
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text) or "\\" in text:
        raise SpecError(f"{shown!r} holds characters that no URL has.")
    if parts.password is not None or (user and scheme != "ssh"):
        raise SpecError("A repository's URL must hold no user name or password: links are seen by many.")
    if user and not _USER.fullmatch(user):
        raise SpecError(f"{user[:80]!r} cannot be a user name.")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise SpecError(f"{shown!r} holds a query or a fragment, which a repository's URL must not.")
    if port == 0:
        raise SpecError("0 is not a port.")
    if not parts.path.strip("/"):
        raise SpecError(f"{shown!r} names a host and no repository.")
    if any(segment in (".", "..") for segment in unquote(parts.path).split("/")):
        raise SpecError(f"{shown!r} holds a dot segment, which readers understand differently.")
    path = quote(parts.path, safe=_PATH_SAFE)
    return GitURL(scheme, _host(host), port, path, user)


def _host(text: str) -> str:
    """The host in the one spelling that every reader shares: lower case, ASCII, no end dot."""
    if ":" in text:
        try:
            # A zone, behind "%", means something on one machine only.
            return str(ipaddress.IPv6Address(text.replace("%", " ")))
        except ValueError as error:
            raise SpecError(f"{text[:80]!r} is not an IPv6 address.") from error
    try:
        host = text.removesuffix(".").encode("idna").decode().lower()
    except UnicodeError as error:
        raise SpecError(f"{text[:80]!r} cannot be a host name.") from error
    if not _HOST.fullmatch(host):
        raise SpecError(f"{text[:80]!r} cannot be a host name.")
    return host
