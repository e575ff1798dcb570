"""Receives capacity reports: who signed it, is it new, can it be believed."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contract.bans import Ban
from contract.reports import CapacityReport, ReportError, parse_report
from contract.signatures import SignatureRefusedError, reported_member, verify_report
from gateway.core.alerts import AlertName, Alerts
from gateway.core.facts import Reported
from gateway.core.ports import ReportRefusedError
from gateway.core.tallies import Tallies
from gateway.core.transitions import ClockSkewError, StaleReportError, check_report
from gateway.engines.fleet import Fleet

logger = logging.getLogger(__name__)


class Reports:
    """Checks reports and passes them to the fleet.

    ``keys`` are the members' public keys by name; ``wall`` is the machine's clock, with which times in reports are
    compared.
    """

    def __init__(
        self,
        fleet: Fleet,
        keys: Mapping[str, Sequence[Ed25519PublicKey]],
        tallies: Tallies,
        alerts: Alerts,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fleet, self.keys, self._tallies, self._alerts, self._wall = fleet, keys, tallies, alerts, wall
        self.revoked: Collection[str] = frozenset()
        """Names of members that were removed."""
        self.propose: Callable[[str, tuple[Ban, ...]], None] = lambda *_: None
        """Is told of the bans that a report proposes, with the member's name."""
        self.tell: Callable[[Reported], None] = lambda _: None
        """Is told of each report that was accepted."""

    def receive(self, token: str) -> str:
        """Take a signed report, and return whose it is; raises :class:`ReportRefusedError`."""
        try:
            name, keys = self._signer(token)
            report = self._checked(token, name, keys)
            self._fleet.reported(name, report)
        except ReportRefusedError as refusal:
            name = refusal.member
            self._tallies.reports[name, refusal.title] += 1
            # Anybody may post what is not signed; of what a member did sign its operator should hear.
            level = logging.DEBUG if refusal.status == 401 else logging.WARNING
            logger.log(level, "a report of %s was refused: %s", name or "an unknown member", refusal)
            if refusal.alert is not None:
                self._alerts.begin(refusal.alert, name, str(refusal))
            raise
        self._tallies.reports[name, "accepted"] += 1
        for alert in (AlertName.REPORT_REFUSED, AlertName.CLOCK_SKEW, AlertName.REVOKED_MEMBER_REPORTS):
            self._alerts.end(alert, name)
        self.tell(Reported(token))
        if report.ban_proposals:
            self.propose(name, report.ban_proposals)
        return name

    def hear(self, token: str) -> None:
        """Take a report that another replica has accepted, if it is new here, too."""
        try:
            name, keys = self._signer(token)
            self._fleet.reported(name, self._checked(token, name, keys))
        except ReportRefusedError as refusal:
            logger.debug("a report that another replica has accepted was passed over: %s", refusal)

    def _signer(self, token: str) -> tuple[str, Sequence[Ed25519PublicKey]]:
        """The registered member that a report claims to be from, and its keys."""
        try:
            name = reported_member(token)
        except SignatureRefusedError as error:
            raise ReportRefusedError(401, "Not Signed", _sentence(error)) from error
        keys = self.keys.get(name)
        if name in self.revoked and not keys:
            text, alert = f"{name} was removed from this federation.", AlertName.REVOKED_MEMBER_REPORTS
            raise ReportRefusedError(403, "Revoked", text, member=name, alert=alert)
        if not keys:
            raise ReportRefusedError(401, "Unknown Member", "No member of this name has a report key registered here.")
        return name, keys

    def _checked(self, token: str, name: str, keys: Sequence[Ed25519PublicKey]) -> CapacityReport:
        try:
            report = parse_report(verify_report(token, keys))
        except SignatureRefusedError as error:
            raise ReportRefusedError(
                401, "Not Signed", _sentence(error), member=name, alert=AlertName.REPORT_REFUSED
            ) from error
        except ReportError as error:
            raise ReportRefusedError(
                422, "Not Believed", _sentence(error), member=name, alert=AlertName.REPORT_REFUSED
            ) from error
        view = self._fleet.snapshot.get(name)
        if view is None:
            raise ReportRefusedError(401, "Unknown Member", "No member of this name is registered here.")
        try:
            check_report(view, report, self._wall(), self._fleet.snapshot.settings)
        except ClockSkewError as error:
            alert = AlertName.CLOCK_SKEW
            raise ReportRefusedError(409, "Clock Skew", _sentence(error), member=name, alert=alert) from error
        except StaleReportError as error:
            raise ReportRefusedError(409, "Not New", _sentence(error), member=name) from error
        return report


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
