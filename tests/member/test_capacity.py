"""What a member can take: by count, memory, disk and load; and how it drains itself while its disk is full."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure
from contract.reports import Usage
from member.builders.base import Resources
from member.core.capacity import Room, disk_room, memory_room, overloaded, sessions
from member.engines.pressure import DiskPressure
from member.metrics import Metrics
from tests.fakes.builder import FakeBuilder
from tests.member.member_harness import order, rig

GI = 2**30


def test_room_is_what_is_scarcest() -> None:
    memory = memory_room(8 * GI, limit_each=2 * GI)  # 16 sessions of 512 Mi
    disk = disk_room(6 * GI, limit_each=5 * GI, kept_free=1 * GI)  # 10 sessions of 512 Mi
    assert sessions(0, 0, 100, [memory, disk]).free == 10
    assert sessions(0, 0, 100, [memory]).free == 16
    assert sessions(95, 0, 100, [memory, disk]).free == 5
    # What starts has not yet taken its share.
    assert sessions(0, 4, 100, [memory, disk]).free == 6
    assert sessions(0, 0, 100, [memory, disk], closed=True).free == 0
    assert sessions(0, 0, 100, [memory_room(None, 1), disk_room(None, 1, 1)]).free == 100
    assert sessions(0, 0, 100, [disk_room(GI // 2, limit_each=5 * GI, kept_free=GI)]).free == 0


def test_a_load_is_too_much_only_where_somebody_said_so() -> None:
    assert not overloaded(1000.0, 2, None)
    assert not overloaded(8.0, 2, 4.0)
    assert overloaded(8.1, 2, 4.0)
    assert not overloaded(1000.0, None, 4.0)


@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.integers(1, 500),
    st.lists(st.builds(Room, st.none() | st.floats(0, 2**50), st.floats(0, 2**40)), max_size=3),
    st.booleans(),
)
def test_free_is_never_absurd(running: int, pending: int, limit: int, rooms: list[Room], closed: bool) -> None:
    told = sessions(running, pending, limit, rooms, closed=closed)
    assert told.free is not None
    assert 0 <= told.free <= max(0, limit - running - pending)
    assert (told.running, told.pending, told.limit) == (running, pending, limit)


@dataclass
class Disk(FakeBuilder):
    """A builder on a disk of 100 GiB, of which some is used; what may go when it cleans is for the test to say."""

    used: float = 50 * GI
    unknown: bool = False
    cleaning: Callable[[], object] = field(default=lambda: None)
    cleaned: int = 0

    async def resources(self) -> Resources:
        disk = Usage() if self.unknown else Usage(self.used, 100 * GI)
        return Resources(Usage(1, GI), Usage(1, 2), disk)

    async def clean(self) -> None:
        self.cleaned += 1
        self.cleaning()


async def test_a_member_drains_itself_while_its_disk_is_nearly_full_and_no_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, metrics = Disk(), Metrics()
    pressure = DiskPressure(disk, 8 * GI, metrics)
    history = []
    # Used, in GiB: it begins below 8 free, and ends only at 10.
    for used in (50, 91, 92.5, 91, 90.5, 89.9, 91):
        disk.used = used * GI
        await pressure.look()
        history.append(pressure.draining)
    assert history == [False, False, True, True, True, False, False]
    assert disk.cleaned == 1
    assert metrics.registry.get_sample_value("manybinder_member_draining") == 0
    assert [record.message for record in caplog.records] == [
        "only 7.5 GiB of disk are free: no launches are taken",
        "there is room on the disk again: launches are taken",
    ]


async def test_what_may_go_of_old_images_goes_first() -> None:
    disk = Disk(used=95 * GI)
    disk.cleaning = lambda: setattr(disk, "used", 60 * GI)
    pressure = DiskPressure(disk, 8 * GI, Metrics())
    await pressure.look()
    assert not pressure.draining
    assert pressure.reason == ""


async def test_a_disk_that_nobody_knows_is_never_full() -> None:
    for disk, least in ((Disk(unknown=True), 8 * GI), (Disk(used=100 * GI), 0)):
        pressure = DiskPressure(disk, least, Metrics())
        await pressure.look()
        assert not pressure.draining


async def test_while_it_drains_launches_are_refused_with_the_reason(tmp_path: Path) -> None:
    disk = Disk(used=95 * GI)
    pressure = DiskPressure(disk, 8 * GI, Metrics())
    await pressure.look()
    async with rig(closed_for=lambda: pressure.reason) as made:
        (event,) = await made.launch(order())
        assert event.failure == Failure.REFUSED
        assert "short of disk space" in event.message
        assert event.fields["retry_after_s"] > 0
        assert made.builder.begun == []
        disk.used = 10 * GI
        await pressure.look()
        assert (await made.launch(order()))[-1].fields["url"]
