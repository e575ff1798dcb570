"""Many visitors at once, over the member's API on a real socket: one build for all, and a place for each."""

import asyncio
import time
from collections import Counter
from pathlib import Path

from contract.events import BuildEvent, Failure, Phase
from member.core.builds import BuildLimits
from tests.member.member_harness import build_request, until
from tests.member.web_harness import Member, member_of


async def visit(member: Member, name: str, after_s: float = 0.0) -> list[BuildEvent]:
    """One visitor, from the first event to the last."""
    await asyncio.sleep(after_s)
    request = build_request(name)
    claims = member.claims(repo_url=request.repo_url, spec=f"gh/org/{name}/main")
    return [event for _, event in await member.events(member.bearer(claims))]


def places(events: list[BuildEvent], phase: Phase) -> list[int]:
    return [event.fields["position"] for event in events if event.phase == phase and "position" in event.fields]


async def test_fifty_open_a_new_repository_within_two_seconds(tmp_path: Path) -> None:
    engine = {"session_limit": 40, "concurrent": 2, "per_repo": 35}
    async with member_of(tmp_path, engine=engine) as member:
        hub = member.engines.hub
        hub.page, hub.gate = 200, asyncio.Event()
        for n in range(3):
            hub.server(f"other-{n}")
        gate = member.engines.builder.hold(build_request("tutorial").image)
        visits = [asyncio.create_task(visit(member, "tutorial", after_s=2 * n / 50)) for n in range(50)]
        await until(lambda: member.engines.launches.running == 50)
        assert len(member.engines.builder.begun) == 1
        gate.set()
        # All that have room wait for their turns, but for those that have it.
        await until(lambda: member.engines.launches.queued == 35 - 2)
        hub.gate.set()
        told = await asyncio.gather(*visits)
        assert member.engines.builder.begun == [build_request("tutorial").image]
        assert hub.most_starting == 2
        outcomes = Counter(events[-1].phase for events in told)
        assert outcomes == {Phase.READY: 35, Phase.FAILED: 15}
        for events in told:
            assert sum(event.is_final for event in events) == 1
            if events[-1].phase == Phase.FAILED:
                assert events[-1].failure == Failure.REFUSED
                assert events[-1].message.startswith("Too many users running https://git.example/org/tutorial!")
                # There is room for others: a gateway is not to take the member for full.
                assert "retry_after_s" not in events[-1].fields
        queues = [places(events, Phase.LAUNCHING) for events in told if events[-1].phase == Phase.READY]
        # Who had to wait was told the place, and each further one.
        assert sorted(queue[0] for queue in queues if queue) == list(range(1, 34))
        assert all(queue == sorted(set(queue), reverse=True) for queue in queues)
        assert sum(not queue for queue in queues) == 2
        # Once some have started, who waits is told about how long.
        assert any("eta_s" in event.fields for events in told for event in events if event.phase == Phase.LAUNCHING)
        sessions = {user for user in hub.users if not user.startswith("other-")}
        assert len(sessions) == 35


async def test_twenty_repositories_at_once_with_two_build_slots_all_end_well(tmp_path: Path) -> None:
    engine = {"limits": BuildLimits(slots=2, timeout_s=60, grace_s=0.05), "concurrent": 4}
    async with member_of(tmp_path, engine=engine) as member:
        member.engines.hub.page = 200
        names = [f"repo-{n}" for n in range(20)]
        gates = [member.engines.builder.hold(build_request(name).image) for name in names]
        visits = [asyncio.create_task(visit(member, name)) for name in names]
        await until(lambda: member.engines.builds.queued == 18)
        assert member.engines.builds.running == 2
        begun = time.monotonic()
        for gate in gates:
            gate.set()
        told = await asyncio.gather(*visits)
        assert time.monotonic() - begun < 80
        assert all(events[-1].phase == Phase.READY for events in told)
        assert member.engines.builder.most_running == 2
        assert len(set(member.engines.builder.begun)) == len(member.engines.builder.begun) == 20
        queues = [places(events, Phase.WAITING) for events in told]
        assert sorted(queue[0] for queue in queues if queue) == list(range(1, 19))
        assert all(queue == sorted(set(queue), reverse=True) for queue in queues)


async def test_watchers_of_a_popular_build_starve_no_other(tmp_path: Path) -> None:
    engine = {"limits": BuildLimits(slots=2, timeout_s=60, grace_s=0.05)}
    async with member_of(tmp_path, engine=engine) as member:
        member.engines.hub.page = 200
        gate = member.engines.builder.hold(build_request("popular").image)
        watching = [asyncio.create_task(visit(member, "popular")) for _ in range(30)]
        await until(lambda: member.engines.launches.running == 30)
        other = await visit(member, "other")
        assert other[-1].phase == Phase.READY
        assert places(other, Phase.WAITING) == []
        gate.set()
        assert {events[-1].phase for events in await asyncio.gather(*watching)} == {Phase.READY}
