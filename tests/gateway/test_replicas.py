"""Several replicas of a gateway behind one Redis: launches resume, go on and end wherever their visitor comes back."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redisserver import SlowFront

from contract.events import BuildEvent, Phase, event
from contract.journal import Entry
from contract.launches import parse_event_id
from contract.reports import Sessions
from contract.repos import repo_key
from gateway.app import DRAINING
from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import Adoption, StateUnavailableError
from gateway.clients.state.sealing import FederationSeal, launch_key
from gateway.core.alerts import Alerts
from gateway.core.facts import Failed, Refused, Replica, dump_fact, dump_replica, load_fact, load_replica
from gateway.core.fleet import Member, Reservation
from gateway.core.launch import Launch, Outcome, Visitor
from gateway.core.launch_records import dump_entries, dump_launch, load_entries, load_launch
from gateway.core.outcomes import Attempt
from gateway.core.records import Change
from gateway.core.settings import FederationSettings
from gateway.core.signing import SigningKeys
from gateway.core.tallies import Tallies
from gateway.engines import sharing as sharing_module
from gateway.engines.draining import MOMENT
from gateway.engines.fleet import Fleet
from gateway.engines.replicas import Replicas
from gateway.engines.reports import Reports
from providers.base import RepoSpec, Resolved
from tests.gateway.harness import SPEC, Gateway, Starter, gateway_settings, until

TOKEN = "notebook-token"


async def read(gateway: Gateway, after: str = "", stop_at: str = "") -> tuple[list[BuildEvent], str]:
    """Events of a launch, and the id of the last one; leaves the stream after an event with this message."""
    events: list[BuildEvent] = []
    last = after
    headers = {"Last-Event-ID": after} if after else {}
    async with asyncio.timeout(90):
        async for last, item in gateway.events(headers=headers):  # noqa: B007 - it is returned
            events.append(item)
            if stop_at and item.message == stop_at:
                break
    return events, last


def lines(events: list[BuildEvent]) -> list[str]:
    """What a build has said."""
    return [item.message for item in events if item.message.startswith("line")]


async def test_a_stream_resumes_at_another_replica_while_its_own_goes_on(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 4
    first, seen = await read(one, stop_at="line 2\n")
    resumed = asyncio.create_task(read(two, after=seen))
    await until(lambda: two.parts.launches.streams == 1)
    member.gate.set()
    second, last = await resumed
    assert lines(first) + lines(second) == [f"line {n}\n" for n in range(6)]
    assert second[-1].phase == Phase.READY
    assert second[-1].fields["token"] == TOKEN
    # Replayed from anywhere, at both, and begun once.
    for gateway in (one, two):
        again, _ = await read(gateway, after=seen)
        assert [item.to_json() for item in again] == [item.to_json() for item in second]
        whole, _ = await read(gateway, after=seen.partition(".")[0])
        assert [item.to_json() for item in whole] == [item.to_json() for item in first + second]
        async with gateway.http.get(
            f"{gateway.url}build/{SPEC}", headers={"Accept": "text/event-stream", "Last-Event-ID": last}
        ) as response:
            assert response.status == 204
    assert len(member.launches) == 1


@pytest.mark.slow
async def test_a_launch_that_is_watched_at_another_replica_is_not_given_up(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, launch={"linger": "3s"})
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 4
    first, seen = await read(one, stop_at="line 2\n")
    resumed = asyncio.create_task(read(two, after=seen))
    await asyncio.sleep(8)
    assert not resumed.done()
    member.gate.set()
    second, _ = await resumed
    assert lines(first) + lines(second) == [f"line {n}\n" for n in range(6)]
    assert second[-1].phase == Phase.READY
    # Once nobody watches it anywhere, it is given up.
    member.gate.clear()
    _, seen = await read(one, stop_at="line 2\n")
    resumed = asyncio.create_task(read(two, after=seen))
    await until(lambda: two.parts.launches.streams == 1)
    resumed.cancel()
    await until(lambda: one.parts.launches.tallies.outcomes["member-1", "abandoned"] == 1)


async def test_a_replica_that_ends_hands_its_launches_over(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    reading = asyncio.create_task(read(one))
    await until(lambda: len(member.sent) == 3)
    await until(lambda: one.parts.launches.running == 1)
    await one.runner.cleanup()
    first, seen = await reading
    assert not first[-1].is_final
    assert lines(first) == ["line 0\n", "line 1\n"]
    resumed = asyncio.create_task(read(two, after=seen))
    await until(lambda: len(member.launches) == 2)
    member.gate.set()
    second, _ = await resumed
    assert lines(first) + lines(second) == [f"line {n}\n" for n in range(6)]
    assert second[-1].phase == Phase.READY
    assert member.launches[0] == member.launches[1]
    assert not member.cancelled
    assert two.parts.launches.tallies.outcomes["member-1", "ready"] == 1


async def test_a_launch_is_cancelled_and_shown_at_any_replica(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.knobs.gate_at = 2
    reading = asyncio.create_task(read(one))
    await until(lambda: member.launches)
    launch_id = member.launches[0]

    async def shown() -> dict[str, object]:
        answer: dict[str, object] = await two.json(f"api/v1/launches/{launch_id}")
        return answer

    assert (await shown())["outcome"] is None
    async with two.http.delete(f"{two.url}api/v1/launches/{launch_id}") as response:
        assert response.status == 204
    events, _ = await reading
    assert "cancelled" in events[-1].message
    async with asyncio.timeout(60):
        while (await shown())["outcome"] != "cancelled":
            await asyncio.sleep(0.05)
    assert member.cancelled == [launch_id]


async def test_a_store_that_is_emptied_gets_its_launches_back(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, members=1)
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    reading = asyncio.create_task(read(one))
    await until(lambda: len(member.sent) == 3)
    await redis.flush()
    seen = f"{member.launches[0]}.0"
    resumed = asyncio.create_task(read(two, after=seen))
    await until(lambda: two.parts.launches.streams == 1)
    await redis.flush()
    member.gate.set()
    for events, _ in (await reading, await resumed):
        assert lines(events) == [f"line {n}\n" for n in range(6)]
        assert events[-1].phase == Phase.READY
    assert len(member.launches) == 1


async def test_a_launch_that_has_ended_is_replayed_from_a_store_that_was_emptied(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, members=1)
    first, seen = await read(one, stop_at="line 1\n")
    events, _ = await read(one, after=seen)
    await redis.flush()
    again, _ = await read(two, after=seen)
    assert [item.to_json() for item in again] == [item.to_json() for item in events]
    assert again[-1].phase == Phase.READY
    assert lines(first) + lines(again) == [f"line {n}\n" for n in range(3)]
    assert len(one.members[0].launches) == 1


async def test_of_many_that_ask_for_unknown_launches_none_is_told_that_there_is_none_too_soon(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gateway,) = await start.replicas(1, await start.redis(), members=1)
    monkeypatch.setattr(sharing_module, "PATIENT", 1)
    unknown = [f"{n:032x}.0" for n in range(3)]
    answers = await asyncio.gather(*(read(gateway, after=seen) for seen in unknown))
    ends = sorted(len(events) for events, _ in answers)
    # One has waited, and the store does not know it; the others are to come back.
    assert ends == [0, 0, 1]
    (told,) = next(events for events, _ in answers if events)
    assert "not known here any more" in told.message


async def test_a_ban_that_came_while_nobody_ran_a_launch_ends_it_where_it_would_go_on(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    reading = asyncio.create_task(read(one))
    await until(lambda: len(member.sent) == 3)
    await one.runner.cleanup()
    _, seen = await reading
    ban = {"kind": "owner", "value": "git.example/org"}
    await two.parts.records.write(Change("ban", "owner:git.example/org", ban))
    # By then all that runs here has been looked at.
    await asyncio.sleep(1)
    events, _ = await read(two, after=seen)
    assert (events[-1].phase, events[-1].fields["status_code"]) == (Phase.FAILED, 403)
    await until(lambda: member.cancelled == [member.launches[0]])
    assert len(member.launches) == 1


async def test_a_replica_that_is_added_serves_the_launches_of_the_others(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, members=1)
    await one.parts.records.write(Change("ban", "owner:git.example/miner", {"kind": "owner", "value": "a/b"}))
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    _, seen = await read(one, stop_at="line 1\n")
    settings = gateway_settings(start.data_dir / "added", one.key, one.members, redis={"url": redis.url})
    added = await start.gateway_with(settings, one.key, one.members)
    resumed = asyncio.create_task(read(added, after=seen))
    await until(lambda: added.parts.launches.streams == 1)
    for gateway in (one, two):
        await until(lambda gateway=gateway: len(gateway.parts.replicas.known) == 3)
    await until(lambda: "owner:git.example/miner" in added.parts.records.book.of("ban"))
    member.gate.set()
    events, _ = await resumed
    assert lines(events) == [f"line {n}\n" for n in range(2, 6)]
    assert events[-1].phase == Phase.READY
    assert (await added.launch())[-1].phase == Phase.READY


async def test_a_replica_that_ends_waits_for_who_has_only_just_asked(start: Starter) -> None:
    redis = await start.redis()
    (one,) = await start.replicas(1, redis, members=1)

    async def stop_listening() -> None:
        """There are no sockets of its own to close here."""

    # Nothing can be kept for a while, so that the launch is not known yet.
    redis.freeze()
    reading = asyncio.create_task(read(one))
    await asyncio.sleep(0.2)
    draining = asyncio.create_task(one.runner.app[DRAINING](stop_listening))
    await asyncio.sleep(2 * MOMENT)
    assert not draining.done()
    redis.thaw()
    events, _ = await reading
    assert events[-1].phase == Phase.READY
    async with asyncio.timeout(60):
        await draining


async def test_without_redis_for_a_while_launches_go_on_and_are_found_again(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, members=1, redis={"timeout": "1s"})
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    first, seen = await read(one, stop_at="line 1\n")
    redis.freeze()
    # Another replica cannot know whose it is: it has the client ask again.
    assert await read(two, after=seen) == ([], seen)
    async with two.http.get(f"{two.url}api/v1/launches/{seen.partition('.')[0]}") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]
    # A new launch needs no store, and its own replica finds an old one.
    member.gate.set()
    events, _ = await read(two)
    assert events[-1].phase == Phase.READY
    at_home, _ = await read(one, after=seen)
    assert at_home[-1].phase == Phase.READY
    redis.thaw()
    away: list[BuildEvent] = []
    while not away:
        away, _ = await read(two, after=seen)
    assert [item.to_json() for item in away] == [item.to_json() for item in at_home]
    assert lines(first) + lines(at_home) == [f"line {n}\n" for n in range(6)]
    assert len(member.launches) == 2


@pytest.mark.slow
async def test_who_watches_at_another_replica_finds_the_launch_again_when_redis_is_gone(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, members=1, redis={"timeout": "1s"}, launch={"linger": "5s"})
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    first, seen = await read(one, stop_at="line 1\n")
    resumed = asyncio.create_task(read(two, after=seen))
    runs_it = one.parts.launches.under_way[0]
    await until(lambda: one.parts.launches._sharing._own[runs_it.id].watched)
    await redis.stop()
    # Its stream ends, so that it asks again: here it is sent on, until it meets the replica that knows.
    assert await resumed == ([], seen)
    assert await read(two, after=seen) == ([], seen)
    await asyncio.sleep(5)
    member.gate.set()
    second, _ = await read(one, after=seen)
    assert lines(first) + lines(second) == [f"line {n}\n" for n in range(6)]
    assert second[-1].phase == Phase.READY


@pytest.mark.slow
async def test_a_redis_that_is_slow_slows_launches_down_and_one_that_is_too_slow_counts_as_gone(start: Starter) -> None:
    redis = await start.redis()
    front = SlowFront(redis.port, delay=0.1)
    url = await front.__aenter__()
    start.running.append(front.__aexit__)
    one, two = await start.replicas(2, redis, members=1, redis={"url": url, "timeout": "3s"})
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    _, seen = await read(one, stop_at="line 1\n")
    resumed = asyncio.create_task(read(two, after=seen))
    await until(lambda: two.parts.launches.streams == 1)
    member.gate.set()
    events, _ = await resumed
    assert lines(events) == [f"line {n}\n" for n in range(2, 6)]
    assert events[-1].phase == Phase.READY
    assert one.parts.replicas.away_since is None
    front.delay = 30
    await until(lambda: one.parts.replicas.away_since is not None)
    assert (await one.launch())[-1].phase == Phase.READY
    front.delay = 0
    await until(lambda: one.parts.replicas.away_since is None)


async def test_who_was_taken_for_dead_follows_whoever_went_on(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.lines, member.knobs.gate_at = 6, 3
    reading = asyncio.create_task(read(one))
    await until(lambda: len(member.sent) == 3)
    # As if the first replica had stood still for longer than its lease.
    sharing = one.parts.launches._sharing
    await sharing.flush()
    key = launch_key(member.launches[0])
    await sharing._state.give_up([key], sharing.replica)
    assert await sharing._state.adopt(key, two.parts.launches._sharing.replica) is Adoption.ADOPTED
    resumed = asyncio.create_task(read(two, after=f"{member.launches[0]}.0"))
    await until(lambda: len(member.launches) == 2)
    await until(lambda: one.parts.launches.running == 0)
    member.gate.set()
    for events, _ in (await reading, await resumed):
        assert lines(events) == [f"line {n}\n" for n in range(6)]
        assert events[-1].phase == Phase.READY
    assert not member.cancelled
    assert one.parts.launches.tallies.outcomes == {}
    assert two.parts.launches.tallies.outcomes == {("member-1", Outcome.READY.value): 1}


async def test_what_redis_holds_opens_no_notebook_and_resumes_no_stream(start: Starter) -> None:
    redis = await start.redis()
    limits = {"quotas": {"per_repo": 5, "total": 9}}
    one, two = await start.replicas(2, redis, admission=limits, listen={"trusted_proxies": ["127.0.0.0/8"]})
    events, last = await read(one)
    assert (await one.launch(headers={"X-Forwarded-For": "203.0.113.77"}))[-1].phase == Phase.READY
    parsed = parse_event_id(last)
    assert parsed is not None
    await asyncio.sleep(1)
    held = await redis.everything()
    for kind in (b"launch:", b"bucket:", b"quota:", b"replicas"):
        assert b"manybinder:" + kind in held
    ready = events[-1].fields
    for secret in (TOKEN, parsed[0], str(ready["url"]), "git.example", "203.0.113"):
        assert secret.encode() not in held, secret
    assert parsed[0].encode().upper() not in held
    assert json.dumps(ready["url"]).encode() not in held
    assert (await read(two, after=f"{parsed[0]}.0"))[0][-1].fields["token"] == TOKEN


async def test_replicas_hold_one_opinion_of_members(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), ejection={"base_time": "1h"})
    failing, well = one.first_choice()
    failing.knobs.final = {"phase": "failed", "message": "no\n", "failure": "member"}
    clocks = [gateway.stop_clock() for gateway in (one, two)]
    for _ in range(3):
        assert (await one.launch())[-1].fields["member"] == well.name
        for move in clocks:
            move(2)
    report = failing.signed(failing.report(time.time(), sessions=Sessions(running=3, limit=9, free=6)))
    async with one.http.post(f"{one.url}api/v1/reports", data=report) as response:
        assert response.status == 204
    for gateway in (one, two):
        await gateway.until_state(failing.name, "ejected")
    assert failing.builds

    def told() -> bool:
        view = two.parts.fleet.snapshot.get(failing.name)
        return view is not None and view.received is not None and view.received.report.sessions.free == 6

    await until(told)
    first, second = (gateway.parts.fleet.snapshot.get(failing.name) for gateway in (one, two))
    assert first is not None
    assert second is not None
    ejections = [view.outcomes.ejection for view in (first, second)]
    assert ejections[0] is not None
    assert ejections[1] is not None
    assert ejections[0].times == ejections[1].times
    assert abs((ejections[0].until - ejections[0].at) - (ejections[1].until - ejections[1].at)) < 0.01


async def test_what_one_replica_has_sent_to_a_member_counts_at_the_other(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1)
    member = one.members[0]
    member.knobs.gate_at = 1
    reading = [asyncio.create_task(read(one)) for _ in range(3)]

    def used(gateway: Gateway) -> int:
        snapshot = gateway.parts.fleet.snapshot
        return snapshot.status(snapshot.members[0], gateway.parts.fleet.now()).used

    await until(lambda: used(one) == used(two) == 3)
    wire = await two.json("api/v1/federation")
    assert [(item["this"], item["launches"], item["disagrees"]) for item in wire["replicas"]].count((False, 3, [])) == 1
    member.gate.set()
    await asyncio.gather(*reading)
    await until(lambda: used(one) == used(two) == 0)


async def test_a_gateway_whose_store_is_away_says_so_and_serves_on(start: Starter) -> None:
    redis = await start.redis()
    one, two = await start.replicas(2, redis, redis={"timeout": "1s"})

    async def degraded() -> bool:
        health = await one.json("health")
        (check,) = [check for check in health["checks"] if check["service"] == "Shared state"]
        assert health["ok"]
        return not check["ok"]

    async def all_say(expected: bool) -> bool:
        page = await (await one.http.get(f"{one.url}status")).text()
        wire = await one.json("api/v1/federation")
        return (wire["degraded_since"] is not None, "This gateway is degraded" in page) == (expected, expected)

    async def until_it_is(expected: bool) -> None:
        async with asyncio.timeout(60):
            while not (await degraded() == expected and await all_say(expected)):
                await asyncio.sleep(0.1)

    await until_it_is(False)
    await redis.stop()
    await until_it_is(True)
    assert (await one.launch())[-1].phase == Phase.READY
    await redis.start()
    await until_it_is(False)
    await until(lambda: len(two.parts.replicas.known) == 2)


async def test_a_store_that_is_away_holds_no_finished_launch_in_memory(start: Starter) -> None:
    server = await start.redis()
    (gateway,) = await start.replicas(1, server, members=1, launch={"keep_finished": "1s"}, redis={"timeout": "1s"})
    await server.stop()
    for _ in range(3):
        assert (await gateway.launch())[-1].phase == Phase.READY
    launches: Any = gateway.parts.launches
    await until(lambda: not launches._launches)
    assert not launches._sharing._own


async def test_however_much_there_is_to_tell_a_replica_says_that_it_lives(start: Starter) -> None:
    class Deaf(MemoryState):
        shared = True

        async def tell(self, facts: Sequence[bytes]) -> None:  # noqa: ARG002
            raise StateUnavailableError("too slow for so much")

    state, key = Deaf(), Ed25519PrivateKey.generate()
    fleet = Fleet([Member("member-1", "http://member-1.example/")], FederationSettings())
    replicas = [
        Replicas(
            name,
            "1",
            state,
            FederationSeal(SigningKeys(key)),
            fleet,
            Reports(fleet, {}, Tallies(), Alerts(time.time)),
            lambda: 0,
        )
        for name in ("one", "two")
    ]
    for replica in replicas:
        for n in range(5000):
            replica.tell(Refused("member-1", float(n)))
        await replica.beat()
        await replica.beat()
    assert set(replicas[1].known) == {"one", "two"}
    # Nobody speaks in another's name.
    said = await state.beat("one", b"")
    await state.beat("three", said["two"])
    await replicas[1].beat()
    assert "three" not in replicas[1].known


SPECIFIED = RepoSpec("git", SPEC, "https://git.example/org/repo", "main", repo_key("https://git.example/org/repo"))


def test_a_launch_of_a_later_version_is_understood_as_far_as_it_can_be() -> None:
    wire = json.loads(dump_launch(Launch("0" * 32, SPECIFIED, 1.0, Visitor(client="", origin=""))))
    wire |= {"phase": "warming", "outcome": "postponed", "schema": 2, "more": {}}
    for name in ("visitor", "trail"):
        wire[name] |= {"more": 1}
    launch = load_launch("0" * 32, json.dumps(wire).encode(), lambda _: SPECIFIED)
    assert (launch.phase, launch.outcome) == (Phase.UNKNOWN, None)


def test_a_repository_that_has_moved_is_the_same_one_at_the_next_replica() -> None:
    moved = replace(SPECIFIED, repo_url="https://git.example/new/repo", repo=repo_key("https://git.example/new/repo"))
    launch = Launch("0" * 32, replace(SPECIFIED, repo=moved.repo), 1.0)
    launch.trail.resolved = Resolved(moved, "c" * 40, SPEC)
    body = dump_launch(launch)
    taken_over = load_launch("0" * 32, body, lambda _: SPECIFIED)
    assert (taken_over.trail.resolved, taken_over.spec) == (launch.trail.resolved, launch.spec)
    # The version before has not told where it is now.
    wire = json.loads(body)
    del wire["trail"]["resolved"]["repo_url"], wire["trail"]["resolved"]["repo"]
    older = load_launch("0" * 32, json.dumps(wire).encode(), lambda _: SPECIFIED)
    assert older.trail.resolved is not None
    assert older.trail.resolved.spec == SPECIFIED


def test_what_replicas_of_the_next_version_tell_is_understood_as_far_as_it_can_be() -> None:
    fact = Failed("member-1", 1.0, Attempt(0.5, SPECIFIED.repo, "short"), "It fell over.", sure=True, draw=0.5)
    wire = json.loads(dump_fact(fact, "two"))
    wire["attempt"]["more"] = wire["more"] = {"new": [1]}
    assert load_fact(json.dumps(wire).encode()) == (fact, "two")
    assert load_fact(json.dumps({**wire, "kind": "postponed"}).encode()) == (None, "two")
    reserved = Reservation("short", SPECIFIED.repo, "c" * 40, 1.0, own=False)
    replica = Replica("two", "99", 1.0, 1, False, {"member-1": "warming"}, {"member-1": (reserved,)})
    wire = json.loads(dump_replica(replica))
    wire["reservations"]["member-1"][0]["more"] = wire["more"] = None
    assert load_replica(json.dumps(wire).encode()) == replica
    entry = Entry(7, event(Phase.BUILDING, "line\n"), 6)
    (n, follows, text), *_ = json.loads(dump_entries([entry]))
    assert load_entries(json.dumps([[n, follows, text, "more"]]).encode()) == [entry]
