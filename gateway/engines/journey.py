"""One launch on its way: Resolve → Attempt(member) → … → Ready.

Every attempt builds the same commit.  What happens before a member's first event sends the launch on to the next
candidate; what happens after it ends the launch, and says whose failure it is.
"""

import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.signatures import LaunchClaims, sign_launch
from gateway.clients.faults import Fault, MemberFault
from gateway.clients.members import MemberClient
from gateway.core.decision import Decision, LaunchRequest, decide
from gateway.core.fleet import Member, Reservation
from gateway.core.launch import Launch
from gateway.core.origins import session_url_problem
from gateway.core.settings import RoutingSettings
from gateway.core.tallies import Tallies
from gateway.engines.fleet import Fleet
from gateway.engines.prober import Prober
from providers.base import ProviderError, ProviderUnavailableError, Resolved
from providers.registry import Providers, failure_text
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds for which a launch token is good.
TOKEN_LIFETIME = 60.0

#: What a visitor is told to wait where nobody can take a launch: about the time in which a member restarts.
RETRY_AFTER = 30.0


@dataclass(frozen=True)
class Means:
    """What a journey works with."""

    fleet: Fleet
    prober: Prober
    client: MemberClient
    providers: Providers
    signing_key: Ed25519PrivateKey
    public_url: str
    routing: RoutingSettings
    tallies: Tallies
    tasks: Tasks
    draw: Callable[[], float] = random.random
    wall: Callable[[], float] = time.time


