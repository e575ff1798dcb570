"""One launch on its way: Resolve → Attempt(member) → … → Ready.

Every attempt builds the same commit.  Whatever a member fails at before ``ready`` sends the launch on to the next
candidate, inside a budget, and the visitor's stream goes on; a failure of the repository ends it at once.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from contract.addresses import truncated
from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.reports import session_owner
from contract.signatures import LaunchClaims, sign_launch
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.kinds import Clients
from gateway.clients.orders import LaunchOrder
from gateway.core.decision import Candidate, Decision, LaunchRequest, Standing, decide
from gateway.core.durations import BUILDING, Durations, Stretches
from gateway.core.fleet import Member, Reservation
from gateway.core.launch import Launch
from gateway.core.launch_events import FinishedLaunch
from gateway.core.origins import session_url_problem
from gateway.core.outcomes import Attempt
from gateway.core.retries import RetryBudget
from gateway.core.settings import LaunchSettings, RoutingSettings
from gateway.core.signing import SigningKeys
from gateway.core.tallies import Tallies
from gateway.engines.fleet import Fleet
from gateway.engines.prober import Prober
from gateway.engines.queue import LaunchQueue, QueueFullError, Ticket
from gateway.engines.quotas import Quotas
from gateway.engines.sharing import Sharing
from providers.base import ProviderError, ProviderUnavailableError, RefNotFoundError, RepoSpec, Resolved
from providers.registry import Providers, failure_text
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds for which a launch token is good.
TOKEN_LIFETIME = 60.0

#: What a visitor is told to wait where nobody can take a launch: about the time in which a member restarts.
RETRY_AFTER = 30.0

#: The longest that a member's word on when to come back is believed.
RETRY_AT_MOST = 3600.0

#: Seconds between two looks for a member, of a launch that waits for one.
LOOK_EVERY = 1.0

#: Seconds after which a member that had no room is asked again for a launch that waits, however long it said itself.
ASK_AGAIN_AFTER = 10.0

#: Seconds before a member that has failed a launch is asked for the same one again; doubled each time.
AGAIN_AFTER, AGAIN_AT_MOST = 1.0, 8.0

_BUILDING = (Phase.FETCHING, Phase.BUILDING, Phase.PUSHING)
_STARTING = (Phase.BUILT, Phase.LAUNCHING)


@dataclass(frozen=True)
class Means:
    """What a journey works with."""

    fleet: Fleet
    prober: Prober
    client: Clients
    providers: Providers
    keys: SigningKeys
    public_url: str
    budget: RetryBudget
    tallies: Tallies
    tasks: Tasks
    sharing: Sharing
    queue: LaunchQueue
    quotas: Quotas
    pseudonym: Callable[[str], str]
    """Names a client for members that may not know its address."""
    refusal: Callable[[RepoSpec, str], str | None]
    """What a client is told whose launch of a repository is banned by now."""
    durations: Durations = field(default_factory=Durations)
    draw: Callable[[], float] = random.random
    wall: Callable[[], float] = time.time
    record: Callable[[FinishedLaunch], None] = lambda _: None
    """Takes each launch that has ended."""
    decided: Callable[[str, Decision], None] = lambda _launch, _decision: None
    """Takes each decision that a launch follows, with the launch's short id."""

    @property
    def settings(self) -> LaunchSettings:
        """How long a launch waits, as of now."""
        return self.fleet.settings.launch

    @property
    def routing(self) -> RoutingSettings:
        """How a member is chosen, as of now."""
        return self.fleet.settings.routing


