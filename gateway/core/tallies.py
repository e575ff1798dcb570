"""Counts that only grow, for the metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tallies:
    """What has happened since this process started; every label comes from a short, fixed list."""

    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member, tier) → launches sent there."""

    failovers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member, kind of fault) → launches that went on to another member, or failed for want of one."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member or "", outcome) → finished launches."""

    builds: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member or "", "success" or whose failure it was) → finished builds without a launch."""

    reloads: Counter[str] = field(default_factory=Counter)
    """"accepted" or "refused" → how often settings were read again."""

    reports: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member or "", "accepted" or the title of the refusal) → reports."""
