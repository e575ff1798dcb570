"""The operators' log: what was decided, what changed, and who did what.

Entries are of three kinds: a ``decision`` (which member takes a launch, and why), a ``transition`` (a member's state
has changed, and why), an ``act`` of an operator.  Decisions tell nothing of the visitor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.alerts import Alert
from gateway.core.decision import Decision
from gateway.core.fleet import Transition
from gateway.core.records import POLICY, SUSPENSION, WEIGHT, Record

ACT, DECISION, TRANSITION = "act", "decision", "transition"
KINDS = (ACT, DECISION, TRANSITION)

#: What a transition is called, by the state that it leads to; an alert on that state bears the same name.
TRANSITION_NAMES: Mapping[str, str] = {
    "unknown": "MemberUnknown",
    "available": "MemberAvailable",
    "full": "MemberFull",
    "failing": "MemberFailing",
    "unreachable": "MemberUnreachable",
    "ejected": "MemberEjected",
    "half_open": "MemberHalfOpen",
    "pending": "MemberPending",
    "draining": "MemberDraining",
    "suspended": "MemberSuspended",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line; ``at`` is Unix time, ``repo`` a repository's key, ``body`` what else there is to say."""

    kind: str
    at: float
    name: str
    member: str = ""
    repo: str = ""
    who: str = ""
    body: Mapping[str, Any] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The entry as a JSON object; fields that say nothing are left out."""
        fixed = {"at": self.at, "kind": self.kind, "name": self.name}
        given = {"member": self.member, "repo": self.repo, "who": self.who}
        return {**fixed, **{key: value for key, value in given.items() if value}, **(self.body or {})}


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries are wanted: of these kinds, since (Unix time), the latest so many.

    ``repo`` is a repository's key, or that of an owner for all below; "" = any.
    """

    kinds: frozenset[str] = frozenset(KINDS)
    member: str = ""
    repo: str = ""
    who: str = ""
    since: float = 0.0
    limit: int = 100

    def wants(self, entry: Entry) -> bool:
        """Whether an entry is one of them, the limit aside."""
        return (
            entry.kind in self.kinds
            and entry.at >= self.since
            and self.member in ("", entry.member)
            and self.who in ("", entry.who)
            and (not self.repo or entry.repo == self.repo or entry.repo.startswith(self.repo + "/"))
        )


def alert_entry(alert: Alert, *, begins: bool) -> Entry:
    """The beginning or the end of an alert, as a transition under the alert's name."""
    before, after = ("quiet", "raised") if begins else ("raised", "quiet")
    body = {"before": before, "after": after, "reason": alert.said}
    return Entry(TRANSITION, alert.seen_at, alert.name.value, alert.member, body=body)


def transition_entry(member: str, transition: Transition) -> Entry:
    """A change of a member's state."""
    body = {"before": transition.before, "after": transition.after, "reason": transition.reason}
    return Entry(TRANSITION, transition.at, TRANSITION_NAMES[transition.after], member, body=body)


def decision_entry(launch: str, decision: Decision) -> Entry:
    """A decision; ``launch`` is the launch's short id.  The request's client, origin and history stay out of it."""
    chosen = decision.chosen
    body = {
        "launch": launch,
        "commit": decision.request.commit,
        "policy": decision.policy,
        "panic": decision.panic,
        "sentence": decision.explain(),
    }
    name = "Chosen" if chosen else "NobodyCanTakeIt"
    return Entry(DECISION, decision.at, name, chosen.member if chosen else "", decision.request.repo, body=body)


def act_entry(record: Record) -> Entry:
    """An act, from its record in the audit log."""
    act = dict(record.value or {})
    who, what, key, member, repo = (str(act.pop(name, "")) for name in ("operator", "kind", "key", "member", "repo"))
    member = member or (key if what in (POLICY, SUSPENSION, WEIGHT) else "")
    if what:
        act = {"what": what, "key": key, **act}
    return Entry(ACT, record.written_at, str(act.pop("call", "")), member, repo, who, act)