class Journey:
    """Runs one launch; :meth:`run` returns the final event, and has appended all others to the journal."""

    def __init__(self, launch: Launch, means: Means) -> None:
        self._launch, self._means, self._trail = launch, means, launch.trail
        self._refused: dict[str, tuple[float, float]] = {}
        """When a member has refused the launch, and when it may be asked again."""
        self._retry_after = RETRY_AFTER
        self._doubtful: list[tuple[str, str, Attempt]] = []
        """Failures that may be the repository's: of which members, why, and at which attempts."""
        self._rested = 0
        self._ticket: Ticket | None = None
        """Its place in the queue, from when it had to wait until a member has taken it."""
        self._waited = 0.0
        self._cancels: dict[str, asyncio.Task[None]] = {}
        self._news: dict[str, object] = {}
        """What the next event tells besides: why the member was chosen, and how long such launches have taken."""

    async def run(self) -> BuildEvent:
        """From the spec, or from where another replica has got to, to the final event."""
        spec = self._launch.spec
        if self._trail.resolved is not None:
            await self._means.quotas.keep(self._launch)
            return await self._attempts(self._trail.resolved)
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
        return await self._attempts(resolved)

    async def _moved(self, resolved: Resolved) -> str | None:
        """The repository is another one than its spec has said: it claims a place as that one."""
        launch, quotas = self._launch, self._means.quotas
        await quotas.ended(launch, ready=False)
        launch.spec = replace(launch.spec, repo=resolved.spec.repo)
        return await quotas.claim(launch)

    async def _attempts(self, resolved: Resolved) -> BuildEvent:
        begun = (
            self._means.fleet.member(self._launch.member) if self._trail.attempting and self._launch.member else None
        )
        while True:
            # Anew each time: a ban may have come meanwhile, or while nobody ran this launch.
            if (refusal := self._means.refusal(resolved.spec, self._launch.visitor.client)) is not None:
                if begun is not None:
                    self._cancel_at(begun)
                return failed(Failure.REFUSED, refusal, status_code=403)
            if begun is not None:
                if (final := await self._try(begun, resolved)) is not None:
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
                if (final := await self._try(member, resolved)) is not None:
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
        usual = {} if self._trail.resolved is None else self._means.durations.usual(self._trail.resolved.spec.repo)
        self._news = {"why": chosen.group, "usual_s": _expected(usual, warm=chosen.warm) or None}
        await self._means.sharing.keep(launch)

    async def _try(self, member: Member, resolved: Resolved) -> BuildEvent | None:
        """One attempt, begun here or by another replica; ``None``: the launch goes on elsewhere."""
        try:
            return await self._attempt(member, resolved)
        except MemberFault as fault:
            self._take_in(member, fault)
            if fault.fault != Fault.REFUSED and self._is_hopeless():
                return self._given_up(member, fault)
            self._launch.phase = Phase.WAITING
            self._tell(f"{member.name} {fault}. The launch goes on.\n", reason=fault.fault.value)
            if fault.fault != Fault.REFUSED:
                await self._pace()
        return None

    async def _attempt(self, member: Member, resolved: Resolved) -> BuildEvent:
        """One member's part; returns its final event.  Raises :class:`MemberFault`."""
        means, launch = self._means, self._launch
        if member.name in self._cancels:
            # What it was told of the attempt before must not end this one.
            await asyncio.wait([self._cancels.pop(member.name)])
        repo, ready = resolved.spec.repo, False
        attempt = Attempt(means.fleet.now(), repo, launch.short)
        if not launch.visitor.build_only:
            means.fleet.reserve(member.name, self._reservation(resolved, attempt))
        try:
            final = await self._stream(member, resolved)
        except MemberFault as fault:
            if fault.blames:
                means.fleet.failed(member.name, f"It {fault.in_public}.", attempt, sure=fault.sure)
                self._doubtful += [] if fault.sure else [(member.name, f"It {fault.in_public}.", attempt)]
            raise
        else:
            # A build alone takes no room, and says nothing of how sessions start.
            ready = final.phase == Phase.READY and not launch.visitor.build_only
            if ready:
                means.fleet.succeeded(member.name, attempt)
                for name, reason, earlier in self._doubtful:
                    if name != member.name:
                        means.fleet.failed(name, reason, earlier, sure=True)
            return final
        finally:
            means.fleet.release(member.name, launch.short, ready=ready)

    def _reservation(self, resolved: Resolved, attempt: Attempt) -> Reservation:
        owner = session_owner(self._launch.visitor.user, attempt.repo)
        return Reservation(attempt.launch, attempt.repo, resolved.commit, made_at=attempt.begun_at, owner=owner)

    async def _stream(self, member: Member, resolved: Resolved) -> BuildEvent:
        """Carry a member's events over to the journal; returns the final one.  Raises :class:`MemberFault`."""
        token = sign_launch(self._claims(member, resolved), self._means.keys.current)
        build_only = self._launch.visitor.build_only
        order = LaunchOrder(resolved.resolved_spec, self._launch.id, token, self._trail.heard, build_only)
        patience = _Patience(self._means, member)
        stretches = Stretches()
        stream = self._means.client.build(member, order)
        try:
            async with patience.limit(), aclosing(stream):
                async for item, heard in stream:
                    stretches.heard(item, self._means.fleet.now())
                    if item.is_final:
                        final = self._final(member, resolved, item)
                        self._means.durations.note(resolved.spec.repo, stretches.taken)
                        return final
                    patience.heard(item)
                    await self._served()
                    self._launch.phase = self._launch.phase if item.phase == Phase.UNKNOWN else item.phase
                    self._launch.journal.append(item.with_fields(**self._own_fields(), **self._news))
                    self._news = {}
                    # Only now: who goes on with the launch asks the member for what comes after this.
                    self._trail.heard = heard
        except TimeoutError as error:
            raise patience.fault() from error
        raise MemberFault(Fault.CUT, "ended the stream before the launch had ended")

    async def _served(self) -> None:
        """A member has taken the launch: whoever waits behind it moves up."""
        if self._ticket is not None:
            self._ticket = None
            await self._means.queue.leave(self._launch, served=True)

    def _final(self, member: Member, resolved: Resolved, item: BuildEvent) -> BuildEvent:
        build_only = self._launch.visitor.build_only
        if item.phase == Phase.FAILED:
            reason = " ".join(item.message.split())[:300].rstrip(".")
            # A BinderHub that is not in its API only mode, or a member of an earlier version: it builds for launches.
            if item.failure == Failure.REFUSED or (build_only and item.fields.get("status_code") == 400):
                after = _retry_after(item.fields.get("retry_after_s"))
                raise MemberFault(Fault.REFUSED, f"refused the launch ({reason})", after)
            if item.failure in (Failure.MEMBER, Failure.GATEWAY):
                raise MemberFault(Fault.FAILED, f"failed the launch ({reason})")
            return item.with_fields(**self._own_fields())
        if build_only:
            image = item.fields.get("imageName")
            fields = {"imageName": image if isinstance(image, str) else None, "resolved_ref": resolved.commit}
            return event(Phase.READY, item.message, **fields, **self._own_fields())
        if problem := session_url_problem(item.fields.get("url"), member.origins):
            raise MemberFault(Fault.SESSION_URL, f"gave a notebook's address that is not passed on: {problem}")
        spec = resolved.spec
        return item.with_fields(
            repo_url=spec.repo_url,
            binder_ref_url=resolved.ref_url or None,
            binder_launch_host=self._means.public_url,
            binder_request=f"v2/{spec.raw}",
            binder_persistent_request=f"v2/{resolved.resolved_spec}",
            binder_client_ip=self._launch.visitor.client or None,
            resolved_ref=resolved.commit,
            **self._own_fields(),
        )

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
            self._cancel_at(member)

    def _cancel_at(self, member: Member) -> None:
        means, launch = self._means, self._launch
        self._cancels[member.name] = means.tasks.spawn(f"cancel {launch.short}", means.client.cancel(member, launch.id))

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
        message = f"{self._obstacles(decision)} {why}Please try again in {after:.0f} seconds.\n"
        return failed(Failure.REFUSED, message, reason="full", retry_after_s=after, **self._own_fields())

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
        if len(self._doubtful) == len(self._trail.tried):
            advice = "If that happens each time, the repository may be one whose notebook server does not start."
        message = (
            f"The launch has failed {len(self._trail.tried)} times, at last because {member.name} {fault}. {advice}\n"
        )
        return failed(Failure.MEMBER, message, **self._own_fields())

    def _claims(self, member: Member, resolved: Resolved) -> LaunchClaims:
        now = self._means.wall()
        return LaunchClaims(
            member=member.name,
            launch_id=self._launch.id,
            client=self._told_client(member),
            attempt=self._launch.attempt,
            force=self._launch.visitor.force,
            build_only=self._launch.visitor.build_only,
            provider=resolved.spec.provider,
            spec=resolved.spec.raw,
            repo_url=resolved.spec.repo_url,
            resolved_ref=resolved.commit,
            issued_at=now,
            expires_at=now + TOKEN_LIFETIME,
            launch_host=self._means.public_url,
            ref_url=resolved.ref_url,
            persistent_spec=resolved.resolved_spec,
            repo=resolved.spec.repo,
            user=self._launch.visitor.user,
        )

    def _told_client(self, member: Member) -> str:
        client = self._launch.visitor.client
        forms = {"full": client, "truncated": truncated(client), "hashed": self._means.pseudonym(client)}
        return forms.get(member.client_form, "")

    def _tell(self, message: str, **fields: str | float | None) -> None:
        self._launch.journal.append(event(Phase.WAITING, message, **self._own_fields(), **fields))

    def _own_fields(self) -> dict[str, str | int | None]:
        launch = self._launch
        return {"launch_id": launch.short, "member": launch.member, "attempt": launch.attempt or None}


