"""Puts bans in force: launches that are under way end here, and members hear of every ban, to end the sessions."""

import logging
import time
from collections.abc import Callable

from contract.bans import Ban, ban_text
from contract.signatures import BanList, sign_bans
from gateway.clients.kinds import Clients
from gateway.core.fleet import MemberView
from gateway.core.signing import SigningKeys
from gateway.engines.admission import Admission
from gateway.engines.fleet import Fleet
from gateway.engines.launches import Launches
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether rules or members have changed.
LOOK_EVERY = 0.5

#: Seconds after which a member that could not be told is told again.
AGAIN_AFTER = 2.0

#: Seconds after which a member is told in any case: its disk may have been lost.
TELL_EVERY = 600.0


class Banning:
    """``issuer`` is the gateway's public URL; ``wall`` is Unix time."""

    def __init__(
        self,
        admission: Admission,
        launches: Launches,
        fleet: Fleet,
        client: Clients,
        keys: SigningKeys,
        issuer: str,
        tasks: Tasks,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._admission, self._launches, self._fleet, self._client = admission, launches, fleet, client
        self._keys, self._issuer, self._tasks, self._wall = keys, issuer, tasks, wall
        self._telling: set[str] = set()
        self._told: dict[str, tuple[object, float]] = {}
        """What a member was told last (or could not be, "" then), and when that stops to count."""

    async def enforce(self) -> None:
        """Bring launches and members up to date with the rules."""
        if self._admission.changed.is_set():
            self._admission.changed.clear()
            self._end_launches()
        bans = tuple(ban for ban in self._admission.rules.bans if ban.holds(self._wall()))
        for view in self._fleet.snapshot.members:
            if view.name not in self._telling and self._is_late(view, bans):
                # One that hangs keeps nobody else from hearing.
                self._telling.add(view.name)
                self._tasks.spawn(f"tell {view.name} the bans", self._tell(view, bans))

    def _end_launches(self) -> None:
        rules, now = self._admission.rules, self._wall()
        for launch in self._launches.under_way:
            ban = rules.ban_of(launch.spec.raw, launch.spec.repo, launch.visitor.client, now)
            if ban is not None:
                logger.warning("launch %s: ended by the ban %s", launch.short, ban.name)
                self._launches.refuse(launch, ban_text(ban, launch.spec.raw))

    def _is_late(self, view: MemberView, bans: tuple[Ban, ...]) -> bool:
        if view.reachable.ok is not True or view.member.kind != "manybinder":
            return False
        told, until = self._told.get(view.name, (None, 0.0))
        if told == "":
            return self._fleet.now() >= until
        return told != (_boot(view), bans) or self._fleet.now() >= until

    async def _tell(self, view: MemberView, bans: tuple[Ban, ...]) -> None:
        try:
            # As of their last change, so that a replica that has not heard of it does not take it back; but not of a
            # time to come, by the clock of another replica, which members would not believe.
            told_at = min(self._admission.rules.bans_at, self._wall())
            token = sign_bans(BanList(view.name, self._issuer, told_at, bans), self._keys.current)
            problem = await self._client.put_bans(view.member, token)
        finally:
            self._telling.discard(view.name)
        now = self._fleet.now()
        if problem is None:
            self._told[view.name] = ((_boot(view), bans), now + TELL_EVERY)
            return
        if self._told.get(view.name, ("", 0.0))[0] != "" or view.name not in self._told:
            logger.warning("%s is not told of %d bans: %s", view.name, len(bans), problem)
        self._told[view.name] = ("", now + AGAIN_AFTER)


def _boot(view: MemberView) -> str:
    """Changes when a member starts anew."""
    return view.received.report.boot_id if view.received else ""
