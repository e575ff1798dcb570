"""What operators have decided outlives every process and every store, and nobody else can decide."""

import asyncio
import contextlib
import json
import math
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import CannotStartError
from gateway.clients.record_file import RecordFile, RecordFileError
from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import RecordCursor, SharedState, StateUnavailableError, StoredRecord
from gateway.clients.state.sealing import FederationSeal
from gateway.core.records import Book, Change, Record, dump_record, load_record, stamp_after
from gateway.core.signing import SigningKeys
from gateway.engines.records import Records
from tests.gateway.harness import Starter, gateway_settings, until

KEY = Ed25519PrivateKey.generate()

WRITINGS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.sampled_from("xy"), st.one_of(st.none(), st.just({"v": 1})))
)


def _record(key: str, at: int, writer: str, value: dict[str, int] | None) -> Record:
    return Record("ban", key, stamp_after(None, at, writer), value)


@given(WRITINGS, st.randoms())
def test_books_that_have_taken_the_same_writings_agree_whatever_the_order(
    writings: list[tuple[str, int, str, dict[str, int] | None]], random: Random
) -> None:
    # Who writes the same record twice within a moment gives it a later stamp.
    records = list({(key, at, writer): _record(key, at, writer, value) for key, at, writer, value in writings}.values())
    shuffled = list(records)
    random.shuffle(shuffled)
    one, two = Book(records), Book(shuffled + records)
    assert sorted(one.all(), key=lambda item: item.name) == sorted(two.all(), key=lambda item: item.name)
    for record in one.all():
        assert load_record(dump_record(record)) == record
        assert stamp_after(record, 0, "z") > record.stamp


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"kind": "ban", "key": "k", "stamp": "1-a"}',
        '{"kind": "a/b", "key": "k", "stamp": "x"}',
        json.dumps({"kind": "ban", "key": "k", "stamp": f"{1:017d}-a", "value": "text"}),
    ],
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_record(text.encode())


def test_a_record_of_a_newer_version_is_kept_and_passed_on() -> None:
    wire = {"schema": 2, "kind": "sanction", "key": "k", "stamp": f"{1:017d}-a", "value": {"new": [1]}, "more": True}
    record = load_record(json.dumps(wire).encode())
    assert Book([record]).of("sanction")["k"].value == {"new": [1]}
    assert Book([record]).of("ban") == {}


def _records(path: Path, state: SharedState, name: str, key: Ed25519PrivateKey = KEY) -> Records:
    file = RecordFile(path / name / "records.sqlite3")
    return Records(file, file.load(), state, FederationSeal(SigningKeys(key)), name)


async def test_what_was_decided_survives_a_restart_of_everything(tmp_path: Path) -> None:
    one = _records(tmp_path, MemoryState(), "one")
    await one.write(Change("ban", "a", {"v": 1}))
    await one.write(Change("ban", "b", {"v": 2}))
    await one.write(Change("ban", "b", None))
    await one.close()
    again = _records(tmp_path, MemoryState(), "one")
    assert set(again.book.of("ban")) == {"a"}
    assert (tmp_path / "one" / "records.sqlite3").stat().st_mode & 0o077 == 0
    await again.close()


@pytest.mark.parametrize("shared", [False, True])
async def test_the_federations_key_changes_and_who_comes_later_reads_everything(
    start: Starter, tmp_path: Path, shared: bool
) -> None:
    state: SharedState = start.state((await start.redis()).client()) if shared else MemoryState()
    new, keys = Ed25519PrivateKey.generate(), [SigningKeys(KEY), SigningKeys(KEY)]
    one, two = (
        Records(file, file.load(), state, FederationSeal(each), name)
        for each, name in zip(keys, ("one", "two"), strict=True)
        for file in [RecordFile(tmp_path / name / "records.sqlite3")]
    )

    async def rotated(current: Ed25519PrivateKey, other: Ed25519PrivateKey | None) -> None:
        """One replica after the other hears of it; what each writes meanwhile the other reads."""
        for records, each in ((one, keys[0]), (two, keys[1])):
            each.configure(current, other)
            records.seal_anew()
            await records.write(Change("ban", f"{len(one.book.of('ban'))}", {"by": "somebody"}))
            for reader in (one, two):
                await reader.sync()
        assert one.book.of("ban") == two.book.of("ban")

    await one.write(Change("ban", "first", {"v": 1}))
    await one.write(Change("ban", "gone", {"v": 1}))
    await one.write(Change("ban", "gone", None))
    for current, other in ((KEY, new), (new, KEY), (new, None)):
        await rotated(current, other)
    late = _records(tmp_path, state, "late", new)
    await late.sync()
    assert late.book.of("ban", with_tombstones=True) == one.book.of("ban", with_tombstones=True)
    assert len(late.book.of("ban")) == 7
    for records in (one, two, late):
        await records.close()
    await state.close()


