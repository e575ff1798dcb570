"""How belief changes: each function takes a member's view and an observation, and gives the new view.

Invariant: ``view.state`` is the word that :meth:`MemberView.status` gives at the time of the last observation,
``view.since`` the time at which that word last changed, and the last of ``view.history`` says why.  What befalls a
member that an operator has taken out changes no word, and stands in its history as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contract.launches import is_launch_id, short
from contract.reports import CapacityReport, Check, Sessions
from gateway.core import outcomes
from gateway.core.fleet import Counted, Health, Layer, MemberView, Policy, Received, Reservation, Transition
from gateway.core.outcomes import Attempt
from gateway.core.registration import capped, capped_sessions
from gateway.core.settings import HealthSettings, ProbeSettings

#: Seconds before a report comes in which what it counts may have been counted.
GATHERED_WITHIN = 1.0

#: Seconds after which a session stands in what a member's health check counts: BinderHub asks its cluster for pods once
#: a minute.  Until then it counts on top, twice at worst: better than a launch that is built and then refused.
COUNTED_WITHIN = 60.0

#: Transitions that are kept of a member.
KEEP_HISTORY = 100

#: Seconds within which a member that becomes full and has room again has done so once, for its history.
FLICKER = 300.0

#: In these a member takes no launches but trials; it leaves them by a slow start.
_OUT = frozenset({Health.FAILING, Health.UNREACHABLE, Health.EJECTED, Health.HALF_OPEN})


class StaleReportError(ValueError):
    """A report that is a replay, too old, or from the future; the text says which."""


class ClockSkewError(StaleReportError):
    """A report whose time is not ours: its sender's clock is ``skew`` seconds ahead."""

    def __init__(self, skew: float, what: str) -> None:
        super().__init__(f"the report is {what} ({skew:+.0f} s): compare the clocks of gateway and member")
        self.skew = skew


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a probe saw.

    ``reachable``: it answered at all.  ``passing``: it says that it works.  ``reason`` is a sentence where one of them
    does not hold.  ``versions`` is empty where they were not asked for.  ``sessions`` are those that its health check
    counts, of a member that sends no reports.
    """

    reachable: bool
    passing: bool
    reason: str = ""
    checks: tuple[Check, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    sessions: Sessions | None = None


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


def probed(view: MemberView, result: ProbeResult, now: float, settings: HealthSettings) -> MemberView:
    """After a probe."""
    view = replace(_reached(view, result.reachable, result.reason, now, settings.probes), probed_at=now)
    if result.reachable:
        passing = observed(view.passing, result.passing, result.reason, now, settings.probes)
        answered = result.versions or view.answered_versions
        view = replace(view, passing=passing, checks=result.checks, answered_versions=answered, counted=None)
        if result.sessions:
            kept = tuple(item for item in view.reservations if not _is_counted(item, now))
            most = view.member.max_sessions
            sessions = result.sessions if most is None else capped_sessions(result.sessions, most)
            view = replace(view, counted=Counted(sessions, now), reservations=kept)
    return settled(view, now, settings)


def _reached(view: MemberView, ok: bool, reason: str, now: float, settings: ProbeSettings) -> MemberView:
    """After it was reached, or not; one that is gone has to say anew that it works."""
    reachable = observed(view.reachable, ok, reason, now, settings)
    return replace(view, reachable=reachable, passing=Layer() if reachable.ok is False else view.passing)


def _is_counted(reservation: Reservation, now: float) -> bool:
    return reservation.ready_at is not None and now - reservation.ready_at >= COUNTED_WITHIN


def unreached(view: MemberView, reason: str, now: float, settings: HealthSettings) -> MemberView:
    """After a launch that could not reach it: as good an observation as a probe's."""
    return settled(_reached(view, False, reason, now, settings.probes), now, settings)


def succeeded(view: MemberView, attempt: Attempt, now: float, settings: HealthSettings) -> MemberView:
    """After a launch there that became ready."""
    changed = outcomes.succeeded(view.outcomes, attempt, now, settings.ejection)
    return settled(replace(view, outcomes=changed), now, settings)


def failed(
    view: MemberView, reason: str, attempt: Attempt, now: float, draw: float, settings: HealthSettings, *, sure: bool
) -> MemberView:
    """After a launch that failed there; see :func:`gateway.core.outcomes.failed`."""
    changed = outcomes.failed(view.outcomes, reason, attempt, now, draw, settings.ejection, sure=sure)
    return settled(replace(view, outcomes=changed), now, settings)


def refused(view: MemberView, now: float, settings: HealthSettings) -> MemberView:
    """After a launch that it has refused for want of room: it is full, whatever it said before, until it reports."""
    return settled(replace(view, full_until=now + settings.probes.report_max_age), now, settings)


def check_report(view: MemberView, report: CapacityReport, wall: float, settings: HealthSettings) -> None:
    """Raises :class:`StaleReportError` unless the report is fresh and newer than the last one.

    ``wall`` is the time of this machine's clock, which is compared with the member's.
    """
    skew = report.sent_at - wall
    if skew > settings.probes.clock_leeway:
        raise ClockSkewError(skew, "from the future")
    if -skew > min(settings.probes.clock_leeway, settings.probes.report_max_age):
        raise ClockSkewError(skew, "too old to be believed")
    if view.received is None:
        return
    last = view.received.report
    if report.boot_id == last.boot_id:
        if report.seq <= last.seq:
            raise StaleReportError(f"the report was seen before, or overtaken (seq {report.seq} after {last.seq})")
    elif report.sent_at <= last.sent_at:
        raise StaleReportError("the report is from an earlier start of the member")


