"""A full federation queues, fairly and within bounds, and then refuses; over all replicas."""

import asyncio
import time
from collections.abc import AsyncIterator

from contract.events import BuildEvent, Phase
from contract.reports import Sessions
from tests.fakes.member import FakeMember
from tests.gateway.harness import SPEC, Gateway, Starter, spec_of, until

PROXIED = {"listen": {"trusted_proxies": ["127.0.0.0/8"]}, "probes": {"interval": "100ms", "report_max_age": "1h"}}


class Waiter:
    """A visitor who waits; ``places`` are those that were told, ``last`` the final event."""

    def __init__(self, gateway: Gateway, client: str, spec: str = SPEC) -> None:
        self.places: list[int] = []
        self.estimates: list[float] = []
        self.events: list[BuildEvent] = []
        self.last_id = ""
        self.task = asyncio.create_task(self._read(gateway.events(spec, {"X-Forwarded-For": client})))

    async def _read(self, events: AsyncIterator[tuple[str, BuildEvent]]) -> None:
        async for event_id, item in events:
            self.last_id = event_id or self.last_id
            self.events.append(item)
            if "position" in item.fields:
                self.places.append(item.fields["position"])
                self.estimates += [item.fields["eta_s"]] if "eta_s" in item.fields else []

    async def last(self) -> BuildEvent:
        """The final event."""
        async with asyncio.timeout(120):
            await self.task
        return self.events[-1]


async def make_room(gateway: Gateway, member: FakeMember, room: int) -> None:
    """A member has room for so many sessions, and says so."""
    member.knobs.room = room
    sessions = Sessions(running=10 - room, limit=10, free=room)
    report = member.report(time.time(), sessions=sessions, launches_seen=tuple(member.launches))
    async with gateway.http.post(f"{gateway.url}api/v1/reports", data=member.signed(report)) as response:
        assert response.status == 204, await response.text()


def waiting(*gateways: Gateway) -> int:
    """How many wait."""
    return sum(gateway.parts.launches.waiting for gateway in gateways)


async def until_told(*waiters: Waiter) -> None:
    """Wait until each has read its place."""
    await until(lambda: all(waiter.places for waiter in waiters))


async def until_waiting(count: int, *gateways: Gateway) -> None:
    """Wait until so many wait."""
    await until(lambda: waiting(*gateways) == count)


async def test_who_waits_is_told_the_place_and_served_in_order(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, **PROXIED)
    member = one.members[0]
    await make_room(one, member, 0)
    await until(lambda: two.parts.fleet.snapshot.members[0].state == "full")
    waiters = []
    for n in range(4):
        waiters.append(Waiter((one, two)[n % 2], f"198.51.100.{n}"))
        await until_waiting(n + 1, one, two)
    await until_told(*waiters)
    assert [waiter.places for waiter in waiters] == [[1], [2], [3], [4]]
    order: list[str] = []
    for waiter in waiters:
        waiter.task.add_done_callback(lambda task: order.append(task.get_name()))
    for served in range(4):
        await make_room(one, member, 1)
        assert (await waiters[served].last()).phase == Phase.READY
        assert waiting(one, two) <= 4 - served
        await until_waiting(3 - served, one, two)
    assert order == [waiter.task.get_name() for waiter in waiters]
    assert all(waiter.places == sorted(waiter.places, reverse=True) for waiter in waiters)
    assert waiters[3].places[-1] == 1
    # Once some were served, there is an estimate.
    assert waiters[3].estimates
    assert all(estimate > 0 for estimate in waiters[3].estimates)


async def test_a_newcomer_does_not_overtake_who_waits(start: Starter) -> None:
    gateway = await start.gateway(1, **PROXIED)
    member = gateway.members[0]
    await make_room(gateway, member, 0)
    eager = [Waiter(gateway, "198.51.100.1") for _ in range(3)]
    await until_waiting(3, gateway)
    modest = Waiter(gateway, "198.51.100.2")
    await until_waiting(4, gateway)
    # One of the eager visitor's, then the modest one's, whatever had come before.
    await make_room(gateway, member, 1)
    await until(lambda: sum(waiter.task.done() for waiter in eager) == 1)
    await make_room(gateway, member, 1)
    assert (await modest.last()).phase == Phase.READY
    assert sum(waiter.task.done() for waiter in eager) == 1
    await make_room(gateway, member, 5)
    for waiter in eager:
        assert (await waiter.last()).phase == Phase.READY
    assert len(member.launches) >= 4