def _expected(usual: Mapping[str, float], *, warm: bool) -> dict[str, float]:
    """What is to come of the stretches of a launch; who has the image does not build it.

    Nothing is expected of a launch of which only the end is known: a visitor would take that for all of it.
    """
    if not warm and BUILDING not in usual:
        return {}
    return {name: round(seconds, 1) for name, seconds in usual.items() if not (warm and name == BUILDING)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else float(math.ceil(seconds))


def _retry_after(told: object) -> float | None:
    """Seconds after which a member that refused may be asked again; ``None`` where it did not refuse for room."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not told > 0:
        return None
    return float(min(max(told, LOOK_EVERY), RETRY_AT_MOST))


class _Patience:
    """How long an attempt may take: a bound for each stretch of a launch, and less at a member that is lost.

    :meth:`limit` raises ``TimeoutError`` when it is at an end; :meth:`fault` then says why.
    """

    def __init__(self, means: Means, member: Member) -> None:
        self._means, self._member, self._settings = means, member, means.settings
        self._heard_at = means.fleet.now()
        self._stretch, self._bound = "in its queue", means.settings.waiting_timeout
        self._timer = asyncio.timeout(self._bound)
        self._lost = False

    @asynccontextmanager
    async def limit(self) -> AsyncIterator[None]:
        """Bounds what is done in this context."""
        watch = asyncio.create_task(self._watch_member())
        try:
            async with self._timer:
                yield
        finally:
            watch.cancel()

    def heard(self, item: BuildEvent) -> None:
        """Take in that the member has sent an event; one with a position stands in a queue, for a build or a start."""
        self._heard_at = self._means.fleet.now()
        if "position" in item.fields:
            self._enter("in its queue", self._settings.waiting_timeout)
        elif item.phase in _BUILDING:
            self._enter("building", self._settings.build_timeout)
        elif item.phase in _STARTING:
            self._enter("starting the session", self._settings.start_timeout)

    def fault(self) -> MemberFault:
        """Why it was at an end."""
        if self._lost:
            return MemberFault(Fault.LOST, "can no longer be reached, and its stream is silent")
        return MemberFault(Fault.SLOW, f"was {self._stretch} for more than {self._bound:g} s")

    def _enter(self, stretch: str, bound: float) -> None:
        if stretch != self._stretch:
            self._stretch, self._bound = stretch, bound
            self._timer.reschedule(asyncio.get_running_loop().time() + bound)

    async def _watch_member(self) -> None:
        while not self._lost:
            await asyncio.sleep(LOOK_EVERY)
            view = self._means.fleet.snapshot.get(self._member.name)
            if view is not None and view.reachable.ok is False:
                silent = self._means.fleet.now() - max(view.reachable.since, self._heard_at)
                self._lost = silent >= self._settings.stalled_after
        self._timer.reschedule(asyncio.get_running_loop().time())
