"""What becomes of launches stands in the public archive: each once, however it ended and wherever it ran."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from contract.events import Phase
from tests.fakes.member import FakeMember
from tests.gateway.harness import COMMIT, SPEC, Gateway, Starter, spec_of, until

SUCCESS, FAILURE = "binderhub.jupyter.org/launch", "manybinder/launch-failure"

#: What a visitor would not like to read of themselves.
VISITOR = {"User-Agent": "visitor/1", "Referer": "https://private.example/notes", "Cookie": "session=secret"}


async def archived(gateway: Gateway, count: int) -> list[dict[str, Any]]:
    """The events of the archive, once there are so many; each must be whole."""
    async with asyncio.timeout(60):
        while True:
            names = [item["name"] for item in await lines(gateway, "index.jsonl")]
            events = [event for name in names for event in await lines(gateway, name)]
            if len(events) >= count:
                assert len(events) == count
                return events
            await asyncio.sleep(0.05)


async def lines(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    """A file of the archive; one that is not there is empty."""
    async with gateway.http.get(f"{gateway.url}api/v1/archive/{name}") as response:
        assert response.status in (200, 404)
        text = await response.text() if response.status == 200 else ""
    return [json.loads(line) for line in text.splitlines()]


def host(member: FakeMember) -> str:
    """As events name it."""
    return member.origin.partition("://")[2]


async def test_a_launch_that_was_moved_is_one_event_of_the_member_that_served_it(start: Starter) -> None:
    gateway = await start.gateway()
    first, second = gateway.first_choice()
    first.knobs.build_status = 500
    items = [item async for item in gateway.events(headers={**VISITOR, "Origin": "https://pages.example"})]
    assert items[-1][1].phase == Phase.READY
    (event,) = await archived(gateway, 1)
    assert event.pop("timestamp")
    assert event == {
        "schema": SUCCESS,
        "version": 6,
        "provider": "Git",
        "spec": SPEC.partition("/")[2],
        "ref": COMMIT,
        "status": "success",
        "build_token": False,
        "origin": host(second),
        "request_origin": "https://pages.example",
    }


@pytest.mark.parametrize(
    ("knobs", "failure", "phase"),
    [
        ({"final": {"phase": "failed", "message": "postBuild failed\n", "failure": "user"}}, "user", "built"),
        ({"end_after": 2}, "member", "building"),
        ({"first": {"phase": "failed", "message": "Full.\n", "failure": "refused"}}, "refused", "waiting"),
    ],
)
async def test_a_launch_that_failed_is_one_event_that_says_whose_it_was(
    start: Starter, knobs: dict[str, Any], failure: str, phase: str
) -> None:
    gateway = await start.gateway(1, launch={"max_attempts": 2, "member_timeout": "1s"})
    (member,) = gateway.members
    for name, value in knobs.items():
        setattr(member.knobs, name, value)
    assert (await gateway.launch(headers=VISITOR))[-1].phase == Phase.FAILED
    (event,) = await archived(gateway, 1)
    assert (event["schema"], event["status"], event["failure"]) == (FAILURE, "failure", failure)
    assert (event["spec"], event["ref"], event["phase"]) == (SPEC.partition("/")[2], COMMIT, phase)
    assert event["attempts"] == (2 if failure == "member" else 1)
    text = json.dumps(event)
    assert not any(word in text for word in ("visitor", "private", "secret"))


async def test_who_cancels_and_who_leaves_are_told_apart(start: Starter) -> None:
    gateway = await start.gateway(1)
    gateway.members[0].knobs.gate_at = 2
    move = gateway.stop_clock()
    for repo in ("cancelled", "abandoned"):
        async for event_id, event in gateway.events(spec_of(repo)):
            if event.message == "line 0\n" and repo == "cancelled":
                async with gateway.http.delete(f"{gateway.url}api/v1/launches/{event_id}") as response:
                    assert response.status == 204
            elif event.message == "line 0\n":
                break
    await until(lambda: gateway.parts.launches.streams == 0)
    move(61)
    events = await archived(gateway, 2)
    assert [event["failure"] for event in events] == ["cancelled", "abandoned"]
    assert ["cancelled" in events[0]["spec"], "abandoned" in events[1]["spec"]] == [True, True]


async def test_a_password_in_a_launch_link_is_refused_and_a_token_in_it_redacted(start: Starter) -> None:
    gateway = await start.gateway(1)
    (refused,) = await gateway.launch(f"git/{quote('https://user:hunter2@git.example/org/repo', safe='')}/{COMMIT}")
    assert "must hold no user name or password" in refused.message
    token = "ghp_" + 36 * "a"
    await gateway.launch(spec_of(token))
    (event,) = await archived(gateway, 1)
    assert (event["status"], event["spec"], event["ref"]) == ("success", "redacted", "")


async def test_a_launch_that_another_replica_ends_is_one_event(start: Starter) -> None:
    archive = {"directory": str(start.data_dir / "archive")}
    one, two = await start.replicas(2, await start.redis(), members=1, archive=archive)
    member = one.members[0]
    member.knobs.gate_at = 3
    seen = []
    reading = asyncio.create_task(collect(one, seen))
    await until(lambda: len(member.sent) == 3 and one.parts.launches.running == 1)
    await one.runner.cleanup()
    await reading
    assert await archived(two, 0) == []
    member.gate.set()
    resumed = [item async for item in two.events(headers={"Last-Event-ID": seen[-1]})]
    assert resumed[-1][1].phase == Phase.READY
    (event,) = await archived(two, 1)
    assert (event["status"], event["origin"]) == ("success", host(member))


async def collect(gateway: Gateway, ids: list[str]) -> None:
    """The ids of a launch's events."""
    async for event_id, _ in gateway.events():
        ids.append(event_id)