def reported(view: MemberView, report: CapacityReport, now: float, settings: HealthSettings) -> MemberView:
    """After a report that :func:`check_report` has passed; it is believed as far as the registration allows."""
    report = capped(report, view.member)
    seen = {short(launch) if is_launch_id(launch) else launch for launch in report.launches_seen}
    reservations = tuple(
        replace(item, seen=item.seen or item.launch in seen)
        for item in view.reservations
        if item.ready_at is None or now - item.ready_at < GATHERED_WITHIN
    )
    view = replace(
        view,
        received=Received(report, now),
        full_until=None,
        reservations=reservations,
        launches_seen=frozenset(seen),
        warm=frozenset((image.repo, image.commit) for image in report.images),
        warm_repos=frozenset(image.repo for image in report.images),
        registries=frozenset(image.registry for image in report.images if image.registry),
    )
    return settled(view, now, settings)


def wanted(view: MemberView, policy: Policy, weight: float | None, now: float, settings: HealthSettings) -> MemberView:
    """After operators have decided what they want of it; one that is let in starts slowly."""
    if view.policy is Policy.PENDING and policy is not Policy.PENDING:
        view = replace(view, returned_at=now, starting_until=None)
    return settled(replace(view, policy=policy, weight_set=weight), now, settings)


def reserved(view: MemberView, reservation: Reservation, now: float, settings: HealthSettings) -> MemberView:
    """After a launch was sent there."""
    return settled(replace(view, reservations=(*view.reservations, reservation)), now, settings)


def reserved_elsewhere(
    view: MemberView, reservations: tuple[Reservation, ...], now: float, settings: HealthSettings
) -> MemberView:
    """After hearing what the other replicas have sent there: all of it, as far as they know it not to be counted."""
    own = tuple(item for item in view.reservations if item.own)
    mine = {item.launch for item in own}
    others = tuple(item for item in reservations if item.launch not in mine)
    if own + others == view.reservations:
        return view
    return settled(replace(view, reservations=own + others), now, settings)


def released(view: MemberView, launch: str, ready: bool, now: float, settings: HealthSettings) -> MemberView:
    """After a launch has ended there: one that failed takes no room, one that is ready stays until the next count."""
    if ready and (view.received is not None or view.counted is not None):
        reservations = tuple(
            replace(item, ready_at=now) if item.launch == launch else item for item in view.reservations
        )
    else:
        reservations = tuple(item for item in view.reservations if item.launch != launch)
    return settled(replace(view, reservations=reservations), now, settings)


def settled(view: MemberView, now: float, settings: HealthSettings) -> MemberView:
    """The view with its state as of now: after an observation, and as time passes (reports and ejections expire)."""
    # A ready launch that no report ever counted does not weigh on for ever.
    forget = now - max(4 * settings.probes.report_max_age, COUNTED_WITHIN)
    if any(item.ready_at is not None and item.ready_at < forget for item in view.reservations):
        kept = tuple(item for item in view.reservations if item.ready_at is None or item.ready_at >= forget)
        view = replace(view, reservations=kept)
    before, health = view.settled_health, view.health(now)
    if health != before:
        view = _arrived(view, now) if health == Health.HEALTHY else view
        view = replace(view, settled_health=health)
    state = view.status(now, settings).state
    if state != view.state:
        transition = Transition(now, view.state, state, _reason(view, state, now, settings))
        return replace(view, state=state, since=now, history=_recorded(view.history, transition))
    if health != before:
        # Out of rotation by an operator's will, it stays so, whatever befalls it.
        reason = _RETURNS[before] if health == Health.HEALTHY else " ".join(view.reasons(now, settings))
        return replace(view, history=_recorded(view.history, Transition(now, state, state, reason)))
    return view


def _recorded(history: tuple[Transition, ...], transition: Transition) -> tuple[Transition, ...]:
    """The history with one more transition; of those to full and back at short intervals, only the last stays.

    A member near its limit would else drown what matters within minutes.
    """
    last = history[-1] if history else None
    if last is not None and _is_about_room(last) and _is_about_room(transition) and transition.at - last.at < FLICKER:
        history = history[:-1]
    return (*history, transition)[-KEEP_HISTORY:]


def _is_about_room(transition: Transition) -> bool:
    return {transition.before, transition.after} == {"available", "full"}


def _arrived(view: MemberView, now: float) -> MemberView:
    """The view of a member that comes into rotation: slowly, if it returns."""
    starts = view.starting_until is not None and now < view.starting_until
    returns = view.settled_health in _OUT and not starts
    return replace(view, starting_until=None, returned_at=now if returns else view.returned_at)


#: Why a member is available again, by the state that it leaves.
_RETURNS = {
    "unknown": "It was probed and works.",
    "unreachable": "It answers again.",
    "failing": "Its checks pass again.",
    "ejected": "A launch there has succeeded again.",
    "half_open": "A trial launch has succeeded.",
    "full": "It has room again.",
}


def _reason(view: MemberView, state: str, now: float, settings: HealthSettings) -> str:
    if state == "available":
        return _RETURNS.get(view.state, "It takes launches again.")
    return " ".join(view.reasons(now, settings))
