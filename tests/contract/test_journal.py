"""A journal's readers see everything, in order, whatever their pace; its memory is bounded."""

import asyncio
import random
import re
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import BuildEvent, Phase, event
from contract.journal import Entry, Journal


async def _all(journal: Journal, after: int = -1) -> list[Entry]:
    return [entry async for entry in journal.follow(after)]


async def test_readers_at_any_pace_see_all_in_order() -> None:
    journal, draw = Journal(), random.Random(4)

    async def read(after: int) -> list[int]:
        seen = []
        async for entry in journal.follow(after):
            seen.append(entry.n)
            for _ in range(draw.randrange(4)):
                await asyncio.sleep(0)
        return seen

    readers = [asyncio.create_task(read(after)) for after in (-1, -1, -1, 3, 50)]
    for number in range(100):
        journal.append(event(Phase.BUILDING, f"{number}\n"))
        if draw.random() < 0.5:
            await asyncio.sleep(0)
    journal.append(event(Phase.READY))
    results = await asyncio.gather(*readers)
    assert results == [list(range(101))] * 3 + [list(range(4, 101)), list(range(51, 101))]


async def test_what_is_appended_while_a_reader_is_busy_with_the_last_entry_is_not_lost() -> None:
    journal = Journal()
    journal.append(event(Phase.WAITING))
    seen = []
    async for entry in journal.follow():
        seen.append(entry.n)
        if entry.n == 0:
            journal.append(event(Phase.BUILDING))
            journal.append(event(Phase.READY))
    assert seen == [0, 1, 2]


async def test_a_late_reader_of_a_complete_journal_gets_what_it_missed_and_ends() -> None:
    journal = Journal()
    for phase in (Phase.WAITING, Phase.BUILT, Phase.FAILED):
        journal.append(event(phase))
    assert [entry.n for entry in await _all(journal)] == [0, 1, 2]
    assert [entry.n for entry in await _all(journal, 1)] == [2]
    assert await _all(journal, 2) == []
    assert await _all(journal, 99) == []
    assert journal.final is not None
    with pytest.raises(ValueError, match="complete"):
        journal.append(event(Phase.WAITING))


async def test_only_log_lines_are_dropped_and_readers_are_told() -> None:
    journal = Journal(keep=10_000)
    journal.append(event(Phase.BUILT, "kept", imageName="x"))
    for number in range(200):
        # A gateway says of every line whose it is.
        journal.append(event(Phase.BUILDING, f"{number:09}\n", launch_id="l", member="m", attempt=1))
    journal.append(event(Phase.READY, "done", url="u"))
    entries = await _all(journal)
    assert 20 < len(entries) < 50
    assert [entry.n for entry in entries] == sorted({entry.n for entry in entries})
    assert entries[0].event.fields == {"imageName": "x"}
    assert "earlier lines are not kept" in entries[1].event.message
    assert entries[-1].n == 201
    shown = sum(isinstance(entry.event, BuildEvent) and "not kept" not in entry.event.message for entry in entries)
    missed = int(entries[1].event.message.split()[1])
    assert shown + missed == 202


@pytest.mark.parametrize("line", [event(Phase.BUILDING, "\n"), event(Phase.PUSHING, "", progress={"layer": "x" * 500})])
async def test_no_kind_of_event_grows_without_bound(line: BuildEvent) -> None:
    journal = Journal(keep=100_000)
    for _ in range(2000):
        journal.append(line)
    journal.append(event(Phase.FAILED, "why"))
    entries = await _all(journal)
    assert len(entries) < 500
    assert "not kept" in entries[0].event.message
    assert (entries[-1].n, entries[-1].event) == (2000, event(Phase.FAILED, "why"))


async def test_a_long_log_does_not_get_slower_with_its_length() -> None:
    """Each wake looks at what is new alone: counted in entries looked at, not in seconds."""
    journal, looked = Journal(), 0

    class Counted(deque[Entry]):
        def __reversed__(self) -> Iterator[Entry]:
            nonlocal looked
            for entry in super().__reversed__():
                looked += 1
                yield entry

        def __iter__(self) -> Iterator[Entry]:
            raise AssertionError("looked through from the beginning")

    journal._entries = Counted()
    reader = asyncio.create_task(_all(journal))
    for _ in range(2000):
        journal.append(event(Phase.BUILDING, "x\n"))
        await asyncio.sleep(0)
    journal.append(event(Phase.READY))
    assert len(await reader) == 2001
    assert looked < 10_000


@given(
    steps=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=40),
    keep=st.integers(500, 20_000),
    after=st.integers(-1, 50),
)
async def test_a_reader_gets_every_number_once_or_is_told_that_it_is_gone(
    steps: list[tuple[int, bool]], keep: int, after: int
) -> None:
    journal = Journal(keep)
    reader = asyncio.create_task(_all(journal, after))
    total = 0
    for count, pause in steps:
        for _ in range(count):
            journal.append(event(Phase.BUILDING, f"{total}\n"))
            total += 1
        if pause:
            await asyncio.sleep(0)
    journal.append(event(Phase.READY))
    seen = after
    for entry in await reader:
        gone = re.match(r"… (\d+) earlier", entry.event.message)
        seen += int(gone[1]) if gone else 1
        assert entry.n == seen
        assert gone or entry.event.is_final or entry.event.message == f"{entry.n}\n"
    assert seen == max(total, after)


async def test_a_copy_goes_on_under_other_numbers_and_its_readers_are_told_of_no_gap() -> None:
    journal, copy = Journal(), Journal()
    for n in range(3):
        journal.append(event(Phase.BUILDING, f"{n}\n"))
    for entry in journal.since(-1):
        copy.take(entry)
    copy.take(journal.since(-1)[0])
    copy.skip_to(1000)
    copy.skip_to(10)
    assert copy.append(event(Phase.READY)) == Entry(1000, event(Phase.READY), 2)
    assert [entry.n for entry in await _all(copy)] == [0, 1, 2, 1000]
    assert [entry.n for entry in await _all(copy, 1)] == [2, 1000]
    # A reader that had seen more of the first copy than the second one has.
    assert [entry.n for entry in await _all(copy, 40)] == [1000]
    with pytest.raises(ValueError, match="complete"):
        copy.take(Entry(1001, event(Phase.BUILDING), 1000))


async def test_readers_of_a_journal_that_goes_on_elsewhere_end() -> None:
    journal = Journal()
    journal.append(event(Phase.WAITING))
    reader = asyncio.create_task(_all(journal))
    await asyncio.sleep(0)
    journal.append(event(Phase.BUILDING))
    journal.close()
    assert [entry.n for entry in await reader] == [0, 1]
    assert journal.final is None
