"""What an operator allows of a provider's specs; pure.

The rules are BinderHub's: regular expressions that match the beginning of a spec without its prefix, whatever the case
of letters.  A spec is looked at as it came, decoded, and without ``.git``, so that a spelling gets around no ban.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator, Field

from providers.base import SpecQuota
from servicekit.config import Section


def _checked(pattern: str) -> str:
    try:
        _compiled(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{pattern[:80]!r} is not a regular expression: {error}") from error
    return pattern


@lru_cache(maxsize=10_000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


SpecPattern = Annotated[str, AfterValidator(_checked)]


class SpecConfig(Section):
    """What counts for the specs that match a pattern."""

    quota: int | None = Field(default=None, ge=0)
    """Sessions of one repository at a time; ``null`` = any number."""


class SpecRule(Section):
    """Specs, and what counts for them."""

    pattern: SpecPattern
    """A regular expression, from the start of the spec."""

    config: SpecConfig
    """What counts for them."""


class SpecRules(Section):
    """The rules of one provider."""

    enabled: bool = True
    """Whether there is this provider at all."""

    allowed_specs: tuple[SpecPattern, ...] = ()
    """Only specs that match one of these regular expressions are launched; empty = all."""

    banned_specs: tuple[SpecPattern, ...] = ()
    """Specs that match one of these are not launched, whatever else allows them."""

    high_quota_specs: tuple[SpecPattern, ...] = ()
    """Repositories whose specs match one of these have the higher limit of sessions."""

    spec_config: tuple[SpecRule, ...] = ()
    """Limits by spec; the last rule that matches counts."""

    def bans(self, spec: str) -> bool:
        """Whether a spec (without its prefix, percent-encoded as it came) may not be launched."""
        spellings = _spellings(spec)
        if _any_matches(self.banned_specs, spellings):
            return True
        return bool(self.allowed_specs) and not _any_matches(self.allowed_specs, spellings)

    def quota(self, spec: str) -> SpecQuota:
        """What the rules say of the number of sessions."""
        spellings = _spellings(spec)
        higher = _any_matches(self.high_quota_specs, spellings)
        for rule in reversed(self.spec_config):
            # A rule that says nothing of quotas leaves them to the ones before it.
            if "quota" in rule.config.model_fields_set and _any_matches([rule.pattern], spellings):
                return SpecQuota(higher, given=True, limit=rule.config.quota)
        return SpecQuota(higher)


def _any_matches(patterns: Iterable[str], spellings: Iterable[str]) -> bool:
    return any(_compiled(pattern).match(spelling) for pattern in patterns for spelling in spellings)


_DOT_GIT = re.compile(r"\.git(?=/|$)", re.IGNORECASE)


def _spellings(spec: str) -> tuple[str, ...]:
    plain = unquote(spec)
    return tuple(dict.fromkeys((spec, plain, _DOT_GIT.sub("", plain))))
