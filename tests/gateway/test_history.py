"""How members have fared: bars, launches, gaps, incidents; kept over restarts, the same at every replica, bounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from contract.repos import RepoKey
from gateway.clients.record_file import RecordFile
from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import SharedState
from gateway.clients.state.sealing import FederationSeal
from gateway.core import history
from gateway.core.facts import Failed, Replica, Succeeded
from gateway.core.fleet import Member, Policy
from gateway.core.history import BOUNDS, CELL, DAY, HOUR, WHOLE, Launches, Seconds, Slot, lasted
from gateway.core.incidents import GATEWAY, INCIDENT, KEPT, SAME_WITHIN, Incident, advanced, incidents
from gateway.core.outcomes import Attempt
from gateway.core.ports import RecordsAwayError
from gateway.core.records import Book, Record, stamp_after
from gateway.core.settings import FederationSettings
from gateway.core.signing import SigningKeys
from gateway.core.transitions import ProbeResult
from gateway.engines.chronicle import Chronicle
from gateway.engines.fleet import Fleet
from gateway.engines.records import Records
from gateway.web.figures import percent
from gateway.web.plots import plot

GOOD, DEAD = ProbeResult(True, True), ProbeResult(False, False, "It could not be reached: connection refused.")
KEY = Ed25519PrivateKey.generate()
#: A midnight.
BEGIN = 20_000 * DAY


@dataclass
class Others:
    """The replicas, as a test says."""

    name: str = "a"
    shared: bool = False
    known: Mapping[str, Replica] = field(default_factory=dict)
    away_since: float | None = None


@dataclass
class World:
    """One replica, its clock, and members that a test kills."""

    clock: list[float]
    fleet: Fleet
    records: Records
    others: Others
    chronicle: Chronicle

    @property
    def now(self) -> float:
        """The time."""
        return self.clock[0]

    @now.setter
    def now(self, now: float) -> None:
        self.clock[0] = now

    async def live(self, seconds: float, result: ProbeResult = GOOD, step: float = 9.0) -> None:
        """Let time pass, with probes that see this."""
        until = self.now + seconds
        while self.now < until:
            self.now += min(step, until - self.now)
            for view in self.fleet.snapshot.members:
                self.fleet.probed(view.name, result)
            await self.chronicle.look()

    @property
    def book(self) -> Book:
        """What is kept."""
        return self.records.book

    def day(self, name: str = "m") -> Seconds:
        """The last 24 hours of a member."""
        return history.total(history.day_bars(self.book, name, self.now))


def world(
    path: Path, now: float = BEGIN, others: Others | None = None, state: SharedState | None = None, members: str = "m"
) -> World:
    """A replica that starts now, with what is in its file."""
    file = RecordFile(path / "records.sqlite3")
    others = others or Others()
    records = Records(file, file.load(), state or MemoryState(), FederationSeal(SigningKeys(KEY)), others.name)
    clock = [now]
    fleet = Fleet([Member(name, f"http://{name}/") for name in members], FederationSettings(), lambda: clock[0])
    chronicle = Chronicle(fleet, records, others)
    fleet.heard = chronicle.hear
    return World(clock, fleet, records, others, chronicle)


class Shared(MemoryState):
    """What replicas share, in this process."""

    shared = True


def pair(path: Path) -> tuple[World, World]:
    """Two replicas that know of each other, and share their state."""
    state, known = Shared(), {"a": None, "b": None}
    one = world(path / "1", others=Others("a", True, known), state=state)  # type: ignore[arg-type]
    two = world(path / "2", others=Others("b", True, known), state=state)  # type: ignore[arg-type]
    return one, two


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where a replica keeps what it keeps."""
    return tmp_path


