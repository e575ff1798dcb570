"""What must hold of the stores however the steps of several replicas fall between each other."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable

import pytest

from gateway.clients.state.protocol import (
    RECORDS_AT_ONCE,
    Adoption,
    Batch,
    Hold,
    Queued,
    QueueTerms,
    Quota,
    RecordCursor,
    SharedState,
    StoredRecord,
    Taken,
    Terms,
    Writing,
)
from tests.gateway.stores import Make

#: Leases do not run out by themselves: they are given up.
PATIENT = Terms(lease=600)

REPLICAS = 4


async def _all_at_once(*work: Awaitable[object]) -> None:
    async with asyncio.timeout(120):
        await asyncio.gather(*work)


async def _pause(chance: random.Random) -> None:
    await asyncio.sleep(chance.random() / 500)


@pytest.mark.parametrize("seed", range(3))
async def test_a_launch_has_one_writer_at_a_time_and_readers_see_one_story(make: Make, seed: int) -> None:
    """Write, renew, watch, adopt, give up, ask to cancel and read, all at once."""
    ends = [make(PATIENT) for _ in range(REPLICAS)]
    stories: list[list[tuple[int, bytes]]] = []
    last, over = 60, asyncio.Event()

    async def replica(n: int) -> None:
        chance, state, name = random.Random(f"{seed} {n}"), ends[n], f"replica {n}"
        while not over.is_set():
            await _pause(chance)
            if await state.adopt("k", name) is not Adoption.ADOPTED:
                continue
            # Who holds it goes on after the last entry that was written, by whomever.
            written = (await state.read({"k": -1}))["k"].batches[-1].last
            for entry in range(written + 1, min(written + 1 + chance.randrange(1, 8), last)):
                await _pause(chance)
                renewed, written_now = await asyncio.gather(
                    state.renew(["k"], name), state.write("k", name, Writing(b"m", [Batch(entry, name.encode())]))
                )
                assert (renewed["k"].hold, written_now) == (Hold.MINE, Hold.MINE)
                written = entry
            if written == last - 1:
                assert await state.write("k", name, Writing(b"m", over=True)) is Hold.MINE
                over.set()
            await state.give_up(["k"], name)
            assert await state.write("k", name, Writing(b"late", [Batch(last + n, b"late")])) is Hold.LOST

    async def reader(n: int) -> None:
        chance, seen, cursor = random.Random(f"{seed} reader {n}"), [], -1
        while cursor < last - 1:
            await _pause(chance)
            batches = (await ends[n].read({"k": cursor}))["k"].batches
            seen += [(batch.last, batch.body) for batch in batches]
            cursor = seen[-1][0] if seen else -1
        stories.append(seen)

    async def canceller() -> None:
        chance = random.Random(seed)
        for _ in range(20):
            await _pause(chance)
            assert await ends[0].ask_to_cancel("k")
            await ends[1].watch(["k"])

    await ends[0].write("k", "dead", Writing(b"m", [Batch(0, b"dead")], whole=True))
    await ends[0].give_up(["k"], "dead")
    await _all_at_once(*map(replica, range(REPLICAS)), *map(reader, range(REPLICAS)), canceller())
    assert [entry for entry, _ in stories[0]] == list(range(last))
    assert stories == [stories[0]] * REPLICAS
    assert len({body for _, body in stories[0]}) > 1
    assert await ends[0].adopt("k", "somebody") is Adoption.OVER


async def test_of_many_that_begin_a_launch_anew_one_does(make: Make) -> None:
    ends = [make(PATIENT) for _ in range(REPLICAS)]
    for round_ in range(10):
        key, writings = f"k{round_}", [Writing(b"%d" % n, [Batch(0, b"%d" % n)], whole=True) for n in range(REPLICAS)]
        holds = await asyncio.gather(*(ends[n].write(key, f"replica {n}", writings[n]) for n in range(REPLICAS)))
        assert Counter(holds) == {Hold.MINE: 1, Hold.LOST: REPLICAS - 1}
        found = (await ends[0].read({key: -1}))[key]
        winner = b"%d" % holds.index(Hold.MINE)
        assert (found.meta, list(found.batches)) == (winner, [Batch(0, winner)])


async def test_everybody_hears_all_that_is_told_at_the_same_time_once(make: Make) -> None:
    ends = [make() for _ in range(REPLICAS)]
    each, told = 150, asyncio.Event()

    async def teller(n: int) -> None:
        chance = random.Random(n)
        facts = [b"%d %d" % (n, fact) for fact in range(each)]
        while facts:
            some = facts[: chance.randrange(1, 12)]
            del facts[: len(some)]
            await ends[n].tell(some)
            await _pause(chance)

    async def hearer(n: int, cursor: str) -> None:
        chance, heard = random.Random(n), []
        while True:
            ended = told.is_set()
            facts, cursor = await ends[n].hear(cursor)
            heard += facts
            if ended and not facts:
                break
            await _pause(chance)
        assert len(heard) == len(set(heard)) == REPLICAS * each
        for who in range(REPLICAS):
            order = [int(fact.split()[1]) for fact in heard if fact.startswith(b"%d " % who)]
            assert order == list(range(each))

    async def tell() -> None:
        await asyncio.gather(*map(teller, range(REPLICAS)))
        told.set()

    cursors = [(await end.hear(""))[1] for end in ends]
    await _all_at_once(tell(), *(hearer(n, cursor) for n, cursor in enumerate(cursors)))


async def test_replicas_that_come_and_go_at_the_same_time_leave_those_that_stayed(make: Make) -> None:
    ends = [make(PATIENT) for _ in range(REPLICAS)]

    async def stays(n: int) -> None:
        for beat in range(30):
            said = await ends[n].beat(f"stays {n}", b"%d" % beat)
            assert said[f"stays {n}"] == b"%d" % beat

    async def goes(n: int) -> None:
        for _ in range(15):
            await ends[n].beat(f"goes {n}", b"")
            await ends[n].leave(f"goes {n}")

    await _all_at_once(*map(stays, range(REPLICAS)), *map(goes, range(REPLICAS)))
    assert await ends[0].beat("stays 0", b"29") == {f"stays {n}": b"29" for n in range(REPLICAS)}


@pytest.mark.parametrize("seed", range(3))
async def test_a_queue_forgets_nobody_and_counts_nobody_twice(make: Make, seed: int) -> None:
    """Enter, look and leave, all at once."""
    ends = [make() for _ in range(REPLICAS)]
    terms = QueueTerms(12, 3, 6, client_spacing=0, repo_spacing=0, lease=600)

    async def visitor(n: int) -> bool:
        chance, state = random.Random(f"{seed} {n}"), ends[n % REPLICAS]
        await _pause(chance)
        entered = await state.enter("q", f"t{n}", f"c{n % 5}", f"r{n % 3}", terms)
        if not isinstance(entered, Queued):
            return False
        while chance.random() < 0.5:
            line = await ends[chance.randrange(REPLICAS)].line("q", [f"t{n}"], terms, 60)
            assert line.places[f"t{n}"] < line.length <= terms.limit
            again = await state.enter("q", f"t{n}", f"c{n % 5}", f"r{n % 3}", terms, entered.turn)
            assert isinstance(again, Queued)
            assert again.turn == entered.turn
        # Told twice, as after a connection that broke: it leaves once.
        served = chance.random() < 0.5
        await asyncio.gather(*(end.leave_queue("q", f"t{n}", served=served) for end in ends[:2]))
        return True

    async with asyncio.timeout(120):
        came_in = await asyncio.gather(*map(visitor, range(150)))
    assert any(came_in)
    assert (await ends[0].line("q", [], terms, 60)).length == 0
    # No count was left behind: each bound lets as many in as before.
    for n in range(terms.client_limit):
        assert isinstance(await ends[n].enter("q", f"again{n}", "c0", f"new{n}", terms), Queued)
    for n in range(terms.repo_limit):
        assert isinstance(await ends[n % REPLICAS].enter("q", f"more{n}", f"new{n}", "r0", terms), Queued)


@pytest.mark.parametrize("seed", range(3))
async def test_who_reads_records_while_they_are_written_misses_none(make: Make, seed: int) -> None:
    ends = [make() for _ in range(REPLICAS)]
    written = asyncio.Event()
    latest = {f"ban/{n}": b"%d %d" % (n, 29) for n in range(20)}

    async def writer(which: int) -> None:
        chance = random.Random(f"{seed} {which}")
        stamps = [(n, stamp) for n in range(20) for stamp in range(which, 30, 2)]
        chance.shuffle(stamps)
        for n, stamp in stamps:
            await ends[which].put_records([StoredRecord(f"ban/{n}", f"{stamp:017d}-a", b"%d %d" % (n, stamp))])

    async def reader(n: int) -> None:
        chance, cursor, found = random.Random(n), RecordCursor(), dict[str, bytes]()
        while True:
            ended = written.is_set()
            records, cursor = await ends[n].get_records(cursor)
            for record in records:
                # Of each record only what is newer is told.
                assert found.get(record.name, b"") != record.body
                found[record.name] = record.body
            if ended and len(records) < RECORDS_AT_ONCE:
                break
            await _pause(chance)
        assert found == latest

    async def write() -> None:
        await asyncio.gather(writer(0), writer(1))
        written.set()

    await _all_at_once(write(), *map(reader, range(REPLICAS)))


async def test_a_place_that_is_given_back_while_others_ask_is_had_once(make: Make) -> None:
    """Claim and give back, all at once: never more than there are, and all are free in the end."""
    ends = [make() for _ in range(REPLICAS)]
    quotas, holding, most = [Quota("total", 3), Quota("repo", 2)], set[int](), 0

    async def launch(n: int, state: SharedState) -> None:
        nonlocal most
        chance = random.Random(n)
        for _ in range(12):
            if await state.claim(f"launch {n}", quotas, 60) is None:
                holding.add(n)
                most = max(most, len(holding))
                assert len(holding) <= 2
                await _pause(chance)
                holding.discard(n)
                await state.give_back(f"launch {n}", ["total", "repo"])
            await _pause(chance)

    await _all_at_once(*(launch(n, ends[n % REPLICAS]) for n in range(20)))
    assert most == 2
    answers = [await ends[0].claim(f"later {n}", quotas, 60) for n in range(3)]
    assert answers == [None, None, 1]


async def test_one_bucket_is_emptied_once_whatever_falls_between(make: Make) -> None:
    ends = [make() for _ in range(REPLICAS)]

    async def visitor(n: int) -> Taken:
        await _pause(random.Random(n))
        return await ends[n % REPLICAS].take("client", 600, 7)

    taken = await asyncio.gather(*map(visitor, range(100)))
    assert sorted(answer.left for answer in taken if answer.wait == 0) == list(range(7))
