"""One launch on its way: Resolve → Attempt(member) → … → Ready.

Every attempt builds the same commit.  Whatever a member fails at before ``ready`` sends the launch on to the next
candidate, inside a budget, and the visitor's stream goes on; a failure of the repository ends it at once.

Here a member is chosen or waited for, and what follows of its fault; :mod:`gateway.engines.attempts` talks to it.
"""

import asyncio
import logging
import math
from dataclasses import replace

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.reports import session_owner
from gateway.clients.faults import Fault, MemberFault
from gateway.core.decision import Candidate, Decision, LaunchRequest, Standing, decide
from gateway.core.fleet import Member
from gateway.core.launch import Launch
from gateway.engines.attempts import Attempts
from gateway.engines.means import Means
from gateway.engines.queue import QueueFullError, Ticket
from providers.base import ProviderError, ProviderUnavailableError, RefNotFoundError, Resolved
from providers.registry import failure_text

logger = logging.getLogger(__name__)

#: What a visitor is told to wait where nobody can take a launch: about the time in which a member restarts.
RETRY_AFTER = 30.0

#: Seconds between two looks for a member, of a launch that waits for one.
LOOK_EVERY = 1.0

#: Seconds after which a member that had no room is asked again for a launch that waits, however long it said itself.
ASK_AGAIN_AFTER = 10.0

#: Seconds before a member that has failed a launch is asked for the same one again; doubled each time.
AGAIN_AFTER, AGAIN_AT_MOST = 1.0, 8.0


