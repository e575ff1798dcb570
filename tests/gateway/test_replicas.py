"""Several replicas of a gateway behind one Redis: launches resume, go on and end wherever their visitor comes back."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import BuildEvent, Phase
from contract.launches import parse_event_id
from contract.reports import Sessions
from contract.repos import repo_key
from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import Adoption, StateUnavailableError
from gateway.clients.state.sealing import FederationSeal, launch_key
from gateway.core.alerts import Alerts
from gateway.core.facts import Refused
from gateway.core.fleet import Member
from gateway.core.launch import Launch, Outcome, Visitor
from gateway.core.launch_records import dump_launch, load_launch
from gateway.core.settings import FederationSettings
from gateway.core.signing import SigningKeys
from gateway.core.tallies import Tallies
from gateway.engines.fleet import Fleet
from gateway.engines.replicas import Replicas
from gateway.engines.reports import Reports
from providers.base import RepoSpec
from tests.gateway.harness import SPEC, Gateway, Starter, until

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
        async with gateway.http.get(
            f"{gateway.url}build/{SPEC}", headers={"Accept": "text/event-stream", "Last-Event-ID": last}
        ) as response:
            assert response.status == 204
    assert len(member.launches) == 1


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
    one, two = await start.replicas(2, redis)
    events, last = await read(one)
    parsed = parse_event_id(last)
    assert parsed is not None
    await asyncio.sleep(1)
    held = await redis.everything()
    assert b"launch:" in held
    ready = events[-1].fields
    for secret in (TOKEN, parsed[0], str(ready["url"]), "git.example"):
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


def test_a_launch_of_a_later_version_is_understood_as_far_as_it_can_be() -> None:
    spec = RepoSpec("git", SPEC, "https://git.example/org/repo", "main", repo_key("https://git.example/org/repo"))
    wire = json.loads(dump_launch(Launch("0" * 32, spec, 1.0, Visitor(client="", origin=""))))
    wire |= {"phase": "warming", "outcome": "postponed", "schema": 2, "more": {}}
    launch = load_launch("0" * 32, json.dumps(wire).encode(), lambda _: spec)
    assert (launch.phase, launch.outcome) == (Phase.UNKNOWN, None)