async def test_a_day_of_trouble_maintenance_and_a_gateway_that_was_down_is_told_as_it_was(here: Path) -> None:
    one = world(here)
    await one.live(HOUR)
    await one.live(HOUR / 2, DEAD)
    await one.live(HOUR / 2)
    one.fleet.wanted("m", Policy.DRAINING)
    await one.live(HOUR)
    await one.chronicle.flush()
    await one.records.close()
    # Down for two hours, and back with what it has on its disk.
    two = world(here, one.now + 2 * HOUR)
    two.fleet.wanted("m", Policy.ACTIVE)
    await two.live(HOUR)
    await two.chronicle.flush()
    seconds = two.day()
    assert seconds.well == pytest.approx(2.5 * HOUR, abs=60)
    assert seconds.trouble == pytest.approx(HOUR / 2, abs=60)
    assert seconds.out == pytest.approx(HOUR, abs=60)
    bars = history.day_bars(two.book, "m", two.now)
    gap = [bar for bar in bars if one.now + CELL <= bar.start and bar.end <= two.now - HOUR]
    assert len(gap) >= 6
    assert all(bar.seconds.known == 0 for bar in gap)
    assert seconds.share_well == pytest.approx(2.5 / 3, abs=0.02)
    assert history.quarter_bars(two.book, "m", two.now)[-1].seconds.known == pytest.approx(seconds.known, abs=1)
    await two.records.close()


async def test_what_is_kept_does_not_grow_with_time_and_tells_the_last_day_and_quarter_only(here: Path) -> None:
    one = world(here)
    for _ in range(95):
        await one.live(30)
        await one.chronicle.flush()
        one.now += DAY - 30
        await one.chronicle.look()
    count = len(one.book.all())
    assert count <= 2 * (history.HOURS + history.DAYS) + 5
    bars = history.quarter_bars(one.book, "m", one.now)
    assert len(bars) == history.DAYS
    # Today nothing was seen yet; each of the days before has its half minute.
    assert [round(bar.seconds.known) for bar in bars] == [30] * 89 + [0]
    assert one.day().known == 0
    an_hour_ago = history.day_bars(one.book, "m", one.now - HOUR)
    assert history.total(an_hour_ago).known == pytest.approx(30, abs=1)
    await one.records.close()


async def test_a_machine_that_slept_has_seen_nothing_meanwhile(here: Path) -> None:
    one = world(here)
    await one.live(60)
    one.now += HOUR
    await one.live(60)
    await one.chronicle.flush()
    assert one.day().known == pytest.approx(110, abs=20)
    await one.records.close()


async def test_launches_are_counted_once_with_their_rate_and_median_wherever_they_ran(here: Path) -> None:
    one = world(here, members="mn")
    await one.live(30)
    repo, at = RepoKey("git.example/o/r"), one.now
    for number, seconds in enumerate((4.0, 9.0, 9.5, 40.0)):
        one.fleet.hear(Succeeded("m", at, Attempt(at - seconds, repo, f"good-{number}")))
    failure = Failed("m", at, Attempt(at - 3, repo, "bad"), "It failed.", False, 0.5)
    one.fleet.hear(failure)
    one.fleet.hear(Failed("m", at, failure.attempt, "It failed.", True, 0.5))
    one.fleet.hear(Succeeded("m", BEGIN - 30, Attempt(BEGIN - 40, repo, "of an earlier life, told again")))
    await one.chronicle.flush()
    launches = history.day_launches(one.book, "m", one.now)
    assert (launches.ready, launches.failed, launches.rate) == (4, 1, 0.8)
    assert launches.median is not None
    assert 8 <= launches.median <= 10
    assert history.day_launches(one.book, WHOLE, one.now).ready == 4
    assert history.day_launches(one.book, "n", one.now) == Launches()
    await one.records.close()