async def test_past_its_bounds_the_queue_refuses_and_says_when_to_come_back(start: Starter) -> None:
    launch = {"waiting_limit": 4, "waiting_per_client": 2, "waiting_per_repo": 3, "linger": "60s"}
    gateway = await start.gateway(1, **PROXIED, launch=launch)
    member = gateway.members[0]
    await make_room(gateway, member, 0)
    kept = [Waiter(gateway, "198.51.100.1") for _ in range(2)]
    await until_waiting(2, gateway)
    for client, spec, said in (
        ("198.51.100.1", SPEC, "You have as many launches waiting as one visitor may."),
        ("198.51.100.2", SPEC, ""),
        ("198.51.100.3", SPEC, "As many launches of this repository are waiting as may."),
        ("198.51.100.3", spec_of("other"), ""),
        ("198.51.100.4", spec_of("third"), "The queue of this federation is full."),
    ):
        waiter = Waiter(gateway, client, spec)
        if said:
            refused = await waiter.last()
            assert said in refused.message
            assert refused.fields["failure"] == "refused"
            assert refused.fields["retry_after_s"] > 0
        else:
            before = waiting(gateway)
            await until_waiting(before + 1, gateway)
            kept.append(waiter)
    # All addresses of one IPv6 network are one client.
    assert gateway.parts.admission.counted_as("2001:db8::1") == gateway.parts.admission.counted_as("2001:db8::ffff:2")
    # Who leaves makes room.
    await until_told(*kept)
    async with gateway.http.delete(f"{gateway.url}api/v1/launches/{kept[0].last_id}") as response:
        assert response.status == 204
    await until_waiting(3, gateway)
    kept[0] = Waiter(gateway, "198.51.100.4", spec_of("third"))
    await until_waiting(4, gateway)
    await make_room(gateway, member, 10)
    for waiter in kept:
        assert (await waiter.last()).phase == Phase.READY


async def test_who_waits_longest_keeps_the_place_when_a_replica_ends(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, **PROXIED)
    member = one.members[0]
    await make_room(two, member, 0)
    await until(lambda: one.parts.fleet.snapshot.members[0].state == "full")
    first = Waiter(one, "198.51.100.1")
    await until_waiting(1, one)
    second = Waiter(two, "198.51.100.2")
    await until_waiting(1, two)
    await until_told(first, second)
    await one.runner.cleanup()
    await first.task
    resumed = asyncio.create_task(_resume(two, first.last_id))
    await until_waiting(2, two)
    await make_room(two, member, 1)
    assert (await resumed)[-1].phase == Phase.READY
    assert not second.task.done()
    await make_room(two, member, 1)
    assert (await second.last()).phase == Phase.READY


async def _resume(gateway: Gateway, last_id: str) -> list[BuildEvent]:
    async with asyncio.timeout(120):
        return [item async for _, item in gateway.events(headers={"Last-Event-ID": last_id})]


async def test_the_queue_goes_on_without_its_store(start: Starter) -> None:
    redis = await start.redis()
    one, _ = await start.replicas(2, redis, members=1, **PROXIED, redis={"timeout": "300ms"})
    member = one.members[0]
    await make_room(one, member, 0)
    first, second = Waiter(one, "198.51.100.1"), Waiter(one, "198.51.100.2")
    await until_waiting(2, one)
    await redis.stop()
    late = Waiter(one, "198.51.100.3")
    await until_waiting(3, one)
    await make_room(one, member, 3)
    for waiter in (first, second, late):
        assert (await waiter.last()).phase == Phase.READY


async def test_who_waits_for_one_member_is_in_nobodys_way(start: Starter) -> None:
    gateway = await start.gateway(
        2, **PROXIED, routing={"choose_member": True}, launch={"waiting_limit": 2, "waiting_per_client": 10}
    )
    full, free = gateway.members
    await make_room(gateway, full, 0)
    await make_room(gateway, free, 10)
    waiter = Waiter(gateway, "198.51.100.1", f"{SPEC}?member=member-1")
    await until_waiting(1, gateway)
    passing = Waiter(gateway, "198.51.100.1", SPEC)
    last = await passing.last()
    assert (last.phase, last.fields["member"]) == (Phase.READY, "member-2")
    assert not waiter.task.done()
    await make_room(gateway, full, 1)
    assert (await waiter.last()).fields["member"] == "member-1"


async def test_a_member_that_drains_gives_newcomers_no_queue_of_their_own(start: Starter) -> None:
    admin = {"tokens": [{"name": "alice", "token": "an-operators-token-for-tests"}]}
    gateway = await start.gateway(2, **PROXIED, admin=admin)
    for member in gateway.members:
        await make_room(gateway, member, 0)
    first = Waiter(gateway, "198.51.100.1")
    await until_waiting(1, gateway)
    async with gateway.http.put(
        f"{gateway.url}api/v1/admin/members/member-2/policy",
        json={"policy": "draining"},
        headers={"Authorization": "Bearer an-operators-token-for-tests"},
    ) as response:
        assert response.status == 200
    await gateway.until_state("member-2", "draining")
    second = Waiter(gateway, "198.51.100.2")
    await until_waiting(2, gateway)
    await until_told(first, second)
    assert (first.places, second.places) == ([1], [2])
    await make_room(gateway, gateway.members[0], 1)
    assert (await first.last()).phase == Phase.READY
    assert not second.task.done()
    await make_room(gateway, gateway.members[0], 1)
    assert (await second.last()).phase == Phase.READY
