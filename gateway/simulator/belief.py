"""What the gateway believes of the models, by its own transitions.

A real member reports every few seconds, whether anybody looks or not.  Here a report is taken in only when a decision
or another observation needs it, with what the member's state was at the time of the report: the belief at each decision
is the same, for a fraction of the work.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from contract.reports import CapacityReport, Image
from gateway.core import transitions
from gateway.core.fleet import FleetSnapshot, Member, MemberView
from gateway.core.settings import HealthSettings
from gateway.core.transitions import ProbeResult
from gateway.simulator.model import MemberModel

_WELL = ProbeResult(reachable=True, passing=True)
_GONE = ProbeResult(reachable=False, passing=False, reason="It could not be reached.")


class Believed:
    """One member's view, as it follows of a model's reports and of what is observed."""

    def __init__(self, member: Member, settings: HealthSettings, every: float, phase: float) -> None:
        self._settings, self._every, self._phase = settings, every, phase
        self._view = transitions.probed(MemberView(member, since=0.0), _WELL, 0.0, settings)
        self._model: MemberModel | None = None
        self._told = -math.inf
        """The time of the last report that was made."""
        self._waiting: CapacityReport | None = None
        """A report that was made and is not taken in yet."""
        self._images: tuple[Image, ...] | None = None

    def of(self, model: MemberModel) -> None:
        """Bind to the model, which tells its first report."""
        self._model = model
        self._told, self._waiting = 0.0, model.report(0, 0.0)

    def make_report(self, now: float) -> None:
        """Make the report that was due last, unless it was made: to be called before the model's state changes."""
        due = math.floor((now - self._phase) / self._every) * self._every + self._phase
        if due <= self._told or self._model is None:
            return
        self._told = due
        if not self._model.down:
            self._waiting = self._model.report(math.ceil(due), due)

    def view(self, now: float) -> MemberView:
        """The view after all that has been reported by now."""
        self.make_report(now)
        if self._waiting is not None:
            self._view, self._waiting = self._after(self._view, self._waiting), None
        return self._view

    def change(self, now: float, transition: Callable[[MemberView], MemberView]) -> None:
        """Take in something that was observed."""
        self._view = transition(self.view(now))

    def probe(self, now: float) -> None:
        """Take in what a probe sees now."""
        gone = self._model is not None and self._model.down
        self.change(now, lambda view: transitions.probed(view, _GONE if gone else _WELL, now, self._settings))

    def _after(self, view: MemberView, report: CapacityReport) -> MemberView:
        at = report.sent_at
        if report.images is not self._images:
            self._images = report.images
            return transitions.reported(view, report, at, self._settings)
        # The same images as before, of which there are hundreds: their sets need not be made again.
        after = transitions.reported(view, replace(report, images=()), at, self._settings)
        return replace(after, warm=view.warm, warm_repos=view.warm_repos, registries=view.registries)


def snapshot(members: list[Believed], settings: HealthSettings, now: float) -> FleetSnapshot:
    """What is believed of all of them."""
    return FleetSnapshot(tuple([member.view(now) for member in members]), settings)
