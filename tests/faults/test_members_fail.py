"""Members that die, hang, or fail each launch: every launch ends in a notebook that runs a cell."""

import asyncio
import random
import time

import aiohttp
import psutil
import pytest
from federation import Federation, git_spec
from gitrepos import add_commit, make_repo
from gitserver import GitServer
from launching import launch, until_all_available, until_member, works

from contract.events import BuildEvent, Phase
from contract.reports import CapacityReport, Sessions
from contract.signatures import load_private_key, sign_report
from tests.gate import Gate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def waiting(gate: Gate) -> dict[str, str]:
    """A repository in the middle of whose build something happens, before the gate is opened."""
    return {"requirements.txt": "six\n", "postBuild": gate.post_build, "data.txt": "old\n"}


@pytest.fixture(autouse=True)
async def all_available(federation: Federation, http: aiohttp.ClientSession, git_server: GitServer) -> None:
    """Each test begins with a whole federation."""
    await until_all_available(federation, http, git_server)


# The first, for the others leave failures behind, with which its own could not be told apart.
async def test_a_member_that_fails_every_launch_with_healthy_checks_leaves_rotation_and_comes_back(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    specs = []
    for n in range(3):
        make_repo(git_server.root, f"steady-{n}", {"requirements.txt": "six\n", "n.txt": str(n)})
        specs.append(git_spec(git_server.url(f"steady-{n}")))
    name = (await launch(federation, http, specs[0]))[-1].fields["member"]
    # No session of this member can make its directories; everything that it checks is well.
    directory = federation.data_dir / name / "sessions"
    away = directory.with_name("sessions.away")
    directory.rename(away)
    directory.write_text("")
    try:
        ejected = None
        for n in range(40):
            assert await works(http, await launch(federation, http, specs[n % 3])) == "on\n"
            view = (await federation.members(http))[name]
            assert all(check["ok"] for check in view["checks"])
            ejected = next((item for item in view["history"] if item["after"] == "ejected"), None)
            if ejected:
                break
        assert ejected is not None
        assert "launches in a row failed there" in ejected["reason"]
    finally:
        directory.unlink()
        away.rename(directory)
    # Trial launches bring it back, and visitors notice nothing of them.
    for n in range(40):
        if (await federation.members(http))[name]["health"] == "healthy":
            break
        assert await works(http, await launch(federation, http, specs[n % 3])) == "on\n"
    view = await until_member(federation, http, name, health="healthy")
    # On a busy machine it may have missed probes too in the meantime.
    since = [item["after"] for item in view["history"] if item["at"] >= ejected["at"]]
    assert (since[0], *since[-2:]) == ("ejected", "half_open", "available")


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.FETCHING, Phase.BUILDING, Phase.BUILT, Phase.LAUNCHING])
async def test_a_member_is_killed_at_each_phase_and_the_launch_goes_on(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate, phase: Phase
) -> None:
    make_repo(git_server.root, f"killed-{phase}", {**waiting(gate), "phase.txt": phase.value})
    if phase in (Phase.BUILT, Phase.LAUNCHING):
        await gate.open()
    killed: list[str] = []

    async def kill(event: BuildEvent) -> None:
        if event.phase == phase and event.fields.get("attempt") == 1 and not killed:
            killed.append(event.fields["member"])
            federation.member_api(killed[0]).kill()
            await gate.open()

    events = await launch(federation, http, git_spec(git_server.url(f"killed-{phase}")), kill)
    (told,) = [event for event in events if event.fields.get("reason")]
    assert told.message.startswith(f"{killed[0]} ")
    assert events[-1].fields["attempt"] == 2
    assert await works(http, events) == "on\n"


async def test_a_commit_that_is_pushed_meanwhile_does_not_change_what_the_next_member_builds(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate
) -> None:
    commit = make_repo(git_server.root, "pushed", waiting(gate))
    killed: list[str] = []

    async def push_and_kill(event: BuildEvent) -> None:
        if "begun" in event.message and not killed:
            killed.append(event.fields["member"])
            add_commit(git_server.root, "pushed", {"data.txt": "new\n"})
            federation.member_api(killed[0]).kill()
            await gate.open()

    events = await launch(federation, http, git_spec(git_server.url("pushed")), push_and_kill)
    assert killed
    assert events[-1].fields["resolved_ref"] == commit
    assert events[-1].fields["member"] != killed[0]
    assert await works(http, events, "print(open('data.txt').read())") == "old\n\n"


