"""Bans: who may not launch, and what may not be launched.

A gateway checks them before it takes a launch, and sends them, signed, to its members, which check them too and end the
sessions that they hit.  So both go by this one definition.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote

from contract.repos import RepoKey, repo_key

#: Bans that one list may hold.
MAX_BANS = 5000

#: Characters of a ban's value and reason.
MAX_TEXT = 500

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class BanError(ValueError):
    """What cannot be a ban; ``path`` names the field at fault, the text says what is wrong."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class BanKind(StrEnum):
    """What a ban speaks of."""

    #: A regular expression, which the start of a spec with its provider (``gh/org/repo/ref``) matches, whatever the
    #: case of letters, as BinderHub's ``banned_specs``.
    SPEC = "spec"
    #: Visitors' addresses, as ``192.0.2.0/24``.
    NETWORK = "network"
    #: All repositories below a path, as ``github.com/org``, however they are addressed.
    OWNER = "owner"


@dataclass(frozen=True)
class Ban:
    """One ban; ``until`` (Unix time in seconds) is ``None`` where it has no end."""

    kind: BanKind
    value: str
    reason: str = ""
    until: float | None = None

    @property
    def name(self) -> str:
        """Names it among all bans."""
        return f"{self.kind.value}:{self.value}"

    def holds(self, now: float) -> bool:
        """Whether it is in force at ``now`` (Unix time)."""
        return self.until is None or now < self.until

    def hits(self, spec: str, repo: RepoKey, client: str) -> bool:
        """Whether a launch is meant; ``client`` is a visitor's address or network, "" where it is not known."""
        if self.kind is BanKind.NETWORK:
            network = _network(client)
            mine = self._network
            return network is not None and network.version == mine.version and _within(network, mine)
        if self.kind is BanKind.OWNER:
            # Many servers know a repository by any letter case, and who bans an owner means all of them.
            return f"{repo}/".casefold().startswith(f"{self.value}/".casefold())
        return any(self._pattern.match(spelling) for spelling in _spellings(spec))

    @cached_property
    def _network(self) -> IPNetwork:
        return ipaddress.ip_network(self.value)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _compiled(self.value)


def ban_text(ban: Ban, spec: str) -> str:
    """What a visitor is told of a ban that hits a launch, in BinderHub's words."""
    if ban.kind is BanKind.NETWORK:
        return f"Requests from {ban.value} are not allowed\n"
    return spec_ban_text(spec)


def spec_ban_text(spec: str) -> str:
    """What a visitor is told of a spec that is not allowed, in BinderHub's words."""
    return f"Sorry, {spec} is not allowed to launch. Please contact admins for more info!\n"


def make_ban(kind: str, value: str, reason: str = "", until: float | None = None) -> Ban:
    """A ban, its value in the one form in which it is compared; raises :class:`BanError`."""
    try:
        known = BanKind(kind)
    except ValueError:
        kinds = ", ".join(item.value for item in BanKind)
        raise BanError("kind", f"unknown kind {kind[:40]!r} (known: {kinds})") from None
    value = value.strip()
    for path, text in (("value", value), ("reason", reason)):
        if len(text) > MAX_TEXT or not text.isprintable():
            raise BanError(path, f"must be printable text of at most {MAX_TEXT} characters")
    if not value:
        raise BanError("value", "is missing")
    return Ban(known, _FORMS[known](value), reason, until)


def parse_bans(wire: object, path: str = "bans") -> tuple[Ban, ...]:
    """Read a list of bans; raises :class:`BanError`.

    A ban of a kind that is not known here is passed over, so that a newer gateway can speak to an older member.
    """
    if not isinstance(wire, list) or len(wire) > MAX_BANS:
        raise BanError(path, f"must be a list of at most {MAX_BANS} bans")
    bans = []
    for n, item in enumerate(wire):
        at = f"{path}[{n}]"
        if not isinstance(item, Mapping):
            raise BanError(at, "must be an object")
        kind, value, reason, until = (item.get(name) for name in ("kind", "value", "reason", "until"))
        if not isinstance(kind, str) or not isinstance(value, str) or not isinstance(reason or "", str):
            raise BanError(at, "kind, value and reason must be texts")
        known = until is None or (isinstance(until, int | float) and not isinstance(until, bool))
        if not known or not 0 <= (until or 0) < 2**40:
            raise BanError(f"{at}.until", "must be a time (Unix, in seconds) or null")
        if kind not in set(BanKind):
            continue
        try:
            bans.append(make_ban(kind, value, reason or "", until))
        except BanError as error:
            raise BanError(f"{at}.{error.path}", str(error).partition(": ")[2]) from error
    return tuple(bans)


def dump_bans(bans: Iterable[Ban]) -> list[dict[str, Any]]:
    """Bans as a JSON list."""
    return [asdict(ban) for ban in bans]


def find_ban(bans: Iterable[Ban], spec: str, repo: RepoKey, client: str, now: float) -> Ban | None:
    """The first ban in force that hits a launch."""
    return next((ban for ban in bans if ban.holds(now) and ban.hits(spec, repo, client)), None)


def _checked_network(value: str) -> str:
    try:
        return str(unmapped(ipaddress.ip_network(value, strict=False)))
    except ValueError as error:
        raise BanError("value", f"{value!r} is not a network, such as 192.0.2.0/24") from error


def unmapped(network: IPNetwork) -> IPNetwork:
    """A network of IPv4 addresses that are written as IPv6 ones (RFC 4291, section 2.5.5.2), as what it is."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    return ipaddress.ip_network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


@lru_cache(maxsize=2 * MAX_BANS)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


def _spellings(spec: str) -> set[str]:
    """A spec as it came, decoded, and without what makes no difference."""
    plain = unquote(spec)
    return {spec, plain, _DOT_GIT.sub("", plain)}


_DOT_GIT = re.compile(r"\.git(?=/|$)", re.IGNORECASE)


def _checked_pattern(value: str) -> str:
    try:
        _compiled(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise BanError("value", f"{value!r} is not a regular expression: {error}") from error
    return value


def _checked_owner(value: str) -> str:
    owner = repo_key(value)
    if not all(owner.partition("/")[::2]):
        raise BanError("value", f"{value!r} is not of the form host/owner, such as github.com/org")
    return owner


_FORMS = {BanKind.SPEC: _checked_pattern, BanKind.NETWORK: _checked_network, BanKind.OWNER: _checked_owner}


@lru_cache(maxsize=1024)
def _network(client: str) -> IPNetwork | None:
    try:
        return unmapped(ipaddress.ip_network(client, strict=False))
    except ValueError:
        return None


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer
