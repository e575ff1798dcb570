"""Who may launch, how often, and how much at a time: one set of rules for all replicas and members."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from contract.addresses import IPNetwork, counted_as, in_networks, networks
from contract.bans import Ban, BanError, dump_bans, find_ban, make_ban, parse_bans
from contract.repos import RepoKey, repo_key
from gateway.core.fleet import FleetSnapshot
from gateway.core.records import Book, Record
from gateway.core.settings import PositiveCount, PositiveDuration
from providers.base import NO_RULE, SpecQuota

_STRICT: Mapping[str, Any] = {"extra": "forbid"}

#: The kinds of records that rules are made of, and what members propose for them.
BAN, QUOTA, PROPOSAL = "ban", "quota", "proposal"

#: The names of the quotas that are not of one repository or owner.
TOTAL, PER_REPO = "total", "per_repo"


@dataclass(frozen=True)
class RateLimitSettings:
    """How many launches one client may begin.  Who comes with a build token (from a page) is not counted."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    launches: int = 10
    """So many at once; 0 = any number."""

    per: PositiveDuration = 3600.0
    """And so many again within this time, one by one."""

    ipv4_prefix: PositiveCount = 32
    """So many leading bits of an IPv4 address make one client."""

    ipv6_prefix: PositiveCount = 64
    """So many of an IPv6 address: whoever has one address of such a network has all of them."""

    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose launches are not counted.  Behind a proxy on this machine, name it in ``listen.trusted_proxies``:
    without that, everybody seems to be on this machine."""

    @cached_property
    def exempt_networks(self) -> tuple[IPNetwork, ...]:
        """``exempt``, read."""
        return networks(self.exempt)

    def bucket(self, client: str) -> str | None:
        """As whom a client counts; ``None``: it is not counted."""
        if not self.launches or not client or in_networks(client, self.exempt_networks):
            return None
        return self.counted_as(client)

    def counted_as(self, client: str) -> str:
        """The network that is one client; "" where it is not known."""
        return counted_as(client, self.ipv4_prefix, self.ipv6_prefix)


@dataclass(frozen=True)
class QuotaSettings:
    """How many sessions there may be, over all members."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    total: int | None = None
    """In all; empty = as many as members have room for."""

    per_repo: int | None = None
    """Of one repository; empty = any number."""

    per_repo_higher: int | None = None
    """Of one repository whose spec is among its provider's ``high_quota_specs``; empty = any number."""

    repos: Mapping[str, int | None] = field(default_factory=dict)
    """Of a repository (``github.com/org/repo``), or of each one of an owner (``github.com/org``), instead of
    ``per_repo``; the longest that fits counts; empty = any number.  They go before what the rules of providers say."""

    def limit(self, repo: RepoKey, ruled: SpecQuota = NO_RULE) -> int | None:
        """How many sessions a repository may have; ``ruled`` is what the rules of its provider say."""
        name: str = repo
        while name:
            if name in self.repos:
                return self.repos[name]
            name = name.rpartition("/")[0]
        if ruled.given:
            return ruled.limit
        return self.per_repo_higher if ruled.higher else self.per_repo


@dataclass(frozen=True)
class BanSettings:
    """A ban that stands in the configuration."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    kind: str
    """``spec`` (a regular expression), ``network`` or ``owner`` (``github.com/org``, or a whole repository)."""

    value: str

    reason: str = ""
    """For operators; visitors are not told."""


@dataclass(frozen=True)
class AdmissionSettings:
    """The rules that the configuration gives; operators add to them while the gateway runs."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    rate_limit: RateLimitSettings = RateLimitSettings()

    quotas: QuotaSettings = QuotaSettings()

    bans: tuple[BanSettings, ...] = ()

    @cached_property
    def parsed_bans(self) -> tuple[Ban, ...]:
        """``bans``, read."""
        return tuple(make_ban(item.kind, item.value, item.reason) for item in self.bans)


@dataclass(frozen=True)
class Rules:
    """The rules as of now: the configuration's, and over them what operators have decided since."""

    rate_limit: RateLimitSettings
    quotas: QuotaSettings
    bans: tuple[Ban, ...]
    bans_at: float = 0.0
    """When the bans were last changed by an operator (Unix time); who knows less of them has an earlier time."""

    def ban_on(self, client: str, now: float) -> Ban | None:
        """The ban that hits all launches of a client."""
        return find_ban((ban for ban in self.bans if ban.kind == "network"), "", RepoKey(""), client, now)

    def ban_of(self, spec: str, repo: RepoKey, client: str, now: float) -> Ban | None:
        """The ban that hits a launch."""
        return find_ban(self.bans, spec, repo, client, now)


