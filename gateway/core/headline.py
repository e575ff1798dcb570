"""The federation's state in one line."""

from dataclasses import dataclass
from enum import StrEnum

from contract.sentences import joined, said
from gateway.core.fleet import FleetSnapshot, Health
from gateway.core.words import state_word


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
    counts = {"taking": len(taking), "all": len(statuses)}

    def shown(level: Level, text: str, word: str) -> Headline:
        return Headline(level, joined(" ", [text, said("The gateway itself is degraded.")]) if degraded else text, word)

    if not statuses:
        return shown(Level.BAD, said("This federation has no members."), said("no members"))
    if not taking:
        if all(status.health is not Health.UNKNOWN for status in statuses.values()):
            return shown(Level.BAD, said("No member takes launches: they wait."), said("down"))
        text = said("No member takes launches yet: not every one has been looked at.")
        return shown(Level.PARTLY, text, said("starting"))
    if all(statuses[name].free == 0 for name in taking):
        text = said(
            "All members that take launches are full (%(taking)s of %(all)s): launches wait in a queue.", **counts
        )
        return shown(Level.PARTLY, text, said("full"))
    out = [(name, state_word(status.state)) for name, status in statuses.items() if name not in taking]
    if out:
        told = joined(", ", [said("%(name)s is %(state)s", name=name, state=state) for name, state in out])
        text = said("Members taking launches: %(taking)s of %(all)s; %(out)s.", **counts, out=told)
        return shown(Level.PARTLY, text, said("%(taking)s of %(all)s members", **counts))
    text = said("Members taking launches: %(taking)s of %(all)s.", **counts)
    return shown(Level.PARTLY, text, said("degraded")) if degraded else shown(Level.GOOD, text, said("available"))
