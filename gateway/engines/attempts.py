"""A launch at one member after the other: what each is told, and what its answers are to visitor, journal and fleet.

Which member is asked, whether another one is, and how long the launch waits for it are not decided here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing

from contract.addresses import truncated
from contract.events import BuildEvent, Failure, Phase, event
from contract.reports import session_owner
from contract.signatures import LaunchClaims, sign_launch
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.orders import LaunchOrder
from gateway.core.decision import Candidate
from gateway.core.durations import BUILDING, Stretches
from gateway.core.fleet import Member, Reservation
from gateway.core.launch import Launch
from gateway.core.origins import session_url_problem
from gateway.core.outcomes import Attempt
from gateway.engines.means import Means
from gateway.engines.patience import Patience
from providers.base import Resolved

#: Seconds for which a launch token is good.
TOKEN_LIFETIME = 60.0

#: The shortest and the longest that a member's word on when to come back is believed.
RETRY_AT_LEAST, RETRY_AT_MOST = 1.0, 3600.0


class Attempts:
    """The attempts of one launch; ``taken`` is called whenever an event of a member shows that it has taken it."""

    def __init__(self, launch: Launch, means: Means, taken: Callable[[], Awaitable[None]]) -> None:
        self._launch, self._means, self._taken = launch, means, taken
        self.doubtful: list[tuple[str, str, Attempt]] = []
        """Failures that may be the repository's: of which members, why, and at which attempts."""
        self._cancels: dict[str, asyncio.Task[None]] = {}

    async def at(self, member: Member, resolved: Resolved, chosen: Candidate | None) -> BuildEvent:
        """One member's part; returns its final event.  Raises :class:`MemberFault`.

        ``chosen`` is why it was asked; ``None`` where another replica has begun this attempt, and told why.
        """
        means, launch = self._means, self._launch
        if member.name in self._cancels:
            # What it was told of the attempt before must not end this one.
            await asyncio.wait([self._cancels.pop(member.name)])
        repo, ready = resolved.spec.repo, False
        attempt = Attempt(means.fleet.now(), repo, launch.short)
        if not launch.visitor.build_only:
            means.fleet.reserve(member.name, self._reservation(resolved, attempt))
        try:
            final = await self._stream(member, resolved, self._news(resolved, chosen))
        except MemberFault as fault:
            if fault.blames:
                means.fleet.failed(member.name, f"It {fault.in_public}.", attempt, sure=fault.sure)
                self.doubtful += [] if fault.sure else [(member.name, f"It {fault.in_public}.", attempt)]
            raise
        else:
            # A build alone takes no room, and says nothing of how sessions start.
            ready = final.phase == Phase.READY and not launch.visitor.build_only
            if ready:
                means.fleet.succeeded(member.name, attempt)
                for name, reason, earlier in self.doubtful:
                    if name != member.name:
                        means.fleet.failed(name, reason, earlier, sure=True)
            return final
        finally:
            means.fleet.release(member.name, launch.short, ready=ready)

    def _reservation(self, resolved: Resolved, attempt: Attempt) -> Reservation:
        owner = session_owner(self._launch.visitor.user, attempt.repo)
        return Reservation(attempt.launch, attempt.repo, resolved.commit, made_at=attempt.begun_at, owner=owner)

    def _news(self, resolved: Resolved, chosen: Candidate | None) -> dict[str, object]:
        """What an attempt's first event tells besides: why the member was chosen, how long such launches have taken."""
        if chosen is None:
            return {}
        usual = self._means.durations.usual(resolved.spec.repo)
        return {"why": chosen.group, "usual_s": _expected(usual, warm=chosen.warm) or None}

    async def _stream(self, member: Member, resolved: Resolved, news: dict[str, object]) -> BuildEvent:
        """Carry a member's events over to the journal; returns the final one.  Raises :class:`MemberFault`."""
        means, launch = self._means, self._launch
        token = sign_launch(self._claims(member, resolved), means.keys.current)
        order = LaunchOrder(resolved.resolved_spec, launch.id, token, launch.trail.heard, launch.visitor.build_only)
        patience = Patience(means.fleet, member)
        stretches = Stretches()
        stream = means.client.build(member, order)
        try:
            async with patience.limit(), aclosing(stream):
                async for item, heard in stream:
                    stretches.heard(item, means.fleet.now())
                    if item.is_final:
                        final = self._final(member, resolved, item)
                        means.durations.note(resolved.spec.repo, stretches.taken)
                        return final
                    patience.heard(item)
                    await self._taken()
                    launch.phase = launch.phase if item.phase == Phase.UNKNOWN else item.phase
                    launch.journal.append(item.with_fields(**launch.own_fields, **news))
                    news = {}
                    # Only now: who goes on with the launch asks the member for what comes after this.
                    launch.trail.heard = heard
        except TimeoutError as error:
            raise patience.fault() from error
        raise MemberFault(Fault.CUT, "ended the stream before the launch had ended")

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
            return item
        if build_only:
            image = item.fields.get("imageName")
            fields = {"imageName": image if isinstance(image, str) else None, "resolved_ref": resolved.commit}
            return event(Phase.READY, item.message, **fields)
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
        )

    def cancel(self, member: Member) -> None:
        """Have a member end what it was asked for."""
        means, launch = self._means, self._launch
        self._cancels[member.name] = means.tasks.spawn(f"cancel {launch.short}", means.client.cancel(member, launch.id))

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


def _expected(usual: Mapping[str, float], *, warm: bool) -> dict[str, float]:
    """What is to come of the stretches of a launch; who has the image does not build it.

    Nothing is expected of a launch of which only the end is known: a visitor would take that for all of it.
    """
    if not warm and BUILDING not in usual:
        return {}
    return {name: round(seconds, 1) for name, seconds in usual.items() if not (warm and name == BUILDING)}


def _retry_after(told: object) -> float | None:
    """Seconds after which a member that refused may be asked again; ``None`` where it did not refuse for room."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not told > 0:
        return None
    return float(min(max(told, RETRY_AT_LEAST), RETRY_AT_MOST))
