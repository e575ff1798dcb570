"""How members have fared: seconds in each condition and launches, by five minutes of the last day and by day before.

A slot is a record (:mod:`gateway.core.records`) of an hour or a day of one member.  Slots are written over by those
that come a day or a quarter later, so that the whole takes the same room for ever.  What nobody has watched is in no
slot: a gap is neither good nor bad.  All times are Unix times in seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.core.fleet import FleetSnapshot, Health, Policy, Status
from gateway.core.records import Book

#: The kind of record that a slot is.
HISTORY = "history"

#: What stands for the federation as a whole where members are named; no member can have this name.
WHOLE = "*"

CELL, HOUR, DAY = 300, 3600, 86400

#: Hours and days that are kept, the present ones among them.
HOURS, DAYS = 25, 90

#: Upper bounds, in seconds, of the classes that times to ready are counted in; the last class has none.
BOUNDS = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    20,
    25,
    30,
    40,
    50,
    60,
    80,
    100,
    120,
    180,
    240,
    300,
    450,
    600,
    900,
    1800,
    3600,
)


class Condition(StrEnum):
    """What a member was like for a while; what is not known is none of these."""

    #: It was healthy, full or not.
    WELL = "well"
    #: It was failing, unreachable, or out of rotation for what became of launches.
    TROUBLE = "trouble"
    #: Operators had it out of rotation.
    OUT = "out"


class Seconds(NamedTuple):
    """How long each condition held."""

    well: float = 0.0
    trouble: float = 0.0
    out: float = 0.0

    def plus(self, other: "Seconds") -> "Seconds":
        """Both together."""
        return Seconds(self.well + other.well, self.trouble + other.trouble, self.out + other.out)

    @property
    def known(self) -> float:
        """How long anything is known of."""
        return self.well + self.trouble + self.out

    @property
    def share_well(self) -> float | None:
        """The share of the time, from 0 to 1, in which it was well, of that in which it was meant to be."""
        meant = self.well + self.trouble
        return self.well / meant if meant > 0 else None


@dataclass(frozen=True, slots=True)
class Launches:
    """Launches at a member: so many became ready, so many failed by its fault; ``times`` counts by class of time."""

    ready: int = 0
    failed: int = 0
    times: Mapping[int, int] = field(default_factory=dict)

    def plus(self, other: "Launches") -> "Launches":
        """Both together."""
        times = dict(self.times)
        for index, count in other.times.items():
            times[index] = times.get(index, 0) + count
        return Launches(self.ready + other.ready, self.failed + other.failed, times)

    @property
    def rate(self) -> float | None:
        """The share that became ready, from 0 to 1; ``None`` where there were none."""
        count = self.ready + self.failed
        return self.ready / count if count else None

    @property
    def median(self) -> float | None:
        """The median time to ready, in seconds, as exact as the classes are."""
        count = sum(self.times.values())
        before = 0
        for index, many in sorted(self.times.items()):
            if before + many >= count / 2:
                low = BOUNDS[index - 1] if index else 0
                high = BOUNDS[index] if index < len(BOUNDS) else low
                return low + (high - low) * (count / 2 - before) / many
            before += many
        return None


def launched(seconds: float) -> Launches:
    """One launch that became ready after so long."""
    index = next((n for n, bound in enumerate(BOUNDS) if seconds <= bound), len(BOUNDS))
    return Launches(ready=1, times={index: 1})


@dataclass(frozen=True, slots=True)
class Slot:
    """An hour or a day from ``start`` on; ``cells`` by their number: of an hour twelve, of a day one."""

    start: int
    cells: Mapping[int, Seconds] = field(default_factory=dict)
    launches: Launches = Launches()

    def plus(self, other: "Slot") -> "Slot":
        """Both together; they must begin at the same time."""
        cells = dict(self.cells)
        for number, seconds in other.cells.items():
            cells[number] = cells.get(number, Seconds()).plus(seconds)
        return Slot(self.start, cells, self.launches.plus(other.launches))

    @property
    def total(self) -> Seconds:
        """All cells together."""
        total = Seconds()
        for seconds in self.cells.values():
            total = total.plus(seconds)
        return total


@dataclass(frozen=True, slots=True)
class Bar:
    """What is known of the time from ``start`` to ``end``."""

    start: float
    end: float
    seconds: Seconds


def condition(status: Status) -> Condition | None:
    """What a member is like; ``None``: not known yet."""
    if status.policy is not Policy.ACTIVE:
        return Condition.OUT
    if status.health is Health.UNKNOWN:
        return None
    return Condition.WELL if status.health is Health.HEALTHY else Condition.TROUBLE


def whole_condition(snapshot: FleetSnapshot, now: float) -> Condition | None:
    """What the federation as a whole is like: well if any member takes launches."""
    statuses = [snapshot.status(view, now) for view in snapshot.members]
    if any(status.available for status in statuses):
        return Condition.WELL
    return Condition.TROUBLE if statuses and snapshot.probed else None


def lasted(held: Condition, seconds: float) -> Seconds:
    """A condition that held for so long."""
    return Seconds()._replace(**{held.value: seconds})


def start_of(at: float, span: int) -> int:
    """When the cell, hour or day began that a time is in."""
    return int(at // span) * span


def slot_key(member: str, start: int, span: int) -> str:
    """The key of the record that a slot is in; those of an earlier day or quarter had the same."""
    return f"{member}/h{start // HOUR % HOURS}" if span == HOUR else f"{member}/d{start // DAY % DAYS}"


def slot_value(slot: Slot) -> dict[str, Any]:
    """A slot as a record's value."""
    launches = slot.launches
    return {
        "from": slot.start,
        "cells": {str(number): [round(item, 1) for item in seconds] for number, seconds in slot.cells.items()},
        "ready": launches.ready,
        "failed": launches.failed,
        "times": {str(index): count for index, count in launches.times.items()},
    }


