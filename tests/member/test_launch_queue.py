"""The member's queue before the Hub: order, places told, and slots that always come back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member.engines.launch_queue import LaunchQueue


@dataclass
class Users:
    """Those who want a slot of a queue, each by name."""

    queue: LaunchQueue
    told: dict[str, list[int]] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)
    been: list[str] = field(default_factory=list)
    doors: dict[str, asyncio.Event] = field(default_factory=dict)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def come(self, name: str) -> None:
        self.told[name], self.doors[name] = [], asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._use(name))
        await settle()

    async def go(self, name: str) -> None:
        self.doors[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _use(self, name: str) -> None:
        async with self.queue.slot(self.told[name].append):
            self.been.append(name)
            self.inside.append(name)
            try:
                await self.doors[name].wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    """Let every task run on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def users_of(concurrent: int) -> AsyncIterator[Users]:
    """Ends those that are left."""
    users = Users(LaunchQueue(concurrent))
    yield users
    for task in users.tasks.values():
        task.cancel()
    await asyncio.gather(*users.tasks.values(), return_exceptions=True)


async def test_first_come_first_served_and_each_is_told_its_place() -> None:
    async with users_of(2) as users:
        for name in "abcde":
            await users.come(name)
        assert users.inside == ["a", "b"]
        assert users.queue.waiting == 3
        assert users.told == {"a": [], "b": [], "c": [1], "d": [2], "e": [3]}
        await users.go("b")
        assert users.inside == ["a", "c"]
        await users.go("a")
        await users.go("c")
        assert users.inside == ["d", "e"]
        assert users.told == {"a": [], "b": [], "c": [1], "d": [2, 1], "e": [3, 2, 1]}
        assert users.queue.waiting == 0


async def test_who_is_cancelled_while_waiting_leaves_and_the_others_move_up() -> None:
    async with users_of(1) as users:
        for name in "abcd":
            await users.come(name)
        await users.cancel("b")
        assert users.told == {"a": [], "b": [1], "c": [2, 1], "d": [3, 2]}
        assert users.queue.waiting == 2
        await users.go("a")
        assert users.inside == ["c"]


async def test_who_is_cancelled_at_the_moment_of_its_turn_does_not_keep_the_slot() -> None:
    async with users_of(1) as users:
        for name in "abc":
            await users.come(name)
        users.doors["a"].set()
        users.tasks["b"].cancel()
        await settle()
        assert users.inside == ["c"]


async def test_a_slot_comes_back_from_a_body_that_raises_or_is_cancelled() -> None:
    async with users_of(1) as users:
        with pytest.raises(ZeroDivisionError):
            async with users.queue.slot(lambda _: None):
                raise ZeroDivisionError
        await users.come("a")
        await users.come("b")
        await users.cancel("a")
        assert users.inside == ["b"]
        await users.go("b")
        await users.come("c")
        assert users.inside == ["c"]


@given(
    concurrent=st.integers(1, 3),
    steps=st.lists(st.tuples(st.sampled_from(["come", "go", "cancel"]), st.integers(0, 20)), max_size=30),
)
def test_never_too_many_never_idle_and_always_in_order(concurrent: int, steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        async with users_of(concurrent) as users:
            here: list[str] = []
            for number, (what, choice) in enumerate(steps):
                if what == "come":
                    here.append(f"{number:03}")
                    await users.come(here[-1])
                elif what == "go" and users.inside:
                    name = users.inside[choice % len(users.inside)]
                    await users.go(name)
                    here.remove(name)
                elif what == "cancel" and here:
                    await users.cancel(here.pop(choice % len(here)))
                assert users.inside == here[:concurrent]
                assert users.queue.waiting == len(here[concurrent:])
                for place, name in enumerate(here[concurrent:], 1):
                    assert users.told[name][-1] == place
            assert users.been == sorted(users.been)

    asyncio.run(play())
