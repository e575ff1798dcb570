"""``kill -9`` of a member's API process: the gateway notices, launches go on, open notebooks too."""

import asyncio
import time

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

from tests.gate import Gate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def _until_state(federation: Federation, http: aiohttp.ClientSession, name: str, wanted: bool) -> float:
    begun = time.monotonic()
    async with asyncio.timeout(150):
        while ((await federation.members(http))[name]["health"] == "healthy") is not wanted:
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


async def test_a_member_that_dies_idle_is_noticed_and_returns_while_its_notebooks_go_on(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "steady", {"requirements.txt": "six\n"})
    spec = git_spec(git_server.url("steady"))
    fields = ready(await federation.launch(http, spec))
    name = fields["member"]
    notebook = Notebook(http, fields["url"], fields["token"])
    assert await notebook.run("print(6 * 7)") == "42\n"

    federation.member_api(name).kill()
    # The supervisor restarts it at once, so what is seen is either its absence or its return; launches work throughout.
    again = ready(await federation.launch(http, spec))
    assert await Notebook(http, again["url"], again["token"]).run("print('on')") == "on\n"
    assert await notebook.run("print('still here')") == "still here\n"
    await _until_state(federation, http, name, wanted=True)


async def test_a_member_that_stays_dead_leaves_rotation_within_five_seconds_and_returns_by_itself(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "steady2", {"requirements.txt": "six\n"})
    spec = git_spec(git_server.url("steady2"))
    name = ready(await federation.launch(http, spec))["member"]
    other = {"member-1": "member-2", "member-2": "member-1"}[name]
    process = federation.member_api(name)
    process.suspend()
    try:
        # Five seconds are promised; three times that is what a busy machine may take.
        assert await _until_state(federation, http, name, wanted=False) < 15
        assert ready(await federation.launch(http, spec))["member"] == other
    finally:
        process.resume()
    await _until_state(federation, http, name, wanted=True)
    # It is in rotation again, slowly at first, and both have the image: only one is left to choose.
    process = federation.member_api(other)
    process.suspend()
    try:
        await _until_state(federation, http, other, wanted=False)
        assert ready(await federation.launch(http, spec))["member"] == name
    finally:
        process.resume()
    await _until_state(federation, http, other, wanted=True)


async def test_a_launch_whose_member_is_killed_during_the_build_goes_on_at_the_other(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer, gate: Gate
) -> None:
    make_repo(git_server.root, "slow-build", {"requirements.txt": "six\n", "postBuild": gate.post_build})
    spec = git_spec(git_server.url("slow-build"))
    events, killed = [], ""
    async with asyncio.timeout(170):
        async for _, event in federation.events(http, spec):
            events.append(event)
            if "begun" in event.message and not killed:
                killed = event.fields["member"]
                process = federation.member_api(killed)
                process.kill()
                await gate.open()
    assert killed
    (told,) = [event for event in events if event.fields.get("reason")]
    assert told.message.startswith(f"{killed} ")
    fields = ready(events)
    assert fields["member"] != killed
    assert await Notebook(http, fields["url"], fields["token"]).run("print('on')") == "on\n"

    assert ready(await federation.launch(http, spec))["member"]
    async with asyncio.timeout(120):
        while list(federation.data_dir.rglob("*.partial*")):
            await asyncio.sleep(0.5)
