"""The shared state: one suite for all stores, the real Redis and Valkey among them."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redisserver import RedisServer

from gateway.clients.state.protocol import (
    Adoption,
    Batch,
    Hold,
    StateUnavailableError,
    Terms,
    Writing,
)
from gateway.clients.state.redis import RedisState
from tests.gateway.stores import LEASE, Make


def _batches(*numbers: int) -> list[Batch]:
    return [Batch(n, b"event %d" % n) for n in numbers]


async def test_a_launch_is_written_by_its_replica_and_read_by_all(make: Make) -> None:
    one, two = make(), make()
    assert await one.write("k", "a", Writing(b"m1", _batches(0, 1), whole=True)) is Hold.MINE
    assert await one.write("k", "a", Writing(b"m2", _batches(4))) is Hold.MINE
    found = await two.read({"k": -1, "other": -1})
    assert found.keys() == {"k"}
    assert (found["k"].meta, list(found["k"].batches), found["k"].over) == (b"m2", _batches(0, 1, 4), False)
    for cursor, expected in ((0, [1, 4]), (1, [4]), (3, [4]), (4, [])):
        assert list((await two.read({"k": cursor}))["k"].batches) == _batches(*expected)
    assert await two.read({}) == {}


async def test_what_is_written_twice_is_there_once(make: Make) -> None:
    state = make()
    for whole in (True, False, True):
        assert await state.write("k", "a", Writing(b"m", _batches(0, 1, 2), whole=whole)) is Hold.MINE
    assert list((await state.read({"k": -1}))["k"].batches) == _batches(0, 1, 2)


async def test_a_launch_that_the_store_has_forgotten_is_written_anew(make: Make) -> None:
    state = make()
    assert await state.write("k", "a", Writing(b"m", _batches(7))) is Hold.GONE
    assert (await state.renew(["k"], "a"))["k"].hold is Hold.GONE
    assert await state.adopt("k", "b") is Adoption.GONE
    assert await state.read({"k": -1}) == {}
    assert await state.write("k", "a", Writing(b"m", _batches(5, 7), whole=True)) is Hold.MINE
    assert list((await state.read({"k": -1}))["k"].batches) == _batches(5, 7)


async def test_who_holds_a_lease_is_not_robbed_and_who_lost_it_writes_no_more(make: Make) -> None:
    one, two = make(), make()
    await one.write("k", "a", Writing(b"m", _batches(0), whole=True))
    assert await two.adopt("k", "b") is Adoption.HELD
    assert await two.write("k", "b", Writing(b"stolen", whole=True)) is Hold.LOST
    await asyncio.sleep(LEASE * 1.5)
    assert await two.adopt("k", "b") is Adoption.ADOPTED
    assert await one.write("k", "a", Writing(b"late", _batches(1))) is Hold.LOST
    assert (await one.renew(["k"], "a"))["k"].hold is Hold.LOST
    assert await two.write("k", "b", Writing(b"m2", _batches(9))) is Hold.MINE
    found = (await one.read({"k": -1}))["k"]
    assert (found.meta, list(found.batches)) == (b"m2", _batches(0, 9))


async def test_a_lease_that_is_renewed_holds(make: Make) -> None:
    state = make()
    await state.write("k", "a", Writing(b"m", whole=True))
    for _ in range(8):
        await asyncio.sleep(LEASE / 4)
        renewed = await state.renew(["k", "other"], "a")
        assert renewed["other"].hold is Hold.GONE
        if renewed["k"].hold is not Hold.MINE:
            pytest.fail("the lease was lost")
        assert await state.adopt("k", "b") in (Adoption.HELD, Adoption.ADOPTED)


async def test_a_lease_that_is_given_up_can_be_taken_at_once(make: Make) -> None:
    state = make(Terms(lease=600))
    for key in ("k", "l"):
        await state.write(key, "a", Writing(b"m", whole=True))
    await state.give_up(["k", "missing"], "a")
    await state.give_up(["l"], "somebody else")
    await state.give_up([], "a")
    assert await state.write("k", "a", Writing(b"late")) is Hold.LOST
    assert await state.adopt("k", "b") is Adoption.ADOPTED
    assert await state.adopt("l", "b") is Adoption.HELD


async def test_of_many_that_want_to_adopt_one_does(make: Make) -> None:
    terms = Terms(lease=600)
    ends = [make(terms) for _ in range(4)]
    for round_ in range(20):
        await ends[0].write(f"k{round_}", "dead", Writing(b"m", whole=True))
        await ends[0].give_up([f"k{round_}"], "dead")
        wants = [(ends[n % 4], f"replica {n}") for n in range(12)]
        random.Random(round_).shuffle(wants)
        answers = await asyncio.gather(*(end.adopt(f"k{round_}", name) for end, name in wants))
        assert sorted(answers) == [Adoption.ADOPTED, *[Adoption.HELD] * 11]
        winner = wants[answers.index(Adoption.ADOPTED)][1]
        holds = await asyncio.gather(*(end.write(f"k{round_}", name, Writing(b"m")) for end, name in wants))
        assert [name for (_, name), hold in zip(wants, holds, strict=True) if hold is Hold.MINE] == [winner]


async def test_a_launch_that_is_over_is_replayed_and_never_adopted(make: Make) -> None:
    state = make()
    await state.write("k", "a", Writing(b"m", _batches(0), whole=True))
    await state.write("k", "a", Writing(b"end", _batches(1), over=True))
    await state.give_up(["k"], "a")
    await asyncio.sleep(LEASE * 1.2)
    assert await state.adopt("k", "b") is Adoption.OVER
    assert (await state.read({"k": -1}))["k"].over


async def test_a_launch_is_forgotten_after_its_time(make: Make) -> None:
    state = make(Terms(lease=0.2, keep=0.4))
    await state.write("k", "a", Writing(b"m", _batches(0), whole=True))
    await asyncio.sleep(1)
    assert await state.read({"k": -1}) == {}
    assert await state.write("k", "b", Writing(b"m", _batches(0), whole=True)) is Hold.MINE


async def test_a_long_launch_keeps_its_latest_entries(make: Make) -> None:
    state = make(Terms(lease=600, keep_bytes=10_000))
    for n in range(500):
        await state.write("k", "a", Writing(b"m", [Batch(n, b"x" * 100)], whole=n == 0))
    kept = [batch.last for batch in (await state.read({"k": -1}))["k"].batches]
    assert kept == list(range(kept[0], 500))
    assert 40 <= len(kept) <= 110


async def test_word_is_left_for_the_replica_that_runs_a_launch(make: Make) -> None:
    one, two = make(), make()
    assert not await two.ask_to_cancel("k")
    await one.write("k", "a", Writing(b"m", whole=True))
    assert not (await one.renew(["k"], "a"))["k"].cancelled
    assert await two.ask_to_cancel("k")
    assert (await one.renew(["k"], "a"))["k"].cancelled


async def test_who_runs_a_launch_hears_that_it_is_watched_elsewhere_for_a_while(make: Make) -> None:
    one, two = make(), make()
    for key in ("k", "l"):
        await one.write(key, "a", Writing(b"m", whole=True))
    await two.watch(["k", "missing"])
    await two.watch([])
    await two.ask_to_cancel("k")
    renewed = await one.renew(["k", "l", "missing"], "a")
    assert (renewed["k"].watched, renewed["k"].cancelled) == (True, True)
    assert (renewed["l"].watched, renewed["l"].cancelled) == (False, False)
    assert renewed["missing"].hold is Hold.GONE
    assert await two.read({"missing": -1}) == {}
    await asyncio.sleep(LEASE * 1.2)
    renewed = await one.renew(["k"], "a")
    assert (renewed["k"].watched, renewed["k"].cancelled) == (False, True)


async def test_many_leases_are_renewed(make: Make) -> None:
    state = make(Terms(lease=600))
    keys = [f"k{n}" for n in range(250)]
    for key in keys[::2]:
        await state.write(key, "a", Writing(b"m", whole=True))
    renewed = await state.renew(keys, "a")
    assert [renewed[key].hold for key in keys] == [Hold.MINE, Hold.GONE] * 125
    assert await state.renew([], "a") == {}


async def test_facts_are_heard_once_and_in_order_by_everyone(make: Make) -> None:
    one, two = make(), make()
    facts, cursor = await one.hear("")
    assert list(facts) == []
    told = [b"fact %d" % n for n in range(1200)]
    await asyncio.gather(two.tell(told[:600]), two.tell([]))
    await one.tell(told[600:])
    heard: list[bytes] = []
    while new := (await one.hear(cursor))[0]:
        new, cursor = await one.hear(cursor)
        heard += new
    assert heard == told
    # One that begins later hears those of the last minute.
    late, _ = await make().hear("")
    assert list(late) == told[: len(late)]
    assert late


async def test_replicas_that_live_see_each_other(make: Make) -> None:
    one, two = make(), make()
    await one.beat("a", b"I am a")
    assert await two.beat("b", b"I am b") == {"a": b"I am a", "b": b"I am b"}
    await asyncio.sleep(LEASE * 1.5)
    assert await two.beat("b", b"still") == {"b": b"still"}
    await one.beat("a", b"back")
    await one.leave("a")
    await one.leave("never was")
    assert await two.beat("b", b"alone") == {"b": b"alone"}


async def test_a_redis_that_is_frozen_or_gone_holds_nobody_up(tmp_path: Path) -> None:
    server = await RedisServer(tmp_path / "redis").start()
    state = RedisState(server.client(), timeout=0.5, terms=Terms(lease=600))
    await state.write("k", "a", Writing(b"m", _batches(0), whole=True))
    try:
        server.freeze()
        with pytest.raises(StateUnavailableError):
            await state.read({"k": -1})
        assert state.away_since is not None
        # Not asked again at once: a thousand calls take no time.
        async with asyncio.timeout(30):
            for _ in range(1000):
                with pytest.raises(StateUnavailableError):
                    await state.take("client", 1, 1)
        server.thaw()
        found = await _patiently(lambda: state.read({"k": -1}))
        assert found["k"].meta == b"m"
        assert state.away_since is None
        await server.stop()
        with pytest.raises(StateUnavailableError):
            await state.hear("")
        await server.start()
        assert await _patiently(lambda: state.read({"k": -1})) == {}
        assert await state.write("k", "a", Writing(b"m")) is Hold.GONE
    finally:
        await state.close()
        await server.stop()


async def _patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except StateUnavailableError:
                await asyncio.sleep(0.1)