class Journey:
    """Runs one launch; :meth:`run` returns the final event, and has appended all others to the journal."""

    def __init__(self, launch: Launch, means: Means) -> None:
        self._launch, self._means = launch, means
        self._met: dict[str, str] = {}
        self._retry_after_s = RETRY_AFTER
        self._begun = False

    async def run(self) -> BuildEvent:
        """From the spec to the final event."""
        spec = self._launch.spec
        try:
            resolved = await self._means.providers.resolve(spec)
        except ProviderUnavailableError as error:
            message = failure_text(spec, error) + "\n"
            return failed(Failure.GATEWAY, message, retry_after_s=error.retry_after_s)
        except ProviderError as error:
            return failed(Failure.USER, failure_text(spec, error) + "\n")
        self._launch.commit = resolved.commit
        for note in resolved.notes:
            self._launch.journal.append(event(Phase.WAITING, note.rstrip("\n") + "\n", **self._own_fields()))
        return await self._attempts(resolved)

    async def _attempts(self, resolved: Resolved) -> BuildEvent:
        tried: frozenset[str] = frozenset()
        while True:
            decision = self._decide(resolved, tried)
            member = self._means.fleet.member(decision.chosen.member) if decision.chosen else None
            if decision.chosen is None or member is None:
                return self._nobody(decision)
            launch = self._launch
            launch.member, launch.attempt = member.name, launch.attempt + 1
            self._means.tallies.attempts[member.name, decision.chosen.tier.name.lower()] += 1
            ready = False
            self._reserve(member, resolved)
            try:
                final = await self._attempt(member, resolved)
                ready = final.phase == Phase.READY
            except MemberFault as fault:
                tried |= {member.name}
                ended = self._failed_attempt(member, fault)
                if ended is not None:
                    return ended
            else:
                return final
            finally:
                self._means.fleet.release(member.name, launch.short, ready=ready)

    def _decide(self, resolved: Resolved, tried: frozenset[str]) -> Decision:
        means = self._means
        request = LaunchRequest(resolved.spec.repo, resolved.commit, tried)
        decision = decide(means.fleet.snapshot, request, means.routing, means.fleet.now(), means.draw())
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("launch %s: %s", self._launch.short, decision.explain())
        return decision

    async def _attempt(self, member: Member, resolved: Resolved) -> BuildEvent:
        """One member's stream; returns its final event.  Raises :class:`MemberFault`."""
        token = sign_launch(self._claims(member, resolved), self._means.signing_key)
        self._begun = False
        stream = self._means.client.build(member, resolved.spec.raw, token)
        async with aclosing(stream):
            async for item in stream:
                if item.is_final:
                    return self._final(member, resolved, item)
                self._begun = True
                self._launch.phase = self._launch.phase if item.phase == Phase.UNKNOWN else item.phase
                self._launch.journal.append(item.with_fields(**self._own_fields()))
        raise MemberFault(Fault.CUT, "ended the stream before the launch had ended")

    def _final(self, member: Member, resolved: Resolved, item: BuildEvent) -> BuildEvent:
        if item.phase == Phase.FAILED:
            if item.failure == Failure.REFUSED:
                told = item.fields.get("retry_after_s")
                self._retry_after_s = float(told) if isinstance(told, int | float) and told > 0 else RETRY_AFTER
                reason = " ".join(item.message.split())
                raise MemberFault(Fault.REFUSED, f"refused the launch ({reason[:300].rstrip('.')})")
            return item.with_fields(**self._own_fields())
        if problem := session_url_problem(item.fields.get("url"), member.origins):
            raise MemberFault(Fault.SESSION_URL, f"gave a notebook's address that is not passed on: {problem}")
        spec = resolved.spec
        return item.with_fields(
            repo_url=spec.repo_url,
            binder_ref_url=resolved.ref_url or None,
            binder_launch_host=self._means.public_url,
            binder_request=f"v2/{spec.raw}",
            binder_persistent_request=f"v2/{resolved.resolved_spec}",
            binder_client_ip=self._launch.client or None,
            resolved_ref=resolved.commit,
            **self._own_fields(),
        )

    def _failed_attempt(self, member: Member, fault: MemberFault) -> BuildEvent | None:
        """Take a member's fault in; returns the launch's final event, or ``None`` to try the next member."""
        launch, means = self._launch, self._means
        self._met[member.name] = str(fault)
        means.tallies.failovers[member.name, fault.fault.value] += 1
        logger.warning("launch %s: attempt %d: %s %s", launch.short, launch.attempt, member.name, fault)
        if fault.unreached:
            means.fleet.unreached(member.name, f"A launch met a problem: it {fault}.")
        if fault.fault != Fault.REFUSED:
            means.prober.hint(member.name)
        if fault.fault not in (Fault.CONNECT, Fault.REFUSED):
            # It may be at work on it, for nobody.
            means.tasks.spawn(f"cancel {launch.short}", means.client.cancel(member, launch.id))
        if fault.fault == Fault.REFUSED or (not self._begun and fault.fault != Fault.SESSION_URL):
            launch.journal.append(event(Phase.WAITING, f"{member.name} {fault}.\n", **self._own_fields()))
            return None
        message = f"{member.name} {fault}. Please launch again: it is not the repository's fault.\n"
        return failed(Failure.MEMBER, message, **self._own_fields())

    def _nobody(self, decision: Decision) -> BuildEvent:
        """The final event where no member is left to try."""
        logger.warning("launch %s: %s", self._launch.short, decision.explain())
        self._launch.member = None
        about = "; ".join(
            f"{item.member} {self._met.get(item.member) or f'is {item.reason}'}" for item in decision.rejected
        )
        message = (
            f"No member of this federation can take the launch now ({about or 'it has no members'}). "
            f"Please try again in {self._retry_after_s:.0f} seconds.\n"
        )
        return failed(Failure.REFUSED, message, retry_after_s=self._retry_after_s, **self._own_fields())

    def _claims(self, member: Member, resolved: Resolved) -> LaunchClaims:
        now = self._means.wall()
        return LaunchClaims(
            member=member.name,
            launch_id=self._launch.id,
            provider=resolved.spec.provider,
            spec=resolved.spec.raw,
            repo_url=resolved.spec.repo_url,
            resolved_ref=resolved.commit,
            issued_at=now,
            expires_at=now + TOKEN_LIFETIME,
            launch_host=self._means.public_url,
            ref_url=resolved.ref_url,
            persistent_spec=resolved.resolved_spec,
        )

    def _reserve(self, member: Member, resolved: Resolved) -> None:
        now = self._means.fleet.now()
        reservation = Reservation(self._launch.short, resolved.spec.repo, resolved.commit, now)
        self._means.fleet.reserve(member.name, reservation)

    def _own_fields(self) -> dict[str, str | int | None]:
        launch = self._launch
        return {"launch_id": launch.short, "member": launch.member, "attempt": launch.attempt or None}
