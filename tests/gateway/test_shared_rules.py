"""Rates, quotas, queues and records in the shared state: one suite for all stores, whatever the interleaving."""

import asyncio
import random

from gateway.clients.state.memory_rules import MemoryRules
from gateway.clients.state.protocol import (
    RECORDS_AT_ONCE,
    QueueBound,
    Queued,
    QueueTerms,
    Quota,
    RecordCursor,
    SharedState,
    StoredRecord,
)
from tests.gateway.stores import LEASE, Make

#: Nobody is made to wait for having asked before.
EVEN = QueueTerms(100, 100, 100, client_spacing=0, repo_spacing=0, lease=60)


async def test_a_rate_holds_whoever_asks(make: Make) -> None:
    ends = [make() for _ in range(3)]
    answers = await asyncio.gather(*(ends[n % 3].take("client", 60, 10) for n in range(1000)))
    given = [answer for answer in answers if answer.wait == 0]
    assert sorted(answer.left for answer in given) == list(range(10))
    assert all(0 < answer.wait <= 60 for answer in answers if answer not in given)
    assert (await ends[0].take("another", 60, 10)).left == 9


async def test_a_rate_gives_back_with_time(make: Make) -> None:
    state = make()
    assert (await state.take("client", 0.5, 2)).wait == 0
    second = await state.take("client", 0.5, 2)
    assert (second.wait, second.left) == (0, 0)
    assert 0.5 < second.full_in <= 1
    wait = (await state.take("client", 0.5, 2)).wait
    assert 0 < wait <= 0.5
    await asyncio.sleep(wait + 0.05)
    assert (await state.take("client", 0.5, 2)).wait == 0


async def test_a_clock_that_was_ahead_bars_nobody_for_long() -> None:
    now = 10_000.0
    state = MemoryRules(lambda: now)
    for _ in range(10):
        assert (await state.take("client", 60, 10)).wait == 0
    now -= 7200
    assert (await state.take("client", 60, 10)).wait <= 60


async def test_whoever_is_cancelled_while_asking_ends(make: Make) -> None:
    state = make()

    async def ask_on() -> None:
        while True:
            await state.take("client", 0.001, 10)
            await asyncio.sleep(0)

    for steps in range(150):
        asking = asyncio.create_task(ask_on())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        done, _ = await asyncio.wait([asking], timeout=30)
        assert done, f"cancelled after {steps} steps of the loop, it goes on"
        assert asking.cancelled()


async def test_a_quota_lets_exactly_so_many_through(make: Make) -> None:
    ends = [make() for _ in range(3)]
    repo, total = Quota("repo", 10), Quota("total", 25)

    async def claim(n: int) -> int | None:
        await asyncio.sleep(random.random() / 20)
        return await ends[n % 3].claim(f"launch-{n}", [total, repo if n % 2 else Quota("other", 100)], 60)

    answers = await asyncio.gather(*(claim(n) for n in range(100)))
    through = [n for n, answer in enumerate(answers) if answer is None]
    assert sum(n % 2 for n in through) <= 10
    assert len(through) == 25
    # Full under one of two: claimed under neither.
    await ends[0].give_back("launch-0", ["other", "total"])
    free = [name for name in (f"launch-{n}" for n in through) if name != "launch-0"]
    for name in free:
        await ends[1].give_back(name, ["total", "other", "repo"])
    again = await asyncio.gather(*(ends[n % 3].claim(f"again-{n}", [total, repo], 60) for n in range(30)))
    assert again.count(None) == 10
    assert again.count(1) == 20


async def test_a_claim_is_prolonged_and_ends_by_itself(make: Make) -> None:
    one, two = make(), make()
    quota = Quota("repo", 1)
    assert await one.claim("a", [quota], 1.0) is None
    for _ in range(4):
        await asyncio.sleep(0.4)
        # Its own claim is in nobody's way but others'.
        assert await one.claim("a", [quota], 1.0) is None
        assert await two.claim("b", [quota], 1.0) == 0
    await asyncio.sleep(1.3)
    assert await two.claim("b", [quota], 1.0) is None


async def test_what_is_counted_elsewhere_is_not_counted_twice(make: Make) -> None:
    one, two = make(), make()
    for n in range(3):
        assert await one.claim(f"l{n}", [Quota("repo", 5)], 60) is None
    # A member has reported two of the three, and another session: three and one are taken.
    seen = ["l0", "l1", "somebody"]
    assert await two.claim("l3", [Quota("repo", 5, 3, seen)], 60) is None
    assert await two.claim("l4", [Quota("repo", 5, 3, seen)], 60) == 0
    assert await two.claim("l4", [Quota("repo", 5, 2, seen)], 60) is None
    assert await one.claim("l5", [Quota("zero", 0)], 60) == 0
    # Two members have told of the same launch, which has gone from one to the other: it is one all the same.
    assert await one.claim("m0", [Quota("moved", 2)], 60) is None
    assert await two.claim("m1", [Quota("moved", 2, 1, ["m0", "m0"])], 60) is None
    assert await two.claim("m2", [Quota("moved", 2, 1, ["m0", "m0"])], 60) == 0


async def _enter(state: SharedState, ticket: str, client: str, repo: str = "r", terms: QueueTerms = EVEN) -> int | str:
    found = await state.enter("q", ticket, client, repo, terms)
    return found.place if isinstance(found, Queued) else found.value


