"""Counts what this member has and can take, as a capacity report."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from contract.bans import Ban
from contract.reports import Builds as BuildCounts
from contract.reports import CapacityReport, Check, Image, Sessions, Usage, images_digest, session_owner
from contract.repos import RepoKey
from member.builders.base import Builder, Resources
from member.clients.hub import HubClient, HubError
from member.core import capacity
from member.core.launching import Outcome
from member.core.membership import Membership, shared
from member.engines.builds import Builds
from member.engines.health import DEADLINE_S, FRESH_S, Health
from member.engines.launches import Launches
from member.engines.ledger import Alone, Ledger
from member.joined import is_draining
from member.settings import MemberSettings


class _Held(NamedTuple):
    """A session, or a launch under way: where its visitor came from, and what it is of."""

    launch_host: str
    repo: RepoKey
    running: bool
    user: str = ""


class Capacity:
    """Makes reports; each has the next number of this start of the member."""

    def __init__(
        self,
        settings: MemberSettings,
        *,
        hub: HubClient,
        health: Health,
        builder: Builder,
        builds: Builds,
        launches: Launches,
        versions: Callable[[], dict[str, str]],
        prefixes: Sequence[str],
        proposals: Callable[[], tuple[Ban, ...]] = lambda: (),
        draining: Callable[[], bool] = lambda: False,
        ledger: Ledger | None = None,
    ) -> None:
        self._ledger: Ledger = ledger or Alone()
        self._settings, self._hub, self._health, self._builder = settings, hub, health, builder
        self._builds, self._launches, self._versions, self._prefixes = builds, launches, versions, tuple(prefixes)
        self._proposals, self._draining = proposals, draining
        self._boot_id = uuid.uuid4().hex
        self._seq = -1
        self._recent: CapacityReport | None = None
        self._recent_at = 0.0
        self._last = Sessions()
        self._seen: tuple[str, ...] = ()
        self._by_repo: dict[str, int] = {}
        self._held: list[_Held] = []
        self._lock = asyncio.Lock()

    async def recent(self) -> CapacityReport:
        """The state of not more than a few seconds ago: anyone may ask, and the Hub is not asked for each of them."""
        async with self._lock:
            if self._recent is not None and time.monotonic() - self._recent_at <= FRESH_S:
                return self._recent
            return await self.report()

    async def report(self) -> CapacityReport:
        """The state now.  A Hub that does not answer is a failing check, with no free sessions."""
        self._recent, self._recent_at = await self._count(), time.monotonic()
        return self._recent

    async def report_to(self, membership: Membership) -> CapacityReport:
        """The state now, as a federation is told it: its share."""
        report = await self.report()
        own = [item for item in self._held if item.launch_host == membership.issuer]
        running = sum(item.running for item in own)
        by_repo = capacity.by_repo(item.repo for item in own)
        owners = dict.fromkeys(session_owner(item.user, item.repo) for item in own if item.user)
        report = replace(report, session_owners=tuple(owners))
        return shared(report, membership, Sessions(running, len(own) - running), by_repo)

    async def _count(self) -> CapacityReport:
        checks = list(await self._health.checks())
        settings = self._settings
        resources = await self._builder.resources()
        cpu = resources.cpu
        limit, people = settings.sessions.limit, settings.auth_enabled
        try:
            # A report that waits for a Hub that hangs comes too late to be believed.
            async with asyncio.timeout(DEADLINE_S):
                users = [user for user in await self._hub.users() if user.has_server]
            # At one moment with the count: what is said to be counted is.
            under_way = self._launches.servers - {user.key for user in users}
            elsewhere = [item for item in self._ledger.launches if not item.build_only]
            self._seen = (
                *self._launches.seen,
                *(item.short for item in elsewhere if item.outcome in ("", Outcome.READY)),
            )
            orders = [item.order for item in self._launches.under_way if item.key in under_way]
            self._held = [
                *(_Held(user.launch_host, user.repo, user.ready, user.name if people else "") for user in users),
                *(_Held(order.launch_host, order.repo, False, order.user) for order in orders),
                *(
                    _Held(item.launch_host, RepoKey(item.repo), False, item.user)
                    for item in elsewhere
                    if item.key in under_way
                ),
            ]
            self._by_repo = capacity.by_repo(item.repo for item in self._held)
            running = sum(user.ready for user in users)
            sessions = capacity.sessions(
                running,
                len(users) - running + len(under_way),
                limit,
                self._rooms(resources),
                # Of launches under way the cluster knows nothing yet.
                placeable=None if resources.sessions is None else resources.sessions - len(under_way),
                closed=self._draining() or capacity.overloaded(cpu.used, cpu.limit, settings.sessions.max_load),
            )
        except (HubError, TimeoutError) as error:
            # What was there last is there still, as far as anybody knows; there is no room.
            sessions = capacity.unknown_sessions(limit, self._last)
            checks.append(Check("Sessions", False, str(error) or "the Hub takes too long to list them"))
        self._last = sessions
        images = tuple(Image(item.repo, item.commit, item.registry) for item in await self._builder.images())
        sent_at, boot_id, others = time.time(), self._ledger.boot_id, self._ledger.others
        # Of several replicas' reports the time gives the order, for a gateway takes them as one member's.
        self._seq = max(self._seq + 1, int(sent_at * 1000) if boot_id else 0)
        return CapacityReport(
            member=settings.name,
            boot_id=boot_id or self._boot_id,
            seq=self._seq,
            sent_at=sent_at,
            public_url=settings.public_url,
            sessions=sessions,
            # A launch under way counts, as it does among the sessions: quotas speak of both.
            sessions_by_repo=self._by_repo,
            builds=BuildCounts(
                self._builds.running + sum(other.builds_running for other in others),
                self._builds.queued + sum(other.builds_queued for other in others),
                settings.builder.slots + sum(other.builds_limit for other in others),
            ),
            memory_bytes=resources.memory,
            cpu=cpu,
            disk_bytes=resources.disk,
            images=images,
            images_digest=images_digest(images),
            launches_seen=self._seen,
            checks=tuple(checks),
            providers=self._prefixes,
            builder=self._builder.kind,
            confined=self._builder.confined,
            draining=self._draining() or is_draining(settings.data_dir) or any(other.draining for other in others),
            ban_proposals=await asyncio.to_thread(self._proposals),
            versions=self._versions(),
        )

    def _rooms(self, resources: Resources) -> list[capacity.Room]:
        sessions = self._settings.sessions
        return [
            capacity.memory_room(_free(resources.memory), sessions.memory),
            capacity.disk_room(_free(resources.disk), sessions.disk, sessions.min_free_disk),
        ]


def _free(usage: Usage) -> float | None:
    return None if usage.limit is None else usage.limit - usage.used
