"""What is wrong with a member beyond its health, by name: for metrics, the log and operators."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class AlertName(StrEnum):
    """The alerts; those of Prometheus have the same names."""

    #: A member's clock and ours differ by more than the leeway.
    CLOCK_SKEW = "ClockSkew"
    #: A report of a member is not signed by a key of its registration, is a replay, or cannot be believed.
    REPORT_REFUSED = "ReportRefused"
    #: A member that was removed still reports.
    REVOKED_MEMBER_REPORTS = "RevokedMemberReports"
    #: A join token was used a second time, by somebody else.
    JOIN_TOKEN_REUSED = "JoinTokenReused"  # noqa: S105 - a name


#: Seconds for which an alert stands after its last cause, unless something shows before that it is over.
STANDS = 300.0

#: Alerts that stand at a time; anybody may send what raises one.
AT_MOST = 200


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert: since when it stands, when its cause was last seen (Unix time), and a sentence that says it."""

    name: AlertName
    member: str
    since: float
    seen_at: float
    said: str


class Alerts:
    """The alerts that stand; ``now`` is Unix time, ``tell`` hears of each that begins or ends (``begins`` false)."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._standing: dict[tuple[AlertName, str], Alert] = {}
        self.tell: Callable[[Alert, bool], None] = lambda *_: None

    @property
    def standing(self) -> tuple[Alert, ...]:
        """Those that stand now, by name and member."""
        self._forget()
        return tuple(alert for _, alert in sorted(self._standing.items()))

    def has(self, name: AlertName, member: str) -> bool:
        """Whether an alert stands."""
        return any((alert.name, alert.member) == (name, member) for alert in self.standing)

    def begin(self, name: AlertName, member: str, said: str) -> None:
        """There is a cause now."""
        self._forget()
        known, now = self._standing.get((name, member)), self._now()
        if known is None and len(self._standing) >= AT_MOST:
            return
        alert = Alert(name, member, known.since if known else now, now, said)
        self._standing[name, member] = alert
        if known is None:
            self.tell(alert, True)

    def end(self, name: AlertName, member: str) -> None:
        """The cause is gone."""
        if (alert := self._standing.pop((name, member), None)) is not None:
            self.tell(alert, False)

    def _forget(self) -> None:
        now = self._now()
        for alert in [item for item in self._standing.values() if now - item.seen_at > STANDS]:
            self.end(alert.name, alert.member)