async def test_who_comes_first_is_first_at_every_replica(make: Make) -> None:
    one, two = make(), make()
    for n in range(6):
        assert await _enter((one, two)[n % 2], f"t{n}", f"c{n}") == n
        await asyncio.sleep(0.002)
    assert await _enter(two, "t3", "c3") == 3
    line = await one.line("q", ["t5", "t0", "nobody"], EVEN, 60)
    assert (line.length, line.served, line.places) == (6, 0, {"t0": 0, "t5": 5})
    await two.leave_queue("q", "t0", served=True)
    await two.leave_queue("q", "t0", served=True)
    await two.leave_queue("q", "t3", served=False)
    line = await one.line("q", ["t0", "t1", "t5"], EVEN, 60)
    assert (line.length, line.served, line.places) == (4, 1, {"t1": 0, "t5": 3})
    assert (await one.line("another", ["t1"], EVEN, 60)).length == 0


async def test_who_asks_often_does_not_stand_before_who_asks_once(make: Make) -> None:
    state = make()
    fair = QueueTerms(100, 100, 100, client_spacing=30, repo_spacing=0, lease=60)
    for n in range(10):
        await _enter(state, f"eager{n}", "eager", terms=fair)
    for n in range(5):
        await _enter(state, f"modest{n}", f"modest{n}", terms=fair)
    names = [f"eager{n}" for n in range(10)] + [f"modest{n}" for n in range(5)]
    places = (await state.line("q", names, fair, 60)).places
    order = sorted(places, key=lambda name: places[name])
    assert order[0] == "eager0"
    assert set(order[1:6]) == {f"modest{n}" for n in range(5)}
    # Clients that are not known are not one client.
    for n in range(3):
        assert await state.enter("unknown", f"u{n}", "", f"r{n}", fair) is not QueueBound.CLIENT
    unknown = await state.line("unknown", ["u0", "u1", "u2"], fair, 60)
    assert sorted(unknown.places.values()) == [0, 1, 2]


async def test_a_crowd_for_one_repository_leaves_room_for_others(make: Make) -> None:
    state = make()
    fair = QueueTerms(100, 100, 100, client_spacing=0, repo_spacing=10, lease=60)
    for n in range(10):
        await _enter(state, f"crowd{n}", f"c{n}", "course", fair)
    await _enter(state, "other", "x", "other", fair)
    assert (await state.line("q", ["other"], fair, 60)).places["other"] <= 1


async def test_the_bounds_of_a_queue_hold_whatever_the_interleaving(make: Make) -> None:
    ends = [make() for _ in range(3)]
    terms = QueueTerms(20, 3, 8, lease=60)
    answers = await asyncio.gather(
        *(_enter(ends[n % 3], f"t{n}", f"c{n % 10}", f"r{n % 4}", terms) for n in range(200)),
    )
    taken = [n for n, answer in enumerate(answers) if isinstance(answer, int)]
    assert len(taken) == 20
    for bound, by in ((3, 10), (8, 4)):
        assert max(sum(n % by == which for n in taken) for which in range(by)) <= bound
    assert {answer for answer in answers if isinstance(answer, str)} <= {"all", "client", "repo"}
    # What has left makes room again.
    await ends[0].leave_queue("q", f"t{taken[0]}", served=False)
    assert isinstance(await _enter(ends[1], "new", "newcomer", "new", terms), int)


async def test_a_place_lapses_without_a_sign_of_life_and_a_turn_gets_it_back(make: Make) -> None:
    one, two = make(), make()
    short = QueueTerms(100, 1, 100, client_spacing=0, repo_spacing=0, lease=LEASE)
    first = await one.enter("q", "dead", "c", "r", short)
    assert isinstance(first, Queued)
    second = await two.enter("q", "alive", "d", "r", short)
    assert isinstance(second, Queued)
    for _ in range(4):
        await asyncio.sleep(LEASE * 0.4)
        line = await two.line("q", ["alive"], short, 60)
    assert (line.length, line.places) == (1, {"alive": 0})
    # Who lapsed counts no more among those of its client, and stands where it stood.
    again = await one.enter("q", "dead", "c", "r", short, first.turn)
    assert again == Queued(0, first.turn)


def _record(n: int, stamp: int, body: bytes = b"x") -> StoredRecord:
    return StoredRecord(f"ban/{n}", f"{stamp:017d}-a", body)


async def _all(state: SharedState, cursor: RecordCursor) -> tuple[dict[str, bytes], RecordCursor]:
    found: dict[str, bytes] = {}
    while True:
        records, cursor = await state.get_records(cursor)
        found.update({record.name: record.body for record in records})
        if len(records) < RECORDS_AT_ONCE:
            return found, cursor


async def test_records_are_told_to_whoever_has_not_seen_them(make: Make) -> None:
    one, two = make(), make()
    await one.put_records([_record(n, 1, b"%d" % n) for n in range(RECORDS_AT_ONCE)])
    await two.put_records([_record(n, 1, b"%d" % n) for n in range(RECORDS_AT_ONCE, 450)])
    found, cursor = await _all(two, RecordCursor())
    assert found == {f"ban/{n}": b"%d" % n for n in range(450)}
    assert await _all(two, cursor) == ({}, cursor)
    await one.put_records([_record(7, 2, b"new")])
    found, cursor = await _all(two, cursor)
    assert found == {"ban/7": b"new"}
    # A cursor of another life of the store begins anew.
    found, _ = await _all(two, RecordCursor("of another life", 451))
    assert len(found) == 450


async def test_of_a_record_the_latest_writing_wins_whatever_the_interleaving(make: Make) -> None:
    ends = [make() for _ in range(3)]
    writings = [(n, stamp) for n in range(10) for stamp in range(1, 30)]
    random.shuffle(writings)
    await asyncio.gather(
        *(ends[at % 3].put_records([_record(n, stamp, b"%d" % stamp)]) for at, (n, stamp) in enumerate(writings))
    )
    found, _ = await _all(ends[0], RecordCursor())
    assert found == {f"ban/{n}": b"29" for n in range(10)}