def rules_of(settings: AdmissionSettings, book: Book) -> Rules:
    """The rules that follow of the configuration and of the records; a record that is not understood is passed over."""
    # Side by side: what an operator bans for an hour does not end what is banned by the configuration.
    bans = (*settings.parsed_bans, *_bans(book.of(BAN).values()))
    total, per_repo, repos = settings.quotas.total, settings.quotas.per_repo, dict(settings.quotas.repos)
    for key, record in book.of(QUOTA).items():
        limit = (record.value or {}).get("limit")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            continue
        if key == TOTAL:
            total = limit
        elif key == PER_REPO:
            per_repo = limit
        else:
            repos[key] = limit
    quotas = replace(settings.quotas, total=total, per_repo=per_repo, repos=repos)
    return Rules(settings.rate_limit, quotas, bans, _last_change(book))


def _last_change(book: Book) -> float:
    return max((record.written_at for record in book.of(BAN, with_tombstones=True).values()), default=0.0)


def ban_value(ban: Ban) -> dict[str, Any]:
    """What stands in the record of a ban."""
    return dump_bans([ban])[0]


def quota_key(name: str) -> str:
    """The key of a quota's record; raises ``ValueError`` for what is no quota."""
    if name in (TOTAL, PER_REPO):
        return name
    key = repo_key(name)
    if not all(key.partition("/")[::2]) or len(key) > 400 or not key.isprintable():
        raise ValueError(f"must be {TOTAL}, {PER_REPO}, or a repository or owner such as github.com/org")
    return key


def admission_problems(settings: AdmissionSettings) -> list[str]:
    """What is wrong with the settings, each with its path below ``admission``; empty = nothing."""
    problems = []
    for n, ban in enumerate(settings.bans):
        try:
            make_ban(ban.kind, ban.value, ban.reason)
        except BanError as error:
            problems.append(f"bans[{n}].{error}")
    return problems + _rate_problems(settings.rate_limit) + _quota_problems(settings.quotas)


def _rate_problems(rate: RateLimitSettings) -> list[str]:
    bounds = (("launches", rate.launches, 10**6), ("ipv4_prefix", rate.ipv4_prefix, 32))
    problems = [
        f"rate_limit.{name}: must be between 0 and {most}"
        for name, value, most in (*bounds, ("ipv6_prefix", rate.ipv6_prefix, 128))
        if not 0 <= value <= most
    ]
    try:
        networks(rate.exempt)
    except ValueError as error:
        problems.append(f"rate_limit.exempt: {error}")
    return problems


def _quota_problems(quotas: QuotaSettings) -> list[str]:
    higher = ("per_repo_higher", quotas.per_repo_higher)
    limits = ((TOTAL, quotas.total), (PER_REPO, quotas.per_repo), higher, *quotas.repos.items())
    problems = [f"quotas: the limit of {name} must be 0 or more" for name, limit in limits if (limit or 0) < 0]
    for name in quotas.repos:
        key = repo_key(name)
        if key != name or "/" not in name:
            problems.append(f"quotas.repos: {name!r} is not of the form host/owner or host/owner/repo (try {key!r})")
    return problems


def sessions_of(snapshot: FleetSnapshot, repo: RepoKey) -> tuple[int, int, list[str]]:
    """Sessions that members have reported: all, those of a repository, and which launches are among them.

    A report that has expired still says what was there: a member that is away does not end its sessions.
    """
    total = of_repo = 0
    seen: list[str] = []
    for view in snapshot.members:
        if view.received is not None:
            report = view.received.report
            total += report.sessions.running + report.sessions.pending
            of_repo += report.sessions_by_repo.get(repo, 0)
            seen += view.launches_seen
        elif view.counted is not None:
            total += view.counted.sessions.running + view.counted.sessions.pending
    return total, of_repo, seen


def _bans(records: Iterable[Record]) -> list[Ban]:
    bans: list[Ban] = []
    for record in records:
        try:
            bans += parse_bans([dict(record.value or {})])
        except BanError:
            continue
    return bans


def proposals_of(book: Book, members: Sequence[str] = ()) -> dict[str, Mapping[str, Any]]:
    """The bans that members have proposed, by the keys of their records; of some members, or of all."""
    found = {key: record.value or {} for key, record in book.of(PROPOSAL).items()}
    return {key: value for key, value in found.items() if not members or value.get("member") in members}
