"""Rules: which members may take which launches, by the labels that members carry."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from contract.addresses import IPNetwork, in_networks
from contract.repos import RepoKey
from gateway.core.origins import origin as origin_of
from gateway.core.settings import RuleSettings

#: As a label's value in a rule: any.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Ruling:
    """The rules that speak of one launch.

    ``require`` and ``prefer`` match it; ``reserve`` are those that do not, and keep their members from it.
    """

    require: tuple[RuleSettings, ...] = ()
    prefer: tuple[RuleSettings, ...] = ()
    reserve: tuple[RuleSettings, ...] = ()

    @property
    def restricts(self) -> bool:
        """Whether any member may be kept from the launch."""
        return bool(self.require or self.reserve)

    def rejection(self, labels: Mapping[str, str]) -> str | None:
        """Why a member with these labels may not take the launch, as a clause; ``None`` = it may."""
        for rule in self.require:
            if not carries(labels, rule.members):
                return f"is not one that the rule {rule.name!r} allows"
        for rule in self.reserve:
            if carries(labels, rule.members):
                return f"is kept for others by the rule {rule.name!r}"
        return None

    def unmet(self, labels: Mapping[str, str]) -> int:
        """How many of the preferences a member with these labels does not meet."""
        return sum(not carries(labels, rule.members) for rule in self.prefer)


def ruling(rules: Sequence[RuleSettings], repo: RepoKey, client: str, origin: str) -> Ruling:
    """What the rules say of a launch; ``client`` is an address or empty, ``origin`` an origin or empty."""
    require: list[RuleSettings] = []
    prefer: list[RuleSettings] = []
    reserve: list[RuleSettings] = []
    for rule in rules:
        if rule.effect == "reserve":
            if not matches(rule, repo, client, origin):
                reserve.append(rule)
        elif matches(rule, repo, client, origin):
            (require if rule.effect == "require" else prefer).append(rule)
    return Ruling(tuple(require), tuple(prefer), tuple(reserve))


def matches(rule: RuleSettings, repo: RepoKey, client: str, origin: str) -> bool:
    """Whether all that a rule names matches; what it does not name matches anything."""
    if rule.repos and not any(_pattern(text).match(repo) for text in rule.repos):
        return False
    if rule.clients and not in_networks(client, [_network(text) for text in rule.clients]):
        return False
    return not rule.origins or origin.rstrip("/").lower() in (item.rstrip("/").lower() for item in rule.origins)


def carries(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether labels hold all that is wanted."""
    return all(name in labels and value in (ANY, labels[name]) for name, value in wanted.items())


def rule_problems(rules: Sequence[RuleSettings]) -> list[str]:
    """What is wrong with rules, each with its path below ``rules``; empty = nothing."""
    problems = []
    for index, rule in enumerate(rules):
        if not rule.members:
            problems.append(f"rules[{index}].members: names no label")
        if not (rule.repos or rule.clients or rule.origins):
            problems.append(f"rules[{index}]: names neither repos, clients nor origins")
        for n, text in enumerate(rule.repos):
            try:
                _pattern(text)
            except re.error as error:
                problems.append(f"rules[{index}].repos[{n}]: {text!r} is no regular expression ({error})")
        for n, text in enumerate(rule.clients):
            try:
                _network(text)
            except ValueError as error:
                problems.append(f"rules[{index}].clients[{n}]: {error}")
        for n, text in enumerate(rule.origins):
            if problem := _origin_problem(text):
                problems.append(f"rules[{index}].origins[{n}]: {problem}")
    return problems


def _origin_problem(text: str) -> str | None:
    """Why no page ever has this origin; ``None``: one may."""
    try:
        found = origin_of(text)
    except ValueError:
        return f"{text!r} is not an origin, such as https://docs.example.org"
    return None if text.rstrip("/").lower() == found else f"{text!r} is not an origin (write {found})"


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


@lru_cache(maxsize=1024)
def _network(text: str) -> IPNetwork:
    return ipaddress.ip_network(text)