async def test_an_emptied_store_is_refilled_and_a_stale_replica_revives_nothing(start: Starter, tmp_path: Path) -> None:
    redis = await start.redis()
    replicas = await start.replicas(2, redis, members=0)
    one, two = (gateway.parts.records for gateway in replicas)
    state, key = start.state(redis.client()), replicas[0].key
    await one.write(Change("ban", "network:192.0.2.0/24", {"kind": "network", "value": "192.0.2.0/24"}))
    await one.write(Change("ban", "owner:github.com/o", {"kind": "owner", "value": "github.com/o"}))
    await until(lambda: len(two.book.of("ban")) == 2)
    # A third one has seen both, and is away while one of them is lifted.
    stale = two.book.all()
    await one.write(Change("ban", "owner:github.com/o", None))
    await until(lambda: len(two.book.of("ban")) == 1)
    for n in range(3):
        await redis.flush()
        fresh = _records(tmp_path, state, f"fresh-{n}", key)
        async with asyncio.timeout(10):
            while not fresh.book.all():
                await fresh.sync()
                await asyncio.sleep(0.05)
        assert set(fresh.book.of("ban")) == {"network:192.0.2.0/24"}
        await fresh.close()
    RecordFile(tmp_path / "back" / "records.sqlite3").save(stale)
    back = _records(tmp_path, state, "back", key)
    assert len(back.book.of("ban")) == 2
    await redis.flush()
    async with asyncio.timeout(60):
        while set(back.book.of("ban")) != {"network:192.0.2.0/24"}:
            await back.sync()
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.2)
    assert len(one.book.of("ban")) == len(two.book.of("ban")) == 1
    await back.close()
    await state.close()


async def test_what_somebody_else_writes_into_the_store_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = MemoryState()
    one = _records(tmp_path, state, "one")
    await one.write(Change("ban", "a", {"v": 1}))
    (genuine,), _ = await state.get_records(RecordCursor())
    later = stamp_after(None, time.time() + 60, "x")
    await state.put_records(
        [
            StoredRecord("ban/forged", later, b"in plain text"),
            # Moved to another name, and to a later time.
            StoredRecord("ban/b", genuine.stamp, genuine.body),
            StoredRecord("ban/a", later, genuine.body),
        ]
    )
    two = _records(tmp_path, state, "two")
    await two.sync()
    assert two.book.all() == []
    assert caplog.text.count("is not believed") == 3
    # Who has the true one puts it in the place of the other, whatever time that bears.
    await one.sync()
    await two.sync()
    assert set(two.book.of("ban")) == {"a"}
    await one.close()
    await two.close()


@pytest.mark.parametrize("lost", ["", ":stamps", ":changes", ":life", "rolled back"])
async def test_a_store_that_lost_a_part_or_is_an_older_copy_of_itself_is_mended(
    start: Starter, tmp_path: Path, lost: str
) -> None:
    redis = await start.redis()
    client = redis.client()
    one, two = (_records(tmp_path, start.state(redis.client()), name) for name in ("one", "two"))
    names = [f"manybinder:records{part}" for part in ("", ":stamps", ":changes", ":life")]
    await one.write(Change("ban", "a", {"v": 1}))
    copies = {name: await client.dump(name) for name in names}
    for n in range(4):
        await one.write(Change("ban", f"b{n}", {"v": n}))
    await two.sync()
    if lost == "rolled back":
        for name, copy in copies.items():
            await client.restore(name, 0, copy, replace=True)
    else:
        await client.delete(f"manybinder:records{lost}")
    for each in (one, two, one):
        await each.sync()
    three = _records(tmp_path, start.state(redis.client()), "three")
    await three.sync()
    assert set(three.book.of("ban")) == {"a", "b0", "b1", "b2", "b3"}
    # What is decided from now on arrives, too.
    await one.write(Change("ban", "c", {"v": 2}))
    for each in (two, three):
        await each.sync()
        assert "c" in each.book.of("ban")
    for each in (one, two, three):
        await each.close()
        await each._state.close()
    await client.aclose()


