"""The fleet: the sole writer of the snapshot."""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from contract.reports import CapacityReport
from gateway.core import transitions
from gateway.core.facts import Fact, Failed, Refused, Succeeded
from gateway.core.fleet import FleetSnapshot, Member, MemberView, Policy, Reservation, Transition
from gateway.core.outcomes import Attempt
from gateway.core.settings import FederationSettings, HealthSettings
from gateway.core.transitions import ProbeResult

logger = logging.getLogger(__name__)

#: What a launch shows of a member.
LaunchFact = Succeeded | Failed | Refused

#: Seconds by which a fact may be late; an older one says nothing any more, and may be a replay.
HEARD_AT_MOST = 60.0


class Clock:
    """Unix time that never jumps: set once by the machine's clock, then driven by the monotonic one."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._offset


class Fleet:
    """Holds the snapshot; everything that is observed of a member comes through here."""

    def __init__(
        self,
        members: Iterable[Member],
        settings: FederationSettings,
        clock: Callable[[], float] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.now: Callable[[], float] = clock or Clock()
        self._draw = draw
        now = self.now()
        until = now + settings.probes.slow_start
        views = [MemberView(member, since=now, starting_until=until) for member in members]
        views.sort(key=lambda view: view.name)
        self._snapshot = FleetSnapshot(tuple(views), settings)
        self.settings = settings
        """The rules as of now."""
        self.tell: Callable[[Fact], None] = lambda _: None
        """Is told what launches of this replica show of members."""
        self.heard: Callable[[LaunchFact], None] = lambda _: None
        """Is told what launches show of members, here and at other replicas."""
        self.noted: Callable[[str, Transition], None] = lambda _member, _transition: None
        """Is told of each change of a member's state."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """What is believed of all members."""
        return self._snapshot

    def member(self, name: str) -> Member | None:
        """A member as it is registered."""
        view = self._snapshot.get(name)
        return view.member if view else None

    def configure(self, members: Iterable[Member], settings: FederationSettings) -> None:
        """Go by other settings from now on; what is believed of the members that stay is kept.

        A new member starts slowly.
        """
        now = self.now()
        views = []
        for member in members:
            view = self._snapshot.get(member.name)
            if view is None or (view.member.url, view.member.kind) != (member.url, member.kind):
                views.append(MemberView(member, since=now, returned_at=now))
            else:
                views.append(transitions.settled(replace(view, member=member), now, settings))
        views.sort(key=lambda view: view.name)
        before, self._snapshot = self._snapshot, FleetSnapshot(tuple(views), settings, self._snapshot.version + 1)
        for view in views:
            known = before.get(view.name)
            if known is not None and view.history and view.state != known.state:
                self.noted(view.name, view.history[-1])
        self.settings = settings

    def probed(self, name: str, result: ProbeResult) -> None:
        """Take in what a probe saw."""
        self._change(name, lambda view, now, settings: transitions.probed(view, result, now, settings))

    def unreached(self, name: str, reason: str) -> None:
        """Take in that a launch could not reach a member."""
        self._change(name, lambda view, now, settings: transitions.unreached(view, reason, now, settings))

    def succeeded(self, name: str, attempt: Attempt) -> None:
        """Take in that a launch at a member became ready."""
        self._learned(Succeeded(name, self.now(), attempt))

    def failed(self, name: str, reason: str, attempt: Attempt, *, sure: bool) -> None:
        """Take in that a launch failed at a member; ``sure``: for that member's own fault, without doubt."""
        self._learned(Failed(name, self.now(), attempt, reason, sure, self._draw()))

    def refused(self, name: str) -> None:
        """Take in that a member had no room for a launch."""
        self._learned(Refused(name, self.now()))

    def hear(self, fact: LaunchFact) -> None:
        """Take in what a launch has shown of a member, here or at another replica."""
        self._change(fact.member, lambda view, now, settings: _after(fact, view, now, settings))
        self.heard(fact)

    def reserved_elsewhere(self, reservations: Sequence[Mapping[str, tuple[Reservation, ...]]]) -> None:
        """Count the launches that the other replicas have sent to members, by member for each replica."""
        for view in self._snapshot.members:
            theirs = tuple(item for each in reservations for item in each.get(view.name, ()))
            self._change(view.name, partial(_reserved_elsewhere, theirs))

    def reported(self, name: str, report: CapacityReport) -> None:
        """Take in a report that was checked."""
        self._change(name, lambda view, now, settings: transitions.reported(view, report, now, settings))

    def wanted(self, name: str, policy: Policy, weight: float | None = None) -> None:
        """Take in what operators want of a member; ``weight`` ``None``: that of its registration."""

        self._change(name, lambda view, now, settings: transitions.wanted(view, policy, weight, now, settings))

    def reserve(self, name: str, reservation: Reservation) -> None:
        """Count a launch that is sent to a member."""
        self._change(name, lambda view, now, settings: transitions.reserved(view, reservation, now, settings))

    def release(self, name: str, launch: str, *, ready: bool) -> None:
        """A launch has ended at a member; ``launch`` is its short id."""
        self._change(name, lambda view, now, settings: transitions.released(view, launch, ready, now, settings))

    async def tick(self) -> None:
        """Let time pass: reports and ejections expire."""
        for view in self._snapshot.members:
            self._change(view.name, transitions.settled)

    def _learned(self, fact: LaunchFact) -> None:
        self.hear(fact)
        self.tell(fact)

    def _change(self, name: str, change: Callable[[MemberView, float, HealthSettings], MemberView]) -> None:
        before = self._snapshot.get(name)
        if before is None:
            return
        now = self.now()
        after = change(before, now, self._snapshot.settings)
        if after is before:
            return
        members = tuple(after if view.name == name else view for view in self._snapshot.members)
        self._snapshot = FleetSnapshot(members, self._snapshot.settings, self._snapshot.version + 1)
        if after.history is not before.history:
            status = self._snapshot.status(after, now)
            level = logging.INFO if status.available else logging.WARNING
            self.noted(name, after.history[-1])
            logger.log(level, "%s: %s → %s. %s", name, before.state, after.state, after.history[-1].reason)


def _after(fact: LaunchFact, view: MemberView, now: float, settings: HealthSettings) -> MemberView:
    # As of then, so that what was learned at intervals is not taken to have happened at once; clocks may differ a bit.
    if now - fact.at > HEARD_AT_MOST:
        return view
    now = min(fact.at, now)
    if isinstance(fact, Succeeded):
        return transitions.succeeded(view, fact.attempt, now, settings)
    if isinstance(fact, Failed):
        reason, draw, sure = fact.reason, fact.draw, fact.sure
        return transitions.failed(view, reason, fact.attempt, now, draw, settings, sure=sure)
    return transitions.refused(view, now, settings)


def _reserved_elsewhere(
    reservations: tuple[Reservation, ...], view: MemberView, now: float, settings: HealthSettings
) -> MemberView:
    return transitions.reserved_elsewhere(view, reservations, now, settings)