def read_slot(value: Mapping[str, Any]) -> Slot:
    """A slot from a record's value; raises ``ValueError``."""
    try:
        cells = {int(number): Seconds(*(float(item) for item in given)) for number, given in value["cells"].items()}
        times = {int(index): int(count) for index, count in value["times"].items()}
        return Slot(int(value["from"]), cells, Launches(int(value["ready"]), int(value["failed"]), times))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a slot of history: {error!r}") from error


def find_slot(book: Book, member: str, start: int, span: int) -> Slot:
    """The slot of a time, empty where nothing is known of it."""
    record = book.get(HISTORY, slot_key(member, start, span))
    try:
        slot = read_slot(record.value or {}) if record else Slot(start)
    except ValueError:
        slot = Slot(start)
    return slot if slot.start == start else Slot(start)


def day_bars(book: Book, member: str, now: float, width: int = 3 * CELL) -> list[Bar]:
    """The last 24 hours, the present bar the last one; ``width`` is a multiple of a cell and divides an hour."""
    last = start_of(now, width)
    slots: dict[int, Slot] = {}
    bars = []
    for start in range(last - DAY + width, last + width, width):
        hour = start_of(start, HOUR)
        if hour not in slots:
            slots[hour] = find_slot(book, member, hour, HOUR)
        first = (start - hour) // CELL
        cells = (slots[hour].cells.get(number, Seconds()) for number in range(first, first + width // CELL))
        bars.append(Bar(start, start + width, _sum(cells)))
    return bars


def quarter_bars(book: Book, member: str, now: float) -> list[Bar]:
    """The last 90 days, today the last one."""
    today = start_of(now, DAY)
    starts = range(today - (DAYS - 1) * DAY, today + DAY, DAY)
    return [Bar(start, start + DAY, find_slot(book, member, start, DAY).total) for start in starts]


def day_launches(book: Book, member: str, now: float) -> Launches:
    """The launches of the last 24 hours, by whole hours: up to one hour more."""
    launches, last = Launches(), start_of(now, HOUR)
    for start in range(last - DAY, last + HOUR, HOUR):
        launches = launches.plus(find_slot(book, member, start, HOUR).launches)
    return launches


def total(bars: Sequence[Bar]) -> Seconds:
    """All bars together."""
    return _sum(bar.seconds for bar in bars)


def of_day(slot: Slot) -> Slot:
    """What an hour adds to its day."""
    return replace(slot, start=start_of(slot.start, DAY), cells={0: slot.total})


def _sum(items: Iterable[Seconds]) -> Seconds:
    found = Seconds()
    for item in items:
        found = found.plus(item)
    return found
