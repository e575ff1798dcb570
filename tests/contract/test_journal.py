"""A journal's readers see everything, in order, whatever their pace; its memory is bounded."""

import asyncio
import random

import pytest

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
    journal = Journal(keep=1000)
    journal.append(event(Phase.BUILT, "kept", imageName="x"))
    for number in range(200):
        journal.append(event(Phase.BUILDING, f"{number:09}\n"))
    journal.append(event(Phase.READY, "done", url="u"))
    entries = await _all(journal)
    assert sum(len(entry.event.message) for entry in entries) < 1200
    assert [entry.n for entry in entries] == sorted({entry.n for entry in entries})
    assert entries[0].event.fields == {"imageName": "x"}
    assert "earlier lines are not kept" in entries[1].event.message
    assert entries[-1].n == 201
    shown = sum(isinstance(entry.event, BuildEvent) and "not kept" not in entry.event.message for entry in entries)
    missed = int(entries[1].event.message.split()[1])
    assert shown + missed == 202
