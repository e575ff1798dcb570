"""Many visitors at once at a real Hub: one build for all who want the same, a place told to each who waits."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import yaml
from federation import Federation, git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer

from contract.events import BuildEvent, Failure, Phase
from tests.gate import Gate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

#: Sessions of one repository.
PER_REPO = 6

#: Sessions that start at one time.
AT_ONCE = 2


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A gateway and one member, with two slots for builds and two for starts."""
    config = tmp_path_factory.mktemp("config") / "members.yaml"
    settings = {
        "builder": {"cache_dir": str(shared_cache_dir(tmp_path_factory.getbasetemp())), "slots": 2},
        "sessions": {"limit": 60, "per_repo": PER_REPO, "memory": "300Mi", "disk": "50Mi"},
        "launch": {"concurrent": AT_ONCE},
    }
    config.write_text(yaml.safe_dump(settings))
    federation = Federation.start(tmp_path_factory.mktemp("up"), "--members", "1", "--member-config", str(config))
    yield federation
    federation.stop()


class Visitor:
    """Opens a link, and watches the launch to its end; a session that is served ends at once if ``leaves``."""

    def __init__(self, federation: Federation, http: aiohttp.ClientSession, url: str, *, leaves: bool = False) -> None:
        self._federation, self._http, self._leaves = federation, http, leaves
        self._spec = git_spec(url)
        self.events: list[BuildEvent] = []

    async def visit(self, after_s: float = 0.0) -> None:
        """From the first event to the last."""
        await asyncio.sleep(after_s)
        async for _, told in self._federation.events(self._http, self._spec):
            self.events.append(told)
        if self._leaves:
            fields = ready(self.events)
            headers = {"Authorization": f"token {fields['token']}"}
            async with self._http.post(f"{fields['url']}api/shutdown", headers=headers) as response:
                assert response.status == 200

    def places(self, phase: Phase) -> list[int]:
        """The places in the member's queue that were told; the gateway's own events give a reason."""
        told = [one.fields for one in self.events if one.phase == phase and "reason" not in one.fields]
        return [fields["position"] for fields in told if "position" in fields]


async def _until_all(visitors: list[Visitor], tasks: list[asyncio.Task[None]], told: Phase) -> None:
    """Wait until each visitor was told something of a phase; raises what a visitor raises meanwhile."""
    while not all(any(event.phase == told for event in visitor.events) for visitor in visitors):
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError("a launch has ended while its build waits")
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _all_of(visits: list[asyncio.Task[None]]) -> AsyncIterator[None]:
    """Ends those that are left."""
    try:
        yield
    finally:
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)


async def test_fifty_open_a_new_repository_within_two_seconds(
    crowded: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate
) -> None:
    make_repo(git_server.root, "tutorial", {"postBuild": gate.post_build})
    visitors = [Visitor(crowded, http, git_server.url("tutorial")) for _ in range(50)]
    visits = [asyncio.create_task(visitor.visit(2 * n / 50)) for n, visitor in enumerate(visitors)]
    async with _all_of(visits):
        await _until_all(visitors, visits, Phase.BUILDING)
        await gate.open()
        await asyncio.gather(*visits)
    # One build, whose log each of them has seen.
    builds = {told.message for visitor in visitors for told in visitor.events if "begun" in told.message}
    assert len(builds) == 1
    assert all(any("begun" in told.message for told in visitor.events) for visitor in visitors)
    outcomes = Counter(visitor.events[-1].phase for visitor in visitors)
    assert outcomes == {Phase.READY: PER_REPO, Phase.FAILED: 50 - PER_REPO}, visitors[0].events[-1]
    for visitor in visitors:
        last, places = visitor.events[-1], visitor.places(Phase.LAUNCHING)
        assert sum(told.is_final for told in visitor.events) == 1
        # Who waits is told the place, and each further one, up to the turn.
        assert places == sorted(set(places), reverse=True)
        if last.phase == Phase.FAILED:
            assert last.failure == Failure.REFUSED
            assert f"Too many users running {git_server.url('tutorial')}" in last.message
        elif places:
            # As many may have their turn at one time as start at one time.
            assert places[-1] <= AT_ONCE
    assert any(visitor.places(Phase.LAUNCHING) for visitor in visitors)


async def test_twenty_repositories_at_once_with_two_build_slots_all_end_well(
    crowded: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate
) -> None:
    names = [f"course-{n}" for n in range(20)]
    for name in names:
        make_repo(git_server.root, name, {"postBuild": gate.post_build, "README": name})
    visitors = [Visitor(crowded, http, git_server.url(name), leaves=True) for name in names]
    visits = [asyncio.create_task(visitor.visit()) for visitor in visitors]
    async with _all_of(visits):
        while sum(bool(visitor.places(Phase.WAITING)) for visitor in visitors) < 18:
            assert not any(visit.done() for visit in visits)
            await asyncio.sleep(0.1)
        await gate.open()
        await asyncio.gather(*visits)
    assert all(visitor.events[-1].phase == Phase.READY for visitor in visitors)
    queues = [queue for visitor in visitors if (queue := visitor.places(Phase.WAITING))]
    assert sorted(queue[0] for queue in queues) == list(range(1, 19))
    assert all(queue == sorted(set(queue), reverse=True) and queue[-1] == 1 for queue in queues)
