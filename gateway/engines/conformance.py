"""Checks members before they are let in: from their health to a kernel of a session, as a visitor would use it.

Each step gives a sentence.  The first that fails ends the check; what it found stands in the records, and an operator
may ask for another one.
"""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar
from urllib.parse import quote

import aiohttp

from contract.events import BuildEvent, Phase
from contract.launches import LAUNCH_ID_BYTES, launch_id
from contract.signatures import LaunchClaims, sign_launch
from gateway.clients.faults import MemberFault
from gateway.clients.kinds import Clients
from gateway.clients.notebooks import Notebook, NotebookError
from gateway.clients.orders import LaunchOrder
from gateway.clients.state.protocol import Quota, SharedState, StateUnavailableError
from gateway.core import canary
from gateway.core.alerts import AlertName, Alerts
from gateway.core.fleet import Member, MemberView
from gateway.core.origins import session_url_problem
from gateway.core.ports import RecordsAwayError
from gateway.core.records import Change
from gateway.core.registration import (
    CHECK,
    MEMBER,
    Check,
    Stage,
    Step,
    check_value,
    read_check,
    registration_value,
)
from gateway.core.settings import JoiningSettings
from gateway.core.signing import SigningKeys
from gateway.core.versions import skew
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records
from gateway.engines.registry import Registry
from providers.base import ProviderError, Resolved
from providers.registry import Providers
from servicekit.tasks import Tasks

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether somebody is to be checked.
LOOK_EVERY = 1.0

#: Seconds for which a replica that checks a member keeps the others from it, and between two signs that it still does.
LEASE, RENEW_EVERY = 30.0, 10.0

#: Seconds for which a launch token is good.
TOKEN_LIFETIME = 60.0

#: Seconds between two looks at a member that is not ready yet.
_POLL = 0.5


_NO_VERSION = "It tells no version of manybinder at /versions: see that its address is that of its API."


class _Found(Exception):  # noqa: N818 - what was found is no error of ours
    """What stands in the way, as a sentence."""


