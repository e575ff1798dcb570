"""How belief changes: each function takes a member's view and an observation, and gives the new view.

Invariant: ``view.state`` is the word that :meth:`MemberView.status` gives at the time of the last transition, and
``view.since`` the time at which that word last changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contract.launches import is_launch_id, short
from contract.reports import CapacityReport, Check
from gateway.core.fleet import Layer, MemberView, Received, Reservation
from gateway.core.settings import ProbeSettings

#: Seconds that a member's clock may be ahead of ours.
CLOCK_SKEW = 10.0


class StaleReportError(ValueError):
    """A report that is a replay, too old, or from the future; the text says which."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe saw.

    ``reachable``: it answered at all.  ``passing``: it says that it works.  ``reason`` is a sentence where one of them
    does not hold.  ``versions`` is empty where they were not asked for.
    """

    reachable: bool
    passing: bool
    reason: str = ""
    checks: tuple[Check, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def observed(layer: Layer, ok: bool, reason: str, now: float, settings: ProbeSettings) -> Layer:
    """A layer after one more observation: belief turns only after enough of them in a row; the first one counts."""
    if layer.ok is None:
        return Layer(ok, reason, now)
    if ok == layer.ok:
        # The reason follows what is seen now: refused first, then a time-out.
        return replace(layer, reason=reason, against=0)
    against = layer.against + 1
    if against < (settings.healthy_after if ok else settings.unhealthy_after):
        return replace(layer, against=against)
    return Layer(ok, reason, now)


def probed(view: MemberView, result: ProbeResult, now: float, settings: ProbeSettings) -> MemberView:
    """After a probe."""
    reachable = observed(view.reachable, result.reachable, result.reason, now, settings)
    view = replace(view, reachable=reachable, probed_at=now)
    if result.reachable:
        passing = observed(view.passing, result.passing, result.reason, now, settings)
        versions = {**view.versions, **result.versions}
        view = replace(view, passing=passing, checks=result.checks, versions=versions)
    return settled(view, now, settings)


def unreached(view: MemberView, reason: str, now: float, settings: ProbeSettings) -> MemberView:
    """After a launch that could not reach it: as good an observation as a probe's."""
    return settled(replace(view, reachable=observed(view.reachable, False, reason, now, settings)), now, settings)


def check_report(view: MemberView, report: CapacityReport, wall: float, settings: ProbeSettings) -> None:
    """Raises :class:`StaleReportError` unless the report is fresh and newer than the last one.

    ``wall`` is the time of this machine's clock, which is compared with the member's.
    """
    if report.sent_at > wall + CLOCK_SKEW:
        raise StaleReportError("the report is from the future: compare the clocks of gateway and member")
    if report.sent_at < wall - settings.report_max_age:
        raise StaleReportError("the report is too old to be believed: compare the clocks of gateway and member")
    if view.received is None:
        return
    last = view.received.report
    if report.boot_id == last.boot_id:
        if report.seq <= last.seq:
            raise StaleReportError(f"the report was seen before, or overtaken (seq {report.seq} after {last.seq})")
    elif report.sent_at <= last.sent_at:
        raise StaleReportError("the report is from an earlier start of the member")


def reported(view: MemberView, report: CapacityReport, now: float, settings: ProbeSettings) -> MemberView:
    """After a report that :func:`check_report` has passed."""
    seen = {short(launch) if is_launch_id(launch) else launch for launch in report.launches_seen}
    reservations = tuple(
        replace(item, seen=item.seen or item.launch in seen)
        for item in view.reservations
        if item.ready_at is None or item.ready_at >= now
    )
    view = replace(
        view,
        received=Received(report, now),
        reservations=reservations,
        warm=frozenset((image.repo, image.commit) for image in report.images),
        warm_repos=frozenset(image.repo for image in report.images),
        versions={**view.versions, **report.versions},
    )
    return settled(view, now, settings)


def reserved(view: MemberView, reservation: Reservation, now: float, settings: ProbeSettings) -> MemberView:
    """After a launch was sent there."""
    return settled(replace(view, reservations=(*view.reservations, reservation)), now, settings)


def released(view: MemberView, launch: str, ready: bool, now: float, settings: ProbeSettings) -> MemberView:
    """After a launch has ended there: one that failed takes no room, one that is ready stays until the next report."""
    if ready and view.received is not None:
        reservations = tuple(
            replace(item, ready_at=now) if item.launch == launch else item for item in view.reservations
        )
    else:
        reservations = tuple(item for item in view.reservations if item.launch != launch)
    return settled(replace(view, reservations=reservations), now, settings)


def settled(view: MemberView, now: float, settings: ProbeSettings) -> MemberView:
    """The view with its state as of now: after an observation, and as time passes (reports expire)."""
    # A ready launch that no report ever counted does not weigh on for ever.
    forget = now - 4 * settings.report_max_age
    if any(item.ready_at is not None and item.ready_at < forget for item in view.reservations):
        kept = tuple(item for item in view.reservations if item.ready_at is None or item.ready_at >= forget)
        view = replace(view, reservations=kept)
    state = view.status(now, settings).state
    return view if state == view.state else replace(view, state=state, since=now)
