"""The federation's state in one line."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.fleet import FleetSnapshot, Health


class Level(StrEnum):
    """How the federation as a whole is."""

    GOOD = "good"
    #: Launches go on, with less room or with a part of the gateway missing.
    PARTLY = "partly"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Headline:
    """``text`` is a sentence or two; ``word`` fits on a badge."""

    level: Level
    text: str
    word: str


def headline(snapshot: FleetSnapshot, now: float, *, degraded: bool) -> Headline:
    """The state as of now; ``degraded``: the state that replicas share does not answer."""
    statuses = {view.name: snapshot.status(view, now) for view in snapshot.members}
    taking = [name for name, status in statuses.items() if status.available]
    of = f"{len(taking)} of {len(statuses)} members take launches"
    suffix = " The gateway itself is degraded." if degraded else ""
    if not statuses:
        return Headline(Level.BAD, f"This federation has no members.{suffix}", "no members")
    if not taking:
        known = all(status.health is not Health.UNKNOWN for status in statuses.values())
        text = "No member takes launches: they wait." if known else f"{of} yet: they are being looked at."
        return Headline(Level.BAD if known else Level.PARTLY, f"{text}{suffix}", "down" if known else "starting")
    out = ", ".join(f"{name} is {_word(status.state)}" for name, status in statuses.items() if name not in taking)
    if all(statuses[name].free == 0 for name in taking):
        text = f"All members that take launches are full ({len(taking)} of {len(statuses)}): launches wait in a queue."
        return Headline(Level.PARTLY, f"{text}{suffix}", "full")
    if out:
        return Headline(Level.PARTLY, f"{of}; {out}.{suffix}", f"{len(taking)} of {len(statuses)} members")
    level, word = (Level.PARTLY, "degraded") if degraded else (Level.GOOD, "available")
    return Headline(level, f"{of}.{suffix}", word)


def _word(state: str) -> str:
    return state.replace("_", "-")
