"""One build for each image, whoever follows; slots, queue, and builds that nobody waits for any more."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from builderkit import settings

from contract.events import BuildEvent, Failure, Phase, event
from member.app import _build_limits
from member.builders.base import BuildFailedError, BuildRequest
from member.core.builds import BuildLimits
from member.engines.build_logs import BuildLogs
from member.engines.builds import Builds
from member.metrics import Metrics
from servicekit.tasks import Tasks
from tests.fakes.builder import FakeBuilder
from tests.member.member_harness import build_request, make_logs, until

#: No wait of these tests is for anything outside of this process.
pytestmark = pytest.mark.looptime

LOG = ["Waiting for build to start...\n", "Fetching the repository\n", "Step 1\n", "Step 2\n"]


@dataclass
class Follower:
    """Who follows a build."""

    events: list[BuildEvent] = field(default_factory=list)
    error: BuildFailedError | None = None
    task: asyncio.Task[None] | None = None

    async def end(self) -> list[str]:
        """Wait for the end; what was told."""
        assert self.task is not None
        async with asyncio.timeout(10):
            await self.task
        return self.log

    async def leave(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def log(self) -> list[str]:
        return [item.message for item in self.events]

    @property
    def positions(self) -> list[int]:
        return [item.fields["position"] for item in self.events if "position" in item.fields]


@dataclass
class Engine:
    """Builds over a fake builder."""

    builds: Builds
    builder: FakeBuilder
    metrics: Metrics
    tasks: Tasks
    logs: BuildLogs
    followers: list[Follower] = field(default_factory=list)

    async def follow(self, request: BuildRequest, *, force: bool = False) -> Follower:
        """Begin to follow, as a launch does."""
        follower = Follower()

        async def read() -> None:
            try:
                async with contextlib.aclosing(self.builds.follow(request, force=force)) as events:
                    async for item in events:
                        follower.events.append(item)
            except BuildFailedError as error:
                follower.error = error

        follower.task = asyncio.create_task(read())
        self.followers.append(follower)
        await until(lambda: follower.events or (follower.task and follower.task.done()))
        return follower

    async def failure(self, request: BuildRequest) -> BuildFailedError:
        """Why a build does not go well."""
        follower = await self.follow(request)
        await follower.end()
        assert follower.error is not None
        return follower.error

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0

    def begun_not(self, reason: str) -> float:
        return self.value("manybinder_member_builds_not_begun_total", reason=reason)

    def seconds(self, phase: str) -> float:
        return self.value("manybinder_member_phase_seconds_sum", phase=phase)


@contextlib.asynccontextmanager
async def engine(**limits: Any) -> AsyncIterator[Engine]:
    tasks, metrics, builder = Tasks(), Metrics(), FakeBuilder()
    limits = {"grace_s": 0.05, "timeout_s": 30, **limits}
    with tempfile.TemporaryDirectory() as directory:
        logs, clock = make_logs(Path(directory)), asyncio.get_running_loop().time
        builds = Builds(builder, BuildLimits(**limits), logs, tasks=tasks, metrics=metrics, clock=clock)
        made = Engine(builds, builder, metrics, tasks, logs)
        yield made
        await _leaves_nothing(made)


async def _leaves_nothing(made: Engine) -> None:
    builds, builder, tasks = made.builds, made.builder, made.tasks
    for follower in made.followers:
        await follower.leave()
    await until(lambda: not builds.requests)
    # Whatever happened before, the next build works.
    follower = await made.follow(build_request("the-next"))
    assert await follower.end() == LOG
    assert (builds.running, builds.queued, len(tasks), builder.running) == (0, 0, 0, 0)
    assert made.value("binderhub_inprogress_builds") == made.value("manybinder_member_queued_builds") == 0
    assert sorted(builder.ended) == sorted(builder.begun)
    assert not tasks.crashes


async def test_one_build_has_many_followers_and_a_late_one_gets_the_log_so_far() -> None:
    async with engine() as made:
        request = build_request("popular")
        gate = made.builder.hold(request.image)
        first = [await made.follow(request) for _ in range(5)]
        await until(lambda: first[0].log == LOG[:3])
        late = await made.follow(request)
        await until(lambda: late.log == LOG[:3])
        assert [item.phase for item in late.events] == [Phase.WAITING, Phase.FETCHING, Phase.BUILDING]
        assert made.builds.requests == [request]
        assert not await made.builds.has_image(request.image)
        gate.set()
        for follower in (*first, late):
            assert await follower.end() == LOG
            assert follower.error is None
        assert made.builder.begun == [request.image]
        assert await made.builds.has_image(request.image)


async def test_slots_count_builds_not_followers() -> None:
    async with engine(slots=2) as made:
        popular, other, third = (build_request(name) for name in ("popular", "other", "third"))
        gates = [made.builder.hold(request.image) for request in (popular, other, third)]
        for _ in range(10):
            await made.follow(popular)
        await made.follow(other)
        assert (made.builds.running, made.builds.queued) == (2, 0)
        await made.follow(third)
        assert (made.builds.running, made.builds.queued) == (2, 1)
        assert made.value("binderhub_inprogress_builds") == 2
        assert made.value("manybinder_member_queued_builds") == 1
        for gate in gates:
            gate.set()
        for follower in made.followers:
            await follower.end()
        assert made.builder.most_running == 2


async def test_builds_wait_in_order_and_are_told_their_places() -> None:
    async with engine() as made:
        requests = [build_request(f"repo-{n}") for n in range(4)]
        gates = [made.builder.hold(request.image) for request in requests]
        followers = [await made.follow(request) for request in requests]
        await until(lambda: followers[3].positions == [3])
        for gate in gates:
            gate.set()
        for follower in followers:
            await follower.end()
        assert made.builder.begun == [request.image for request in requests]
        assert [follower.positions[0] if follower.positions else 0 for follower in followers] == [0, 1, 2, 3]
        assert followers[3].positions == [3, 2, 1]
        assert followers[1].events[1].phase == Phase.WAITING


async def test_a_place_in_the_queue_is_told_again_only_when_it_changes() -> None:
    async with engine() as made:
        requests = [build_request(f"repo-{n}") for n in range(4)]
        gates = [made.builder.hold(request.image) for request in requests]
        followers = [await made.follow(request) for request in requests]
        for gate in gates:
            gate.set()
        for follower in followers:
            await follower.end()
            assert follower.positions == sorted(set(follower.positions), reverse=True)


def commit_of(repo: str, n: int) -> BuildRequest:
    """Another commit of a repository: another image."""
    request = build_request(repo)
    return replace(request, commit=f"{n:040x}", image=f"{request.image.partition(':')[0]}:{n:040x}")


@pytest.mark.parametrize(("slots", "per_repo", "cap"), [(3, None, 2), (3, 1, 1), (3, 3, 3), (1, None, 1)])
async def test_no_repository_has_more_slots_than_it_may_and_who_comes_behind_goes_ahead(
    slots: int, per_repo: int | None, cap: int
) -> None:
    """Popular builds that saturate every builder."""
    async with engine(slots=slots, per_repo=per_repo) as made:
        popular = [commit_of("popular", n) for n in range(5)]
        for request in (*popular, other := build_request("other")):
            made.builder.hold(request.image)
            await made.follow(request)
        begun = [request.image for request in popular[:cap]] + [other.image] * (cap < slots)
        await until(lambda: made.builder.begun == begun)
        for n in range(cap):
            made.builder.hold(popular[n].image).set()
        made.builder.hold(other.image).set()
        for request in popular[cap:]:
            made.builder.hold(request.image).set()
        for follower in made.followers:
            await follower.end()
            assert follower.error is None
        assert made.builder.most_running <= slots
        assert len(made.builder.begun) == 6


async def test_a_queue_that_is_full_refuses_and_says_when_to_come_again() -> None:
    async with engine(queue=2) as made:
        for n in range(3):
            made.builder.hold(build_request(f"repo-{n}").image)
            await made.follow(build_request(f"repo-{n}"))
        refused = await made.follow(build_request("one-too-many"))
        assert refused.error is not None
        assert (refused.error.failure, refused.error.fields["retry_after_s"]) == (Failure.REFUSED, 60)
        assert str(refused.error) == "2 builds wait here already. Please try again in 60 s."
        assert made.begun_not("queue_full") == 1


async def test_who_waits_too_long_for_a_slot_is_told_so_and_the_others_move_up() -> None:
    async with engine(queue_timeout_s=5) as made:
        gates = [made.builder.hold(build_request(f"repo-{n}").image) for n in range(3)]
        running, patient = await made.follow(build_request("repo-0")), await made.follow(build_request("repo-1"))
        await asyncio.sleep(3)
        late = await made.follow(build_request("repo-2"))
        await patient.end()
        assert patient.error is not None
        assert patient.error.failure == Failure.REFUSED
        assert str(patient.error).startswith("No build slot came free within 5 s. Please try again in ")
        assert made.begun_not("queue_timeout") == 1
        await until(lambda: late.positions == [2, 1])
        for gate in gates:
            gate.set()
        for follower in (running, late):
            assert await follower.end()
            assert follower.error is None


async def test_what_keeps_failing_is_held_back_twice_as_long_each_time_and_forgiven_when_it_is_built() -> None:
    async with engine(hold_s=60, hold_most_s=200) as made:
        request = build_request("broken")
        made.builder.fail(request.image, BuildFailedError(Failure.USER, "There is no such package."))
        for n, wait in enumerate((60, 120, 200, 200), 1):
            assert (await made.failure(request)).fields.get("reason") is None
            begun = list(made.builder.begun)
            await asyncio.sleep(wait - 1)
            held = await made.failure(request)
            assert (held.failure, held.fields["reason"]) == (Failure.USER, "held")
            assert held.fields["retry_after_s"] == pytest.approx(1, abs=0.1)
            assert "There is no such package." in str(held)
            assert ("for the" in str(held)) == (n > 1)
            # Another commit has no past, and is not held back.
            assert made.builder.begun == begun
            assert await (await made.follow(commit_of("broken", n))).end() == LOG
            await asyncio.sleep(1.1)
        assert made.begun_not("held") == 4
        assert made.value("manybinder_member_held_builds") == 1
        del made.builder.failures[request.image]
        assert await (await made.follow(request)).end() == LOG
        assert made.value("manybinder_member_held_builds") == 0


async def test_a_fault_of_the_members_is_not_held_against_the_repository() -> None:
    async with engine() as made:
        request = build_request("unlucky")
        made.builder.fail(request.image, BuildFailedError(Failure.MEMBER, "The disk is full."))
        for _ in range(3):
            assert (await made.failure(request)).fields.get("reason") is None
        assert len(made.builder.begun) == 3


async def test_force_builds_at_once_what_is_held_back_but_not_just_now() -> None:
    async with engine(hold_s=60) as made:
        request = build_request("mended")
        made.builder.fail(request.image, BuildFailedError(Failure.USER, "no"))
        await made.failure(request)
        made.builder.failures.clear()
        for after, reason in ((10, "held"), (6, None)):
            await asyncio.sleep(after)
            assert (await made.failure(request)).fields["reason"] == "held"
            follower = await made.follow(request, force=True)
            await follower.end()
            assert (follower.error.fields["reason"] if follower.error else None) == reason


async def test_each_phase_is_timed() -> None:
    async with engine() as made:
        first, second = build_request("first"), build_request("second")
        gate = made.builder.hold(first.image)
        begun = [await made.follow(request) for request in (first, second)]
        await asyncio.sleep(7)
        gate.set()
        for follower in begun:
            await follower.end()
        assert made.seconds("build_queue") == pytest.approx(7, abs=0.2)
        assert made.seconds("building") == pytest.approx(7, abs=0.2)
        assert made.seconds("fetching") == pytest.approx(0, abs=0.2)


async def test_a_failure_reaches_all_followers_each_with_an_error_of_its_own() -> None:
    async with engine() as made:
        request = build_request("broken")
        gate = made.builder.hold(request.image)
        made.builder.fail(request.image, BuildFailedError(Failure.USER, "requirements.txt names no package."))
        followers = [await made.follow(request) for _ in range(3)]
        gate.set()
        for follower in followers:
            assert await follower.end() == LOG[:3]
            assert follower.error is not None
            assert (follower.error.failure, str(follower.error)) == (Failure.USER, "requirements.txt names no package.")
        assert len({id(follower.error) for follower in followers}) == 3
        assert (
            made.metrics.registry.get_sample_value(
                "binderhub_build_count_total", {"status": "failure", "provider": "git"}
            )
            == 1
        )


async def test_a_fault_of_the_builder_is_the_members_and_tells_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    async with engine() as made:
        request = build_request("cursed")
        made.builder.failures[request.image] = KeyError("a secret of ours")
        follower = await made.follow(request)
        await follower.end()
        assert follower.error is not None
        assert follower.error.failure == Failure.MEMBER
        assert "secret" not in str(follower.error)
    assert "a secret of ours" in caplog.text


async def test_a_build_that_takes_too_long_is_ended() -> None:
    async with engine(timeout_s=0.2) as made:
        request = build_request("endless")
        made.builder.hold(request.image)
        follower = await made.follow(request)
        await follower.end()
        assert follower.error is not None
        assert follower.error.failure == Failure.USER
        assert "longer than 0.2 seconds" in str(follower.error)
        assert made.builder.ended == [request.image]


async def test_a_line_that_looks_final_ends_nothing() -> None:
    class Talkative(FakeBuilder):
        async def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
            yield event(Phase.FAILED, "so a tool says\n")
            async for item in super().build(request):
                yield item

    async with engine() as made:
        limits = BuildLimits(timeout_s=30, grace_s=0.05)
        made.builds = Builds(Talkative(), limits, made.logs, tasks=made.tasks, metrics=made.metrics)
        follower = await made.follow(build_request("talkative"))
        assert await follower.end() == [LOG[0], "so a tool says\n", *LOG[1:]]
        assert not any(item.is_final for item in follower.events)
        made.builds = Builds(made.builder, limits, made.logs, tasks=made.tasks, metrics=made.metrics)


async def test_a_build_that_nobody_follows_is_given_up_after_the_grace_and_not_before() -> None:
    async with engine(grace_s=0.3) as made:
        request = build_request("lonely")
        made.builder.hold(request.image)
        await (await made.follow(request)).leave()
        assert made.builds.running == 1
        # Within the grace somebody comes again.
        second = await made.follow(request)
        await asyncio.sleep(0.5)  # longer than the grace: nothing may happen
        assert made.builder.begun == [request.image]
        assert made.builds.running == 1
        await second.leave()
        await until(lambda: not made.builds.requests)
        assert made.builder.ended == [request.image]
        assert made.builds.running == 0


async def test_who_comes_while_a_build_is_being_given_up_gets_a_new_one() -> None:
    async with engine() as made:
        request = build_request("unlucky")
        gate = made.builder.hold(request.image)
        made.builder.close_gate = asyncio.Event()
        await (await made.follow(request)).leave()
        await asyncio.sleep(0.2)  # the grace is over; the builder still clears away
        assert (made.builder.running, made.builds.running) == (1, 1)
        follower = Follower()

        async def read() -> None:
            async with contextlib.aclosing(made.builds.follow(request)) as events:
                async for item in events:
                    follower.events.append(item)

        follower.task = asyncio.create_task(read())
        made.followers.append(follower)
        await asyncio.sleep(0.05)
        gate.set()
        made.builder.close_gate.set()
        assert await follower.end() == LOG
        assert made.builder.begun == [request.image] * 2
        assert made.builder.most_running == 1


async def test_a_queued_build_disappears_with_its_only_follower_and_the_others_move_up() -> None:
    async with engine() as made:
        requests = [build_request(name) for name in ("first", "second", "third")]
        gate = made.builder.hold(requests[0].image)
        followers = [await made.follow(request) for request in requests]
        await until(lambda: followers[2].positions == [2])
        await followers[1].leave()
        await until(lambda: followers[2].positions == [2, 1])
        assert made.builds.queued == 1
        assert requests[1] not in made.builds.requests
        gate.set()
        await followers[2].end()
        assert made.builder.begun == [requests[0].image, requests[2].image]


async def test_a_build_that_is_ended_before_its_first_step_is_no_success() -> None:
    async with engine() as made:
        follower = Follower()

        async def read() -> None:
            try:
                async for item in made.builds.follow(build_request("unborn")):
                    follower.events.append(item)
            except BuildFailedError as error:
                follower.error = error

        follower.task = asyncio.create_task(read())
        await asyncio.sleep(0)
        assert made.builds.running == 1
        await made.tasks.close()
        await follower.end()
        assert made.builder.begun == []
        assert follower.error is not None
        assert follower.error.failure == Failure.MEMBER


async def test_the_builder_is_closed_when_the_member_ends() -> None:
    async with engine() as made:
        request = build_request("cut-short")
        made.builder.hold(request.image)
        follower = await made.follow(request)
        await until(lambda: made.builder.running)
        await made.tasks.close()
        await follower.end()
        assert made.builder.ended == [request.image]
        assert follower.error is not None
        assert follower.error.failure == Failure.MEMBER


def test_limits_are_those_of_the_settings(tmp_path: Path) -> None:
    held = {"per_repo": 2, "queue": 7, "queue_timeout": "11s", "grace": "12s", "hold": "13s", "hold_most": "14s"}
    made = settings(tmp_path, builder={"slots": 3, "timeout": "100s"}, builds=held)
    assert _build_limits(made) == BuildLimits(
        slots=3, per_repo=2, queue=7, timeout_s=160, queue_timeout_s=11, grace_s=12, hold_s=13, hold_most_s=14
    )