async def test_after_an_outage_nothing_is_missed_that_was_written_over_an_older_copy(
    start: Starter, tmp_path: Path
) -> None:
    redis = await start.redis()
    client = redis.client()
    one, two = (_records(tmp_path, start.state(redis.client()), name) for name in ("one", "two"))
    await one.write(Change("ban", "a", {"v": 1}))
    names = [f"manybinder:records{part}" for part in ("", ":stamps", ":changes", ":life")]
    copies = {name: await client.dump(name) for name in names}
    for n in range(4):
        await one.write(Change("ban", f"b{n}", {"v": n}))
    one._state._away_until = math.inf
    await one.sync()
    one._state._away_until = 0.0
    # It comes back as it was before, and who has not read it yet writes past where the first one had got to.
    for name, copy in copies.items():
        await client.restore(name, 0, copy, replace=True)
    for n in range(5):
        await two.write(Change("ban", f"c{n}", {"v": n}))
    for each in (one, two):
        await each.sync()
        assert set(each.book.of("ban")) == {"a", *(f"b{n}" for n in range(4)), *(f"c{n}" for n in range(5))}
    for each in (one, two):
        await each.close()
        await each._state.close()
    await client.aclose()


async def test_whoever_goes_away_while_a_decision_is_kept_has_made_it(tmp_path: Path) -> None:
    one = _records(tmp_path, MemoryState(), "one")
    changed = asyncio.Event()
    one.on_change(changed.set)
    for n in range(20):
        changed.clear()
        writing = asyncio.create_task(one.write(Change("ban", f"b{n}", {"v": n})))
        for _ in range(1 + n % 4):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        async with asyncio.timeout(60):
            await changed.wait()
        assert f"b{n}" in one.book.of("ban")
    await one.close()
    again = _records(tmp_path, MemoryState(), "one")
    assert len(again.book.of("ban")) == 20
    await again.close()


async def test_who_cannot_go_by_a_change_keeps_nobody_else_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, told = _records(tmp_path, MemoryState(), "one"), []

    def cannot() -> None:
        raise ValueError("not understood")

    one.on_change(cannot)
    end = one.on_change(lambda: told.append(set(one.book.of("ban"))))
    await one.write(Change("ban", "a", {"v": 1}))
    assert told == [{"a"}]
    assert "not understood" in caplog.text
    end()
    await one.write(Change("ban", "b", {"v": 1}))
    assert told == [{"a"}]
    await one.close()


async def test_what_is_decided_while_the_store_is_away_arrives_later(tmp_path: Path) -> None:
    class Away(MemoryState):
        away = True

        async def get_records(self, cursor: RecordCursor) -> tuple[Sequence[StoredRecord], RecordCursor]:
            if self.away:
                raise StateUnavailableError
            return await super().get_records(cursor)

    state = Away()
    one, two = _records(tmp_path, state, "one"), _records(tmp_path, state, "two")
    await one.write(Change("ban", "a", {"v": 1}))
    await two.write(Change("ban", "b", {"v": 2}))
    assert set(one.book.of("ban")) == {"a"}
    state.away = False
    for each in (one, two, one):
        await each.sync()
    assert set(one.book.of("ban")) == set(two.book.of("ban")) == {"a", "b"}
    await one.close()
    await two.close()


def test_a_file_of_the_next_version_is_read_and_one_of_a_later_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite3"
    file = RecordFile(path)
    file.save([_record("a", 1, "w", {"v": 1})])
    file.close()
    for version, change in ((2, "ALTER TABLE records ADD COLUMN more TEXT"), (3, "CREATE TABLE more (x)")):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(change)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.commit()
        if version == 2:
            file = RecordFile(path)
            file.save([_record("b", 1, "w", {"v": 2})])
            assert {record.key for record in file.load()} == {"a", "b"}
            file.close()
    with pytest.raises(RecordFileError, match="too far ahead"):
        RecordFile(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        # The version stays that of who has made it.
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)


def test_a_file_that_cannot_be_used_is_told_with_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "records.sqlite3"
    broken.write_bytes(b"not a database " * 1000)
    with pytest.raises(RecordFileError, match=str(broken)):
        RecordFile(broken)
    with pytest.raises(RecordFileError, match="cannot be used"):
        RecordFile(broken / "below" / "a file")


async def test_a_gateway_says_what_is_wrong_with_its_data_directory(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "records.sqlite3").write_bytes(b"x" * 5000)
    with pytest.raises(CannotStartError, match=r"data_dir: .*records\.sqlite3"):
        await start.gateway_with(gateway_settings(tmp_path / "data", KEY, []), KEY)