class Conformance:
    """``session`` talks to sessions of members that have joined, ``trusted`` to those of members that are configured.

    ``issuer`` is the gateway's public URL; ``people``: visitors log in; ``wall`` is Unix time.
    """

    def __init__(
        self,
        *,
        records: Records,
        registry: Registry,
        fleet: Fleet,
        client: Clients,
        providers: Providers,
        session: aiohttp.ClientSession,
        trusted: aiohttp.ClientSession,
        state: SharedState,
        replica: str,
        keys: SigningKeys,
        alerts: Alerts,
        settings: Callable[[], JoiningSettings],
        issuer: str,
        version: str,
        tasks: Tasks,
        people: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._records, self._registry, self._fleet, self._client = records, registry, fleet, client
        self._providers, self._sessions, self._state, self._replica = providers, (trusted, session), state, replica
        self._keys, self._alerts, self._settings, self._issuer = keys, alerts, settings, issuer
        self._version, self._tasks, self._wall = version, tasks, wall
        self._people = people
        self._running: set[str] = set()

    async def look(self) -> None:
        """Begin the checks that are due."""
        for name, record in self._records.book.of(CHECK).items():
            view = self._fleet.snapshot.get(name)
            if name in self._running or view is None:
                continue
            try:
                check = read_check(record.value or {})
            except ValueError as error:
                logger.warning("the check of %s is not understood: %s", name, error)
                continue
            if check.is_due:
                self._running.add(name)
                self._tasks.spawn(f"check {name}", self._check_once(name, check))

    async def _check_once(self, name: str, check: Check) -> None:
        """Check a member, unless another replica does."""
        try:
            if not await self._claimed(name):
                return
            renewing = self._tasks.every(f"go on checking {name}", RENEW_EVERY, lambda: self._claimed(name))
            try:
                steps = await self._steps(name)
            finally:
                renewing.cancel()
            await self._conclude(name, Check(check.asked_at, self._wall(), steps))
        finally:
            self._running.discard(name)

    async def _claimed(self, name: str) -> bool:
        try:
            return await self._state.claim(self._replica, [Quota(f"check:{name}", 1)], LEASE) is None
        except StateUnavailableError:
            return False

    async def _conclude(self, name: str, check: Check) -> None:
        if not self._is_asked(name, check):
            return
        changes = [Change(CHECK, name, check_value(check))]
        registration = self._registry.joined.get(name)
        accepts = self._settings().accept == "automatic"
        if check.passed and accepts and registration is not None and registration.stage is Stage.PENDING:
            accepted = {**registration_value(registration), "stage": Stage.ACCEPTED.value}
            changes.append(Change(MEMBER, name, accepted))
        last = check.steps[-1]
        level = logging.INFO if check.passed else logging.WARNING
        logger.log(level, "%s was checked: %s: %s", name, last.name, last.said)
        try:
            await self._records.write(*changes)
        except RecordsAwayError as error:
            logger.error("the check of %s cannot be kept: %s", name, error)  # noqa: TRY400 - the text says all
            return
        self._registry.refresh()

    def _is_asked(self, name: str, check: Check) -> bool:
        """Whether it has not left meanwhile, nor another has joined in its place, who is to be checked."""
        record = self._records.book.of(CHECK).get(name)
        return record is not None and (record.value or {}).get("asked_at") == check.asked_at

    async def _steps(self, name: str) -> tuple[Step, ...]:
        steps: list[Step] = []
        step = "health"
        try:
            async with asyncio.timeout(self._settings().check_timeout), aclosing(self._walk(name)) as walk:
                async for step, said in walk:
                    if said:
                        steps.append(Step(step, True, said))
        except _Found as found:
            steps.append(Step(step, False, str(found)))
        except TimeoutError:
            limit = self._settings().check_timeout
            steps.append(Step(step, False, f"The check took longer than {limit:g} s (joining.check_timeout)."))
        except Exception:
            logger.exception("the check of %s failed", name)
            steps.append(Step(step, False, "The check failed by a fault of this gateway; its log has the details."))
        return tuple(steps)

    async def _walk(self, name: str) -> AsyncGenerator[tuple[str, str], None]:
        """Each step's name before it is taken (with ""), and with a sentence after it; raises :class:`_Found`."""
        yield "health", ""
        await self._until(name, _healthy, _why_unhealthy)
        yield "health", "It answers, and all its checks pass."
        yield "versions", ""
        view = await self._until(name, _tells_version, lambda _: _NO_VERSION)
        yield "versions", skew(view.versions, self._version) or f"It runs manybinder {view.versions['manybinder']}."
        yield "report", ""
        view = await self._until(name, self._reports, self._why_silent)
        yield "report", "Its signed reports arrive."
        yield "clock", ""
        yield "clock", self._clock(view)
        yield "launch", ""
        notebook, said = await self._launch(view.member)
        yield "launch", said
        if self._people:
            # It asks its Hub who comes, and nobody logs in there for a check; it ends by its idleness.
            yield "session", "Its session is for who has logged in at its Hub, and was not opened."
            return
        try:
            yield "session", ""
            whose = await _try(notebook.open())
            yield "session", f"Its session can be used by {whose}."
            yield "websocket", ""
            await _try(notebook.compute())
            yield "websocket", "A kernel computes, through its websocket."
        finally:
            await notebook.end()

    async def _until(
        self,
        name: str,
        holds: Callable[[MemberView], bool],
        why: Callable[[MemberView], str],
    ) -> MemberView:
        """Wait for what a member may need a while for; it may just have been started."""
        begun = self._fleet.now()
        while True:
            view = self._fleet.snapshot.get(name)
            if view is None:
                raise _Found("It has left the federation.")
            if holds(view):
                return view
            waited = self._fleet.now() - begun
            if waited > self._settings().patience:
                raise _Found(f"{why(view)} It was waited for, for {waited:.0f} s.")
            await asyncio.sleep(_POLL)

    def _reports(self, view: MemberView) -> bool:
        return view.report(self._fleet.now(), self._fleet.snapshot.settings) is not None

    def _why_silent(self, view: MemberView) -> str:
        for alert in self._alerts.standing:
            if alert.member == view.name and alert.name is not AlertName.JOIN_TOKEN_REUSED:
                return f"{alert.name}: {alert.said}"
        return f"No signed report of it has come to {self._issuer}api/v1/reports; its log says why it cannot send them."

    def _clock(self, view: MemberView) -> str:
        received = view.received
        off = received.report.sent_at - received.at if received else 0.0
        leeway = self._fleet.settings.probes.clock_leeway
        if abs(off) > leeway / 2:
            raise _Found(f"ClockSkew: its clock is {off:+.1f} s from ours, and {leeway:g} s are too many.")
        return f"Its clock is right, within {max(0.1, abs(off)):.1f} s."

    async def _launch(self, member: Member) -> tuple[Notebook, str]:
        """Launch the canary as a visitor's launch is; raises :class:`_Found`."""
        try:
            claims, spec = await self._order(member)
        except ProviderError as error:
            raise _Found(f"The gateway cannot resolve joining.canary: {error}") from error
        begun = self._fleet.now()
        order = LaunchOrder(spec, claims.launch_id, sign_launch(claims, self._keys.current))
        try:
            async with aclosing(self._client.build(member, order)) as events:
                async for told in events:
                    if told.event.is_final:
                        took = self._fleet.now() - begun
                        return self._notebook(member, told.event), f"A launch became ready within {took:.0f} s."
        except MemberFault as fault:
            raise _Found(f"A launch of {claims.repo_url} failed: it {fault}.") from fault
        except asyncio.CancelledError:
            await self._client.cancel(member, claims.launch_id)
            raise
        raise _Found(f"A launch of {claims.repo_url} ended without a result.")

    def _notebook(self, member: Member, final: BuildEvent) -> Notebook:
        if final.phase is not Phase.READY:
            raise _Found(f"A launch failed there: {' '.join(final.message.split())[:500].rstrip('.')}.")
        url, token = final.fields.get("url"), final.fields.get("token")
        if problem := session_url_problem(url, member.origins):
            raise _Found(f"Its session's address is not passed on: {problem}.")
        return Notebook(self._sessions[member.guarded], f"{str(url).rstrip('/')}/", str(token or ""))

    async def _order(self, member: Member) -> tuple[LaunchClaims, str]:
        """What to launch, and its spec with the commit; raises :class:`ProviderError`."""
        resolved = await self._resolved()
        now = self._wall()
        if resolved is None:
            commit, _ = canary.repository()
            url = f"{self._issuer}{canary.PATH}"
            provider, raw, repo_url, ref_url = "git", f"git/{quote(url, safe='')}/{commit}", url, ""
            persistent = raw
        else:
            spec = resolved.spec
            provider, raw, repo_url, ref_url = spec.provider, spec.raw, spec.repo_url, resolved.ref_url
            commit, persistent = resolved.commit, resolved.resolved_spec
        claims = LaunchClaims(
            member=member.name,
            launch_id=launch_id(os.urandom(LAUNCH_ID_BYTES)),
            provider=provider,
            spec=raw,
            repo_url=repo_url,
            resolved_ref=commit,
            issued_at=now,
            expires_at=now + TOKEN_LIFETIME,
            launch_host=self._issuer,
            ref_url=ref_url,
            persistent_spec=persistent,
            user=canary.USER if self._people else "",
        )
        return claims, persistent

    async def _resolved(self) -> Resolved | None:
        spec = self._settings().canary
        return await self._providers.resolve(self._providers.parse(spec)) if spec else None


def _tells_version(view: MemberView) -> bool:
    return "manybinder" in view.versions


def _healthy(view: MemberView) -> bool:
    return view.reachable.ok is True and view.passing.ok is True


def _why_unhealthy(view: MemberView) -> str:
    if view.reachable.ok is None:
        return "It was not probed."
    return view.reachable.reason if not view.reachable.ok else view.passing.reason or "It has not said how it is."


async def _try(step: Awaitable[_T]) -> _T:
    try:
        return await step
    except NotebookError as error:
        raise _Found(f"Its session {error}.") from error