async def test_a_member_that_stands_still_in_the_middle_of_a_build_loses_its_launch_to_another(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate
) -> None:
    make_repo(git_server.root, "stopped", {**waiting(gate), "phase.txt": "stopped"})
    stopped: list[psutil.Process] = []
    names: list[str] = []

    async def stop(event: BuildEvent) -> None:
        if "begun" in event.message and not stopped:
            names.append(event.fields["member"])
            stopped.append(federation.member_api(names[0]))
            stopped[0].suspend()
            await gate.open()

    try:
        events = await launch(federation, http, git_spec(git_server.url("stopped")), stop)
        assert events[-1].fields["member"] != names[0]
        assert await works(http, events) == "on\n"
        assert not (await federation.members(http))[names[0]]["available"]
    finally:
        for process in stopped:
            process.resume()
    # It may have to pass a trial first, if the tests before were hard on the same member.
    await until_member(federation, http, names[0], available=True)


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("sessions.free", -1, 422),
        ("sessions.free", float("nan"), 422),
        ("sessions.running", -5, 422),
        ("sessions.free", 10**9, 422),
        ("sent_at", "future", 409),
        ("sent_at", "past", 409),
    ],
)
async def test_reports_that_are_stale_or_absurd_change_nothing(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, field: str, value: object, status: int
) -> None:
    before = await federation.members(http)
    key = load_private_key((federation.data_dir / "keys" / "member-1.pem").read_text())
    report = CapacityReport("member-1", "forged", 0, time.time(), "", sessions=Sessions(0, 0, 40, 40)).to_wire()
    times = {"future": time.time() + 3600, "past": time.time() - 3600}
    at, _, name = field.rpartition(".")
    (report[at] if at else report)[name] = times.get(str(value), value)
    async with http.post(f"{federation.url}/api/v1/reports", data=sign_report(report, key)) as response:
        # Not for its signature, which is the member's own.
        assert response.status == status, await response.text()
        assert response.content_type == "application/problem+json"
    after = await federation.members(http)
    assert after["member-1"]["capacity"]["sessions"]["limit"] == before["member-1"]["capacity"]["sessions"]["limit"]
    assert after["member-1"]["state"] == "available"


async def test_with_all_members_gone_a_launch_waits_for_one_to_return(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "waits", {"requirements.txt": "six\n"})
    names = list(await federation.members(http))
    stopped = [federation.member_api(name) for name in names]
    try:
        for process in stopped:
            process.suspend()
        for name in names:
            await until_member(federation, http, name, health="unreachable")

        async def resume(event: BuildEvent) -> None:
            if event.fields.get("reason") == "waiting":
                stopped[0].resume()

        events = await launch(federation, http, git_spec(git_server.url("waits")), resume)
        assert any(event.fields.get("reason") == "waiting" for event in events)
        assert events[-1].fields["member"] == names[0]
        assert await works(http, events) == "on\n"
    finally:
        for process in stopped:
            process.resume()


async def test_a_steady_stream_of_launches_loses_none_while_members_die_and_hang(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    chance = random.Random(7)
    specs = []
    for n in range(3):
        make_repo(git_server.root, f"stream-{n}", {"requirements.txt": "six\n", "n.txt": str(n)})
        specs.append(git_spec(git_server.url(f"stream-{n}")))
    names = sorted(await federation.members(http))
    waiting = iter(range(18))
    done = [0, 0]

    async def visitor(who: int) -> None:
        for n in waiting:
            assert await works(http, await launch(federation, http, specs[n % 3])) == "on\n"
            done[who] += 1

    async def trouble() -> None:
        while True:
            # However slow this machine: a launch that met it twice in a row would rightly be given up.
            before = list(done)
            await asyncio.sleep(chance.uniform(4, 8))
            while any(now == then for now, then in zip(done, before, strict=True)):
                await asyncio.sleep(0.1)
            await asyncio.sleep(chance.uniform(0, 4))
            killed, hung = chance.sample(names, 2)
            federation.member_api(killed).kill()
            stopped = federation.member_api(hung)
            stopped.suspend()
            try:
                await asyncio.sleep(chance.uniform(3, 10))
            finally:
                stopped.resume()
            await until_member(federation, http, killed, available=True)

    troubling = asyncio.create_task(trouble())
    try:
        async with asyncio.TaskGroup() as group:
            for who in range(2):
                group.create_task(visitor(who))
    finally:
        troubling.cancel()
        results = await asyncio.gather(troubling, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError), results
    assert sum(done) == 18