class Journey:
    """Runs one launch; :meth:`run` returns the final event, and has appended all others to the journal."""

    def __init__(self, launch: Launch, means: Means) -> None:
        self._launch, self._means, self._trail = launch, means, launch.trail
        self._attempts = Attempts(launch, means, self._served)
        self._refused: dict[str, tuple[float, float]] = {}
        """When a member has refused the launch, and when it may be asked again."""
        self._retry_after = RETRY_AFTER
        self._rested = 0
        self._ticket: Ticket | None = None
        """Its place in the queue, from when it had to wait until a member has taken it."""
        self._waited = 0.0

    async def run(self) -> BuildEvent:
        """From the spec, or from where another replica has got to, to the final event."""
        spec = self._launch.spec
        if self._trail.resolved is not None:
            await self._means.quotas.keep(self._launch)
            return await self._through_members(self._trail.resolved)
        if (full := await self._means.quotas.claim(self._launch)) is not None:
            return failed(Failure.REFUSED, full, retry_after_s=RETRY_AFTER)
        self._means.budget.launched(self._means.settings)
        try:
            resolved = await self._means.providers.resolve(spec)
        except ProviderUnavailableError as error:
            message = failure_text(spec, error) + "\n"
            return failed(Failure.GATEWAY, message, retry_after_s=error.retry_after_s)
        except ProviderError as error:
            reason = "not_found" if isinstance(error, RefNotFoundError) else None
            return failed(Failure.USER, failure_text(spec, error) + "\n", reason=reason)
        self._trail.resolved = resolved
        if resolved.spec.repo != spec.repo and (full := await self._moved(resolved)) is not None:
            return failed(Failure.REFUSED, full, retry_after_s=RETRY_AFTER)
        for note in resolved.notes:
            self._tell(note.rstrip("\n") + "\n")
        return await self._through_members(resolved)

    async def _moved(self, resolved: Resolved) -> str | None:
        """The repository is another one than its spec has said: it claims a place as that one."""
        launch, quotas = self._launch, self._means.quotas
        await quotas.ended(launch, ready=False)
        launch.spec = replace(launch.spec, repo=resolved.spec.repo)
        return await quotas.claim(launch)

    async def _through_members(self, resolved: Resolved) -> BuildEvent:
        at = self._launch.member if self._trail.attempting else None
        begun = self._means.fleet.member(at) if at else None
        while True:
            # Anew each time: a ban may have come meanwhile, or while nobody ran this launch.
            if (refusal := self._means.refusal(resolved.spec, self._launch.visitor.client)) is not None:
                if begun is not None:
                    self._attempts.cancel(begun)
                return failed(Failure.REFUSED, refusal, status_code=403)
            if begun is not None:
                if (final := await self._try(begun, resolved, None)) is not None:
                    return final
                begun = None
            decision = self._decide(resolved)
            chosen = decision.chosen
            member = self._means.fleet.member(chosen.member) if chosen else None
            if chosen is None or member is None or await self._others_are_first(decision):
                if (ended := await self._wait(decision, resolved)) is not None:
                    return ended
            elif chosen.standing == Standing.AGAIN and self._rested < len(self._trail.tried):
                await self._rest()
            else:
                self._means.decided(self._launch.short, decision)
                await self._begin(member, chosen)
                if (final := await self._try(member, resolved, chosen)) is not None:
                    return final

    def _decide(self, resolved: Resolved) -> Decision:
        means, visitor, now = self._means, self._launch.visitor, self._means.fleet.now()
        request = LaunchRequest(
            resolved.spec.repo,
            resolved.commit,
            provider=resolved.spec.provider,
            client=visitor.client,
            origin=visitor.origin,
            asked=visitor.asked,
            sticky=visitor.sticky,
            tried=self._trail.tried,
            refused=frozenset(name for name in self._refused if self._still_refuses(name, now)),
            avoid=visitor.avoid,
            owner=session_owner(visitor.user, resolved.spec.repo),
        )
        decision = decide(means.fleet.snapshot, request, means.routing, now, means.draw())
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("launch %s: %s", self._launch.short, decision.explain())
        return decision

    def _still_refuses(self, name: str, now: float) -> bool:
        """Whether a member is not to be asked yet; one that had no room may be once it has reported some."""
        at, until = self._refused[name]
        if until == math.inf or now >= until:
            return now < until
        snapshot = self._means.fleet.snapshot
        view = snapshot.get(name)
        reported = view is not None and view.received is not None and view.received.at > at
        return not (reported and view is not None and view.free(now, snapshot.settings))

    async def _begin(self, member: Member, chosen: Candidate) -> None:
        """Settle on a member, so that whoever goes on with the launch asks the same one."""
        launch = self._launch
        launch.member, launch.attempt = member.name, launch.attempt + 1
        self._trail.attempting, self._trail.heard = True, -1
        self._means.tallies.attempts[member.name, chosen.group] += 1
        await self._means.sharing.keep(launch)

    async def _try(self, member: Member, resolved: Resolved, chosen: Candidate | None) -> BuildEvent | None:
        """One attempt, begun here or by another replica; ``None``: the launch goes on elsewhere."""
        try:
            return await self._attempts.at(member, resolved, chosen)
        except MemberFault as fault:
            self._take_in(member, fault)
            if fault.fault != Fault.REFUSED and self._is_hopeless():
                return self._given_up(member, fault)
            self._launch.phase = Phase.WAITING
            self._tell(f"{member.name} {fault}. The launch goes on.\n", reason=fault.fault.value)
            if fault.fault != Fault.REFUSED:
                await self._pace()
        return None

    async def _served(self) -> None:
        """A member has taken the launch: whoever waits behind it moves up."""
        if self._ticket is not None:
            self._ticket = None
            await self._means.queue.leave(self._launch, served=True)

    def _take_in(self, member: Member, fault: MemberFault) -> None:
        """What follows of a member's fault for the fleet and for this launch."""
        launch, means = self._launch, self._means
        self._trail.attempting = False
        self._trail.met[member.name] = str(fault)
        means.tallies.failovers[member.name, fault.fault.value] += 1
        logger.warning("launch %s: attempt %d: %s %s", launch.short, launch.attempt, member.name, fault)
        if fault.fault == Fault.REFUSED:
            now = means.fleet.now()
            self._refused[member.name] = (now, math.inf)
            if fault.retry_after_s is not None:
                means.fleet.refused(member.name)
                # Somebody's session may end at any time, and this launch waits for just that.
                self._refused[member.name] = (now, now + min(fault.retry_after_s, ASK_AGAIN_AFTER))
                self._retry_after = fault.retry_after_s
        else:
            self._trail.tried += (member.name,)
            self._trail.begun += fault.begun
            if fault.unreached:
                means.fleet.unreached(member.name, f"A launch met a problem: it {fault}.")
            means.prober.hint(member.name)
        if fault.begun:
            self._attempts.cancel(member)

    def _is_hopeless(self) -> bool:
        """Whether it has failed too often; a connection that could not be had has cost little."""
        most = self._means.settings.max_attempts
        return self._trail.begun >= most or len(self._trail.tried) >= 3 * most

    async def _pace(self) -> None:
        """Wait for the retry budget."""
        wait = self._means.budget.spend(self._means.settings, self._means.fleet.now())
        if wait >= LOOK_EVERY:
            self._tell(f"Many launches are being moved just now; this one goes on in {wait:.0f} s.\n", eta_s=wait)
        try:
            await asyncio.sleep(wait)
        except asyncio.CancelledError:
            self._means.budget.give_back()
            raise

    async def _rest(self) -> None:
        """Nobody is left but members that have failed this launch: give them a moment to recover."""
        self._rested = len(self._trail.tried)
        await asyncio.sleep(min(AGAIN_AFTER * 2 ** (len(self._trail.tried) - 1), AGAIN_AT_MOST))

    def _may_wait(self, decision: Decision) -> bool:
        """Whether a member may be able to take the launch soon enough."""
        if self._waited >= self._means.settings.member_timeout:
            return False
        if decision.chosen is not None:
            return True
        for_good = {name for name, (_, until) in self._refused.items() if until == math.inf}
        return any(item.for_now and item.member not in for_good for item in decision.rejected)

    async def _others_are_first(self, decision: Decision) -> bool:
        """Whether as many wait for these members as there is room for; who has been served once goes on."""
        if decision.chosen is not None and decision.chosen.standing is Standing.PINNED:
            # It takes no room that is not its own already.
            return False
        if self._ticket is not None:
            return 0 < self._ticket.place >= decision.room
        if self._launch.attempt or decision.chosen is None:
            return False
        room = decision.room
        if room >= self._means.settings.waiting_limit:
            return False
        waiting = await self._means.queue.length(decision.members)
        return 0 < waiting >= room

    async def _wait(self, decision: Decision, resolved: Resolved) -> BuildEvent | None:
        """Wait until there is a member to ask, and return ``None``; or the final event, if it takes too long."""
        means, launch = self._means, self._launch
        if not self._may_wait(decision):
            return self._nobody(decision)
        try:
            # Who was refused after all has not lost the place.
            if self._ticket is None:
                means.decided(launch.short, decision)
            ticket = self._ticket = self._ticket or await means.queue.join(launch, decision.members)
        except QueueFullError as error:
            return self._nobody(decision, f"{error} ")
        left = means.settings.member_timeout - self._waited
        place = ticket.place
        self._tell_place(ticket, f"{self._obstacles(decision)} Waiting for a member, for up to {left:.0f} s. ")
        while decision.chosen is None or 0 < ticket.place >= decision.room:
            if not self._may_wait(decision):
                return self._nobody(decision)
            step = min(LOOK_EVERY, means.settings.member_timeout - self._waited)
            await asyncio.sleep(step)
            self._waited += step
            if ticket.place != place:
                place = ticket.place
                self._tell_place(ticket)
            decision = self._decide(resolved)
        return None

    def _tell_place(self, ticket: Ticket, before: str = "") -> None:
        ahead = "You are next." if ticket.place == 0 else f"{ticket.place} before you."
        self._tell(f"{before}{ahead}\n", reason="waiting", position=ticket.place + 1, eta_s=_rounded(ticket.eta))

    def _nobody(self, decision: Decision, why: str = "") -> BuildEvent:
        """The final event where no member is left to try."""
        logger.warning("launch %s: %s", self._launch.short, decision.explain())
        self._means.decided(self._launch.short, decision)
        self._launch.member = None
        after = math.ceil(self._retry_after)
        message = f"{self._obstacles(decision)} {why}Please try again in {after} seconds.\n"
        return failed(Failure.REFUSED, message, reason="full", retry_after_s=after)

    def _obstacles(self, decision: Decision) -> str:
        reasons = {
            item.member: "has room for those before you" if item.free else "is full" for item in decision.candidates
        }
        reasons.update({item.member: item.reason for item in decision.rejected})
        about = "; ".join(f"{name} {self._trail.met.get(name) or reason}" for name, reason in sorted(reasons.items()))
        return f"No member of this federation can take the launch now ({about or 'it has no members'})."

    def _given_up(self, member: Member, fault: MemberFault) -> BuildEvent:
        """The final event of a launch that has failed too often."""
        advice = "Please launch again: it is not the repository's fault."
        if len(self._attempts.doubtful) == len(self._trail.tried):
            advice = "If that happens each time, the repository may be one whose notebook server does not start."
        message = (
            f"The launch has failed {len(self._trail.tried)} times, at last because {member.name} {fault}. {advice}\n"
        )
        return failed(Failure.MEMBER, message)

    def _tell(self, message: str, **fields: str | float | None) -> None:
        self._launch.journal.append(event(Phase.WAITING, message, **self._launch.own_fields, **fields))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(math.ceil(seconds))
