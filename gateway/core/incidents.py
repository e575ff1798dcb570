"""Incidents: troubles of members and of the gateway, from their beginning to their end, in the words of the states.

Nobody opens or closes one by hand.  Each is a record (:mod:`gateway.core.records`) under its subject and a number that
counts on, so that two replicas that open one at the same time open the same; the numbers begin again after
:data:`KEPT`.  All times are Unix times in seconds.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from contract.sentences import said
from gateway.core.fleet import FleetSnapshot, Health, MemberView, Policy
from gateway.core.history import WHOLE
from gateway.core.records import Book, Change, Record
from gateway.core.words import state_word

#: The kinds of record that an incident and an operator's note are.
INCIDENT, NOTE = "incident", "note"

#: The subject of what befalls the gateway itself; no member can have this name.
GATEWAY = "@gateway"

#: Incidents of a subject that are kept, and changes of one.
KEPT, KEPT_CHANGES = 50, 20

#: Seconds within which a trouble that comes back is the same one.
SAME_WITHIN = 300.0

_TROUBLES = frozenset({Health.FAILING, Health.UNREACHABLE, Health.EJECTED, Health.HALF_OPEN})


@dataclass(frozen=True, slots=True)
class Happened:
    """A change amid an incident: the state's word, and why, as a sentence."""

    at: float
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Incident:
    """A trouble of a member, of the federation (:data:`WHOLE`) or of the gateway; the ``n``-th of its subject."""

    subject: str
    n: int
    opened_at: float
    closed_at: float | None
    changes: tuple[Happened, ...]

    @property
    def key(self) -> str:
        """Names its record."""
        return f"{self.subject}/{self.n % KEPT}"

    @property
    def id(self) -> str:
        """Names it for people and feeds, for good."""
        return f"{self.subject}-{self.n}"

    @property
    def title(self) -> str:
        """What it is about, in a few words."""
        state = next((item.state for item in self.changes), "")
        if self.subject == WHOLE:
            return said("No member takes launches")
        if self.subject == GATEWAY:
            return said("The gateway is degraded")
        return said("%(name)s is %(state)s", name=self.subject, state=state_word(state))

    def word(self, change: Happened) -> str:
        """What the state of a change amid it is called; "" where there is no more to say than the reason."""
        return "" if change.state == "over" or self.subject in (WHOLE, GATEWAY) else state_word(change.state)


def trouble_of(view: MemberView, now: float) -> tuple[str, str] | None:
    """The word and the reason of a member's trouble; ``None``: it has none, or operators know why it is out."""
    health = view.health(now)
    if health not in _TROUBLES or view.policy in (Policy.PENDING, Policy.SUSPENDED):
        return None
    if health is Health.UNREACHABLE:
        return health.value, view.reachable.reason
    if health is Health.FAILING:
        return health.value, view.passing.reason
    return health.value, view.outcomes.ejection.reason if view.outcomes.ejection else ""


def whole_trouble(snapshot: FleetSnapshot, now: float) -> tuple[str, str] | None:
    """That no member takes launches."""
    statuses = {view.name: snapshot.status(view, now) for view in snapshot.members}
    if not statuses or not snapshot.probed or any(status.available for status in statuses.values()):
        return None
    return "unavailable", ", ".join(f"{name} is {status.state}" for name, status in statuses.items()) + "."


def read_incident(value: Mapping[str, Any]) -> Incident:
    """An incident from a record's value; raises ``ValueError``."""
    try:
        changes = tuple(Happened(float(at), str(state), str(reason)) for at, state, reason in value["changes"])
        closed_at = value["closed_at"]
        return Incident(
            str(value["subject"]),
            int(value["n"]),
            float(value["opened_at"]),
            None if closed_at is None else float(closed_at),
            changes,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an incident: {error!r}") from error


def incident_change(incident: Incident) -> Change:
    """What to write of an incident."""
    value = {
        "subject": incident.subject,
        "n": incident.n,
        "opened_at": round(incident.opened_at, 3),
        "closed_at": None if incident.closed_at is None else round(incident.closed_at, 3),
        "changes": [[round(item.at, 3), item.state, item.reason] for item in incident.changes],
    }
    return Change(INCIDENT, incident.key, value)


def incidents(book: Book) -> list[Incident]:
    """All that are kept, the latest first."""
    found = []
    for record in book.of(INCIDENT).values():
        try:
            found.append(read_incident(record.value or {}))
        except ValueError:
            continue
    return sorted(found, key=lambda item: (item.opened_at, item.id), reverse=True)


def writings(book: Book) -> tuple[str, ...]:
    """The stamps of all incidents and notes: equal as long as none has come, changed or gone."""
    return tuple(record.stamp for kind in (INCIDENT, NOTE) for record in book.of(kind).values())


def latest(book: Book) -> dict[str, Incident]:
    """The latest incident of each subject; quick, for it is asked for all the time."""
    numbers: dict[str, tuple[int, Record]] = {}
    for record in book.of(INCIDENT).values():
        subject, n = (record.value or {}).get("subject"), (record.value or {}).get("n")
        if isinstance(subject, str) and isinstance(n, int) and n >= numbers.get(subject, (n, None))[0]:
            numbers[subject] = n, record
    found = {}
    for subject, (_, record) in numbers.items():
        with suppress(ValueError):
            found[subject] = read_incident(record.value or {})
    return found


def advanced(
    last: Incident | None, subject: str, trouble: tuple[str, str] | None, now: float, over: str
) -> Incident | None:
    """What there is to write of a subject's latest incident; ``None``: nothing.

    ``trouble`` is the word and the reason as of now, ``over`` says in a sentence why there is none any more.
    """
    is_open = last is not None and last.closed_at is None
    if trouble is None:
        if last is None or not is_open:
            return None
        return replace(last, closed_at=now, changes=_with(last.changes, Happened(now, "over", over)))
    happened = Happened(now, *trouble)
    if last is None:
        return Incident(subject, 0, now, None, (happened,))
    if not is_open:
        if last.closed_at is not None and now - last.closed_at < SAME_WITHIN:
            return replace(last, closed_at=None, changes=_with(last.changes, happened))
        return Incident(subject, last.n + 1, now, None, (happened,))
    if last.changes and last.changes[-1].state == happened.state:
        return None
    return replace(last, changes=_with(last.changes, happened))


def _with(changes: tuple[Happened, ...], happened: Happened) -> tuple[Happened, ...]:
    """The changes and one more; of too many, the first (how it began) and the latest stay."""
    changes = (*changes, happened)
    return changes if len(changes) <= KEPT_CHANGES else (changes[0], *changes[-KEPT_CHANGES + 1 :])


@dataclass(frozen=True, slots=True)
class Note:
    """What an operator has to say to visitors, of a member or ("") of the federation."""

    id: str
    at: float
    member: str
    text: str


def notes(book: Book) -> list[Note]:
    """The notes that were not taken back, the latest first."""
    found = [
        Note(key, record.written_at, str((record.value or {}).get("member", "")), str((record.value or {}).get("text")))
        for key, record in book.of(NOTE).items()
    ]
    return sorted(found, key=lambda item: item.at, reverse=True)