async def test_incidents_open_and_close_by_themselves_with_reasons_and_a_flicker_is_one(here: Path) -> None:
    one = world(here)
    await one.live(30)
    await one.live(60, DEAD)
    await one.live(30)
    found = {item.subject: item for item in incidents(one.book)}
    assert found["m"].title == "m is unreachable"
    assert [item.state for item in found["m"].changes] == ["unreachable", "over"]
    assert found["m"].changes[0].reason == DEAD.reason
    assert found["m"].closed_at is not None
    assert found[WHOLE].title == "No member takes launches"
    await one.live(30, DEAD)
    assert len(incidents(one.book)) == 2
    assert {item.closed_at for item in incidents(one.book)} == {None}
    await one.live(SAME_WITHIN + 60)
    await one.live(30, DEAD)
    assert [item.id for item in incidents(one.book) if item.closed_at is None] == ["m-1", "*-1"]
    await one.chronicle.flush()
    await one.records.close()
    # An incident outlives the process, and ends with a member that leaves.
    two = world(here, one.now + 5, members="n")
    await two.live(10)
    (last, *_) = [item for item in incidents(two.book) if item.subject == "m"]
    assert last.closed_at is not None
    assert last.changes[-1].reason == "It has left the federation."
    await two.records.close()


async def test_what_operators_want_is_no_incident_and_a_lost_store_is_one_of_the_gateway(here: Path) -> None:
    one = world(here, others=Others(shared=True, known={"a": None}), members="mn")  # type: ignore[dict-item]
    await one.live(30)
    one.fleet.wanted("m", Policy.SUSPENDED)
    await one.live(30, DEAD)
    assert {item.subject for item in incidents(one.book)} == {"n", WHOLE}
    one.others.away_since = one.now
    await one.live(10, DEAD)
    one.others.away_since = None
    await one.live(10, DEAD)
    (lost,) = [item for item in incidents(one.book) if item.subject == GATEWAY]
    assert lost.title == "The gateway is degraded"
    assert lost.closed_at is not None
    await one.records.close()


