"""Two replicas of one member over a fake cluster and a fake Hub: whoever is asked, a launch is one launch."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract import sse
from contract.bans import make_ban
from contract.events import BuildEvent, Failure, Phase, parse_event
from contract.signatures import BanList, LaunchClaims, private_pem, public_pem, sign_bans, sign_launch
from gateway.core.fleet import Member as RegisteredMember
from gateway.core.fleet import MemberView
from gateway.core.settings import HealthSettings
from gateway.core.transitions import check_report, reported
from member.app import CannotStartError, make_app
from member.core import leases
from member.core.launching import Launch, Outcome
from member.engines import cluster_ledger, replicas
from member.settings import MemberSettings
from member.web import forwarding
from member.web.parts import PARTS
from tests.fakes.hub import TOKEN, FakeHub
from tests.fakes.kubernetes import Kubelet
from tests.federation import free_port
from tests.member.kubernetes.kube_harness import NAMESPACE, Cluster, build_request_for, cluster, settings_tree
from tests.member.member_harness import launch_claims, order, until

SPEC = "gh/org/repo/main"
GATEWAY = "http://127.0.0.1:9/"


@dataclass
class Replica:
    """One replica: its application on a socket."""

    url: str
    app: web.Application
    runner: web.AppRunner

    @property
    def launches(self) -> list[Any]:
        return self.app[PARTS].launches.under_way  # type: ignore[attr-defined, no-any-return]


@dataclass
class Member:
    """A member with its replicas, and the gateway's side of it."""

    there: Cluster
    hub: FakeHub
    http: aiohttp.ClientSession
    tmp_path: Path
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    report_key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    limit: int = 10
    running: list[Replica] = field(default_factory=list)

    async def replica(self, name: str) -> Replica:
        """Start one more."""
        port = free_port()
        public = self.tmp_path / "gateway.pem"
        public.write_text(public_pem(self.key.public_key()))
        build = ["/bin/sh", "-c", "sleep 60"]
        tree = settings_tree(self.there.kubeconfig, self.there.registry.url, self.tmp_path / name, command=build)
        tree |= {
            "name": "member-1",
            "listen": {"port": port},
            "hub": {"url": self.hub.url, "public_url": self.hub.url, "api_token": TOKEN},
            "sessions": {"limit": self.limit},
            "launch": {"retries": 0},
            "replicas": {"name": name, "host": "127.0.0.1"},
            "federation": {
                "report_url": f"{GATEWAY}api/v1/reports",
                "launch_keys_files": [str(public)],
                "report_key": private_pem(self.report_key),
                # There is no such gateway: reports are looked at where they are made.
                "report_interval": "1h",
            },
        }
        app = await make_app(MemberSettings.model_validate(tree))
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1, access_log=None)
        try:
            await runner.setup()
        except CannotStartError:
            await runner.cleanup()
            raise
        await web.TCPSite(runner, "127.0.0.1", port).start()
        made = Replica(f"http://127.0.0.1:{port}/", app, runner)
        self.running.append(made)
        return made

    async def pair(self) -> tuple[Replica, Replica]:
        """Start two, which know each other."""
        first, second = await self.replica("member-a"), await self.replica("member-b")
        await until(lambda: all(len(one.app[PARTS].ledger.others) == 1 for one in (first, second)))  # type: ignore[attr-defined]
        return first, second

    async def end(self, replica: Replica) -> None:
        """End one as SIGTERM does."""
        self.running.remove(replica)
        await replica.runner.cleanup()

    def claims(self, **changes: Any) -> LaunchClaims:
        """A gateway's order."""
        return launch_claims(
            **{"spec": SPEC, "repo_url": build_request_for("repo").repo_url, "launch_host": GATEWAY, **changes}
        )

    def headers(self, claims: LaunchClaims) -> dict[str, str]:
        return {"Accept": sse.CONTENT_TYPE, "Authorization": f"Bearer {sign_launch(claims, self.key)}"}

    async def events(self, replica: Replica, claims: LaunchClaims) -> list[BuildEvent]:
        """Every event of a launch, asked of a replica."""
        async with asyncio.timeout(90), self.open(replica, self.headers(claims)) as response:
            assert response.status == 200, await response.text()
            return [event async for event in read(response)]

    async def begin(self, replica: Replica, claims: LaunchClaims) -> asyncio.Task[list[BuildEvent]]:
        """Launch at a replica, as far as to a server that starts: it is there when the Hub's gate is opened."""
        self.hub.gate = asyncio.Event()
        task = asyncio.create_task(self.events(replica, claims))
        await until(lambda: self.hub.count("progress"))
        return task

    @contextlib.asynccontextmanager
    async def open(self, replica: Replica, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.http.get(f"{replica.url}build/{SPEC}", headers=headers) as response:
            yield response

    def leave(self, holder: str, state: leases.LaunchState, now: str) -> None:
        """Have a launch's Lease there that no launch is of."""
        name = leases.launch_name("member-1", "0" * 32)
        made = leases.lease(name, "member-1", leases.LAUNCH, holder, state, now=now, duration_s=15)
        self.there.api.store.put("leases", NAMESPACE, made)

    def leases(self, what: str) -> list[dict[str, Any]]:
        """The Leases of a kind that there are."""
        there = self.there.api.store.all("leases", NAMESPACE)
        return [item for item in there if item["metadata"]["labels"][leases.WHAT] == what]


async def read(response: aiohttp.ClientResponse) -> AsyncIterator[BuildEvent]:
    parser = sse.Parser()
    async for chunk in response.content.iter_any():
        for item in parser.feed(chunk):
            yield parse_event(item.data)


@contextlib.asynccontextmanager
async def member(tmp_path: Path, **given: Any) -> AsyncIterator[Member]:
    async with cluster(tmp_path) as there, FakeHub() as hub, aiohttp.ClientSession() as http:
        made = Member(there, hub, http, tmp_path, **given)
        there.push(build_request_for("repo", there.registry.url).image)
        try:
            yield made
        finally:
            for replica in list(made.running):
                await made.end(replica)


async def test_a_launch_that_is_asked_for_at_two_replicas_is_one(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        one = await it.begin(first, claims)
        again = it.claims(launch_id=claims.launch_id)
        other = asyncio.create_task(it.events(second, again))
        await until(lambda: len(first.launches) == 1 and first.launches[0].watchers == 2)
        assert second.launches == []
        it.hub.gate.set()
        told, heard = await one, await other
        assert told == heard
        assert told[-1].phase is Phase.READY
        assert it.hub.count("start") == 1
        # Whatever replica is asked what became of it says so.
        for replica in (first, second):
            async with it.http.get(f"{replica.url}api/v1/launches/{claims.launch_id}") as response:
                assert (response.status, (await response.json())["outcome"]) == (200, "ready")
        async with it.http.get(f"{second.url}api/v1/launches/{'0' * 32}") as response:
            assert response.status == 404


async def test_leases_that_a_quota_counts_for_others_meanwhile_are_made_all_the_same(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        it.there.api.errors["create leases"] = [(409, None)]
        replica = await it.replica("member-a")
        assert len(it.leases(leases.REPLICA)) == 1
        it.there.api.errors["create leases"] = [(409, None)] * 2
        told = await it.events(replica, it.claims())
        assert told[-1].phase is Phase.READY
        assert it.there.api.errors["create leases"] == []


async def test_who_resumes_or_cancels_at_another_replica_meets_the_launch(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        task = await it.begin(first, claims)
        resumed = {"Accept": sse.CONTENT_TYPE, "Last-Event-ID": f"{claims.launch_id}.0"}
        async with it.open(second, resumed) as response:
            assert response.status == 200
            assert response.headers["X-Accel-Buffering"] == "no"
            async with it.http.delete(f"{second.url}api/v1/launches/{claims.launch_id}") as answer:
                assert answer.status == 204
            rest = [event async for event in read(response)]
        assert rest[-1].fields["reason"] == "cancelled"
        assert (await task)[-1] == rest[-1]
        await until(lambda: not it.hub.users)


async def test_a_token_that_was_used_at_one_replica_is_refused_at_the_other(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        assert (await it.events(first, claims))[-1].phase is Phase.READY
        for replica in (second, first):
            refused = (await it.events(replica, claims))[-1]
            assert (refused.phase, refused.fields["failure"]) == (Phase.FAILED, Failure.MEMBER)
            assert "used before" in refused.message
        # Nor where the first one is gone for good.
        it.running.remove(first)
        await kill(first, it)
        refused = (await it.events(second, claims))[-1]
        assert "used before" in refused.message


async def kill(replica: Replica, it: Member) -> None:
    """Have a replica end without a word, as on a node that is lost; its Lease is left as if it were old."""
    mine = next(item for item in it.leases(leases.REPLICA) if _address(item) == replica.url.rstrip("/"))
    before = {(item["metadata"]["name"], str(item)): item for item in it.there.api.store.all("leases", NAMESPACE)}
    await replica.runner.cleanup()
    for item in before.values():
        if leases.holder_of(item) == leases.holder_of(mine):
            again = {**item, "metadata": {**item["metadata"]}}
            for name in ("uid", "resourceVersion", "creationTimestamp"):
                again["metadata"].pop(name)
            it.there.api.store.put("leases", NAMESPACE, again)


def _address(item: dict[str, Any]) -> str:
    return leases.replica_state(item).address


async def test_the_launch_of_a_replica_that_died_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "ALIVE_S", 2.0)
    monkeypatch.setattr(replicas, "RENEW_S", 0.3)
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        task = await it.begin(first, claims)
        it.running.remove(first)
        await kill(first, it)
        await asyncio.gather(task, return_exceptions=True)
        it.hub.gate.set()
        # Asked while the dead one is still thought alive, it waits until it is not.
        again = it.claims(launch_id=claims.launch_id)
        assert (await it.events(second, again))[-1].phase is Phase.READY
        assert len(it.hub.users) == 1


async def test_the_last_room_is_given_once(tmp_path: Path) -> None:
    async with member(tmp_path, limit=2) as it:
        first, second = await it.pair()
        it.hub.server("somebody")
        # Neither has said to the Hub what it starts when the other looks.
        it.hub.gate = asyncio.Event()
        orders = [it.claims() for _ in range(4)]
        tasks = [asyncio.create_task(it.events((first, second)[n % 2], item)) for n, item in enumerate(orders)]
        await until(lambda: sum(task.done() for task in tasks) >= 3)
        it.hub.gate.set()
        ends = [(await task)[-1] for task in tasks]
        ready = [event for event in ends if event.phase is Phase.READY]
        assert len(ready) <= 1
        assert all("Too many users" in event.message for event in ends if event not in ready)
        assert len([user for user in it.hub.users if user != "somebody"]) <= 1
        # And what was refused takes no room: there is one for the next.
        if not ready:
            assert (await it.events(second, it.claims()))[-1].phase is Phase.READY


async def test_a_launch_is_written_down_three_times(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, _ = await it.pair()
        seen = it.there.api.store.version
        assert (await it.events(first, it.claims()))[-1].phase is Phase.READY
        await until(lambda: "ready" in str(it.leases(leases.LAUNCH)))
        changes = [item for item in it.there.api.store.since(seen) if item.plural == "leases"]
        launches = [item.new for item in changes if item.new["metadata"]["labels"][leases.WHAT] == leases.LAUNCH]
        states = [leases.launch_state(item) for item in launches]
        # Begun; it takes a session; it has ended, and the session counts at the Hub.
        assert [(state.claimed, state.outcome) for state in states] == [(False, ""), (True, ""), (False, "ready")]


async def test_what_else_is_written_on_a_lease_keeps_no_word_from_it(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first = await it.replica("member-a")
        ledger: Any = first.app[PARTS].ledger

        def label(value: str) -> None:
            (lease,) = it.leases(leases.LAUNCH)
            it.there.api.change("leases", NAMESPACE, lease["metadata"]["name"], metadata={"labels": {"seen": value}})

        def state() -> leases.LaunchState:
            return leases.launch_state(it.leases(leases.LAUNCH)[0])

        launch = Launch(order(), "somebody")
        assert await ledger.take(launch.order) is None
        label("once")
        await ledger.claim(launch)
        assert (state().key, state().claimed) == ("somebody", True)
        label("twice")
        launch.outcome = Outcome.CANCELLED
        ledger.ended(launch)
        await until(lambda: (state().claimed, state().outcome) == (False, "cancelled"))


async def test_both_replicas_report_one_member(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        task = await it.begin(first, claims)
        await until(lambda: second.app[PARTS].ledger.launches)  # type: ignore[attr-defined]
        one, other = [await replica.app[PARTS].capacity.report() for replica in (first, second)]
        assert (one.boot_id, one.member) == (other.boot_id, other.member)
        # A gateway takes each of them, as one of the same member's.
        view, health = MemberView(RegisteredMember("member-1", "http://127.0.0.1:9/"), 0.0), HealthSettings()
        for replica in (first, second, second, first, second):
            await asyncio.sleep(0.002)  # their order is told in milliseconds
            report = await replica.app[PARTS].capacity.report()
            check_report(view, report, time.time(), health)
            view = reported(view, report, 0.0, health)
        assert one.sessions == other.sessions
        assert (one.sessions.pending, one.sessions.free) == (1, 9)
        assert one.builds.limit == other.builds.limit == 2
        assert len(one.launches_seen) == len(other.launches_seen) == 1
        # Before the Hub knows of it, it counts for both as well.
        it.hub.gate.set()
        await task
        before = one.boot_id
        await it.end(first)
        await until(lambda: not second.app[PARTS].ledger.others)  # type: ignore[attr-defined]
        assert (await second.app[PARTS].capacity.report()).boot_id != before


async def test_what_one_replica_is_told_the_others_hear(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        ban = make_ban("spec", "gh/org/.*", "", None)
        told = sign_bans(BanList("member-1", GATEWAY, time.time(), (ban,)), it.key)
        async with it.http.put(f"{first.url}api/v1/bans", data=told) as response:
            assert response.status == 204, await response.text()
        for replica in (first, second):
            refused = (await it.events(replica, it.claims()))[-1]
            assert refused.fields["failure"] == Failure.REFUSED


async def test_a_builds_log_is_read_at_any_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "_SILENCE_S", 0.5)
    async with member(tmp_path) as it, Kubelet(it.there.api, NAMESPACE):
        first, second = await it.pair()
        claims = it.claims(repo_url=build_request_for("other").repo_url)
        async with asyncio.timeout(90), it.open(first, it.headers(claims)) as response:
            url = ""
            async for event in read(response):
                if url := event.fields.get("log_url", url):
                    break
            path = url.removeprefix("http://127.0.0.1:9001/")
            async with it.http.get(f"{second.url}{path}?follow=false") as log:
                assert log.status == 200
                assert "Waiting for build" in await log.text()
            # A build may be silent for long.
            async with it.http.get(f"{second.url}{path}") as log:
                text = asyncio.create_task(log.text())
                assert not (await asyncio.wait([text], timeout=1.5))[0]
                text.cancel()
            async with it.http.get(f"{second.url}api/v1/builds/{'0' * 32}/log") as log:
                assert log.status == 404


async def test_what_is_forgotten_leaves_nothing_in_the_cluster(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        first, second = await it.pair()
        assert (await it.events(first, it.claims()))[-1].phase is Phase.READY
        await until(lambda: "ready" in str(it.leases(leases.LAUNCH)))
        await it.end(first)
        assert it.leases(leases.LAUNCH) == []
        await it.end(second)
        assert it.leases(leases.REPLICA) == []


async def test_what_a_dead_replica_has_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (replicas, cluster_ledger):
        monkeypatch.setattr(module, "FORGET_S", -1.0)
    async with member(tmp_path) as it:
        it.leave("nobody", leases.LaunchState(short="x"), "2026-01-01T00:00:00.000000Z")
        await it.replica("member-a")
        await until(lambda: not it.leases(leases.LAUNCH))


async def test_a_lease_that_no_launch_is_of_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_ledger, "_SWEEP_EVERY_S", 0.3)
    async with member(tmp_path) as it:
        first = await it.replica("member-a")
        task = await it.begin(first, it.claims())
        (mine,) = it.leases(leases.LAUNCH)
        # As one whose client went away while it was made.
        it.leave(leases.holder_of(mine), leases.LaunchState(short="x", key="x"), replicas.stamp())
        name = mine["metadata"]["name"]
        await until(lambda: [item["metadata"]["name"] for item in it.leases(leases.LAUNCH)] == [name])
        it.hub.gate.set()
        assert (await task)[-1].phase is Phase.READY


async def test_one_that_may_make_no_lease_says_so_and_does_not_start(tmp_path: Path) -> None:
    async with member(tmp_path) as it:
        it.there.api.forbidden.add("create leases")
        with pytest.raises(CannotStartError, match=r"replicas: .*403.*leases"):
            await it.replica("member-a")


async def test_a_sign_of_life_that_hangs_does_not_hold_the_next_one_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "RENEW_S", 0.2)
    monkeypatch.setattr(replicas, "_RENEW_WITHIN_S", 0.5)
    async with member(tmp_path) as it:
        await it.replica("member-a")
        before = it.there.api.asked["patch leases"]
        it.there.api.delay_s = 3600.0
        await until(lambda: it.there.api.asked["patch leases"] >= before + 3)
        it.there.api.delay_s = 0.0


async def test_nobody_is_dead_because_the_cluster_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "ALIVE_S", 3.0)
    monkeypatch.setattr(replicas, "RENEW_S", 0.3)
    monkeypatch.setattr(replicas, "_RENEW_WITHIN_S", 0.5)
    async with member(tmp_path) as it:
        first, second = await it.pair()
        claims = it.claims()
        task = await it.begin(first, claims)
        ledger = second.app[PARTS].ledger
        await until(lambda: ledger.launches)  # type: ignore[attr-defined]
        it.there.api.delay_s = 3600.0
        it.there.api.cut()
        await until(lambda: not ledger.others)
        # The reaper leaves their servers alone, and reports count them.
        assert ledger.launches  # type: ignore[attr-defined]
        it.there.api.delay_s = 0.0
        again = asyncio.create_task(it.events(second, it.claims(launch_id=claims.launch_id)))
        await until(lambda: len(first.launches) == 1 and first.launches[0].watchers == 2)
        assert second.launches == []
        it.hub.gate.set()
        assert await task == await again