async def test_one_replica_writes_and_all_show_the_same_also_after_it_has_died(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    for _ in range(12):
        for each in (one, two):
            await each.live(5)
    for each in (one, two):
        await each.chronicle.flush()
        await each.records.sync()
    assert one.day() == two.day()
    assert one.day().well == pytest.approx(55, abs=6)
    # The first one has died: the other goes on where it was.
    two.others.known = {"b": None}  # type: ignore[dict-item]
    await two.live(60)
    await two.chronicle.flush()
    assert two.day().well == pytest.approx(115, abs=12)
    for each in (one, two):
        await each.records.close()


async def test_a_replica_that_takes_over_tells_nothing_twice(tmp_path: Path) -> None:
    one, two = pair(tmp_path)
    launched = Succeeded("m", BEGIN + 20, Attempt(BEGIN + 10, RepoKey("git.example/o/r"), "good"))
    for each in (one, two):
        each.fleet.hear(launched)
        await each.live(50)
    # One ends as it should, and has written all that it saw.
    await one.chronicle.flush()
    await two.records.sync()
    two.others.known = {"b": None}  # type: ignore[dict-item]
    await two.live(9)
    await two.chronicle.flush()
    assert two.day().known == pytest.approx(50, abs=10)
    assert history.day_launches(two.book, "m", two.now).ready == 1
    for each in (one, two):
        await each.records.close()


async def test_what_cannot_be_kept_is_said_now_and_then_and_kept_once_it_can_be(
    here: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def write(*_: object) -> None:
        raise RecordsAwayError("the disk is full")

    one = world(here)
    await one.live(30)
    with monkeypatch.context() as patched:
        patched.setattr(one.records, "write", write)
        await one.live(120, DEAD)
    said = [item.getMessage() for item in caplog.records if "the disk is full" in item.getMessage()]
    assert 1 <= len(said) <= 3
    await one.live(9, DEAD)
    assert {item.subject for item in incidents(one.book)} == {"m", WHOLE}
    await one.chronicle.flush()
    assert one.day().known == pytest.approx(155, abs=12)
    await one.records.close()


@given(st.lists(st.tuples(st.floats(1, 1e4), st.booleans()), max_size=60))
def test_of_whatever_comes_and_goes_an_incident_tells_beginning_and_end_and_few_are_kept(
    steps: list[tuple[float, bool]],
) -> None:
    now, last, book = 1e6, None, Book()
    for seconds, trouble in steps:
        now += seconds
        changed = advanced(last, "m", ("failing", "It says so.") if trouble else None, now, "It works.")
        if changed is not None:
            last = changed
            value = {
                "subject": "m",
                "n": changed.n,
                "opened_at": changed.opened_at,
                "closed_at": changed.closed_at,
                "changes": [[item.at, item.state, item.reason] for item in changed.changes],
            }
            book.take(Record(INCIDENT, changed.key, stamp_after(None, now, "a"), value))
        assert (last is not None and last.closed_at is None) == trouble
        if last is not None:
            assert last.changes[0].at == last.opened_at
            assert len(last.changes) <= 20
    assert len(incidents(book)) <= KEPT


@given(st.lists(st.floats(0.01, 7200), min_size=1, max_size=50))
def test_the_median_is_in_the_class_of_the_true_one(times: list[float]) -> None:
    launches = Launches()
    for seconds in times:
        launches = launches.plus(history.launched(seconds))
    found = launches.median
    assert found is not None
    ordered = sorted(times)
    low, high = ordered[(len(times) - 1) // 2], ordered[len(times) // 2]
    bounds = [0, *BOUNDS]
    assert max(bound for bound in bounds if bound < low) <= found
    assert found <= min([bound for bound in bounds if bound >= high], default=BOUNDS[-1])


_cells = st.dictionaries(st.integers(0, 11), st.builds(Seconds, *[st.integers(0, 300)] * 3), max_size=12)
_slots = st.builds(
    Slot, st.just(BEGIN), _cells, st.builds(Launches, st.integers(0, 9), st.integers(0, 9), st.just({3: 2}))
)


@given(_slots, _slots)
def test_a_slot_is_read_as_it_was_written_and_sums_do_not_depend_on_the_order(one: Slot, two: Slot) -> None:
    assert history.read_slot(history.slot_value(one)) == one
    assert one.plus(two).total == two.plus(one).total
    assert history.of_day(one).total == one.total


@pytest.mark.parametrize("value", [{}, {"from": 1}, {"from": 1, "cells": [], "times": {}, "ready": 0, "failed": 0}])
def test_what_is_no_slot_is_not_read_as_one(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a slot"):
        history.read_slot(value)
    book = Book([Record(history.HISTORY, history.slot_key("m", BEGIN, HOUR), stamp_after(None, 0, "a"), value)])
    assert history.find_slot(book, "m", BEGIN, HOUR) == Slot(BEGIN)


def test_an_incident_of_a_kind_that_is_not_known_is_passed_over() -> None:
    book = Book([Record(INCIDENT, "m/0", stamp_after(None, 0, "a"), {"subject": "m"})])
    assert incidents(book) == []
    assert Incident("m", 0, 0.0, None, ()).title == "m is "
    assert lasted(history.Condition.OUT, 5).known == 5


def test_a_plot_says_in_words_what_its_bars_show_and_hides_no_trouble() -> None:
    def bar(n: int, *seconds: float) -> history.Bar:
        return history.Bar(BEGIN + n * 900, BEGIN + (n + 1) * 900, Seconds(*seconds))

    drawn = plot([bar(0), bar(1), bar(2, 900), bar(3, 890, 10), bar(4, 0, 0, 900)], "The last hour")
    assert [(item.kind, item.x, item.width) for item in drawn.bars] == [
        *(("gap", 0, 2), ("well", 2, 1), ("trouble", 3, 1), ("out", 4, 1))
    ]
    assert drawn.bars[2].title == "00:45 UTC: in rotation 14 min, in trouble 10 s"
    assert drawn.share == "99.44 %"
    assert drawn.said == (
        "The last hour: in rotation 99.44 % of the time that is known; in trouble for 10 s; taken out for 15 min"
    )
    assert plot([bar(0)], "The last hour").said.startswith("The last hour: nothing is known; not watched for 15 min")
    assert percent(0.999999) == "99.99 %"
    assert percent(1.0) == "100 %"
