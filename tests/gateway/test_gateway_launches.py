"""Launches through a real gateway, with real members that fail as told."""

import asyncio
import time
from typing import Any

import pytest
from yarl import URL

from contract.events import Failure, Phase
from contract.launches import parse_event_id, short
from frontend.tokens import make_build_token
from tests.gateway.harness import COMMIT, SPEC, Starter, spec_of, until

#: For a member that hangs; the other one has to begin within the same time.
BRIEF = {"connect_timeout": "4s", "first_event_timeout": "4s"}


async def test_a_launch_is_carried_from_a_member_to_its_visitor(start: Starter) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    items = [item async for item in gateway.events()]
    events = [event for _, event in items]
    ids = [parse_event_id(event_id) for event_id, _ in items]
    assert [item[1] for item in ids if item] == list(range(len(items)))
    launch_id = ids[0][0] if ids[0] else ""
    assert [event.phase for event in events] == [
        "waiting",
        "waiting",
        "building",
        "building",
        "building",
        "built",
        "ready",
    ]
    for event in events[1:]:
        assert event.fields["launch_id"] == short(launch_id)
        assert (event.fields["member"], event.fields["attempt"]) == (first.name, 1)
    ready = events[-1].fields
    assert ready["url"].startswith(first.origin + "/user/")
    assert ready["token"] == "notebook-token"
    assert ready["binder_launch_host"] == "http://gateway.example/"
    assert ready["binder_request"] == f"v2/{SPEC}"
    assert ready["binder_persistent_request"] == f"v2/{SPEC}"
    assert ready["resolved_ref"] == COMMIT
    assert ready["repo_url"] == "https://git.example/org/repo"
    assert first.builds == [f"/build/{SPEC}"]
    claims = first.claims(gateway.key, time.time())
    assert (claims.launch_id, claims.resolved_ref, claims.spec) == (launch_id, COMMIT, SPEC)
    assert claims.expires_at == pytest.approx(time.time() + 60, abs=5)


async def test_each_event_reaches_the_visitor_before_the_member_sends_the_next(start: Starter) -> None:
    gateway = await start.gateway(1)
    member = gateway.members[0]
    member.knobs.gate_at = 2
    seen = []
    async for _, event in gateway.events():
        seen.append(event.message)
        if event.message == "line 0\n":
            assert member.sent == [0, 1]
            member.gate.set()
    assert seen[-1] == "server running\n"


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"build_status": 500}, "answered HTTP 500"),
        ({"build_status": 503}, "answered HTTP 503"),
        ({"build_status": 307}, "answered HTTP 307"),
        ({"build_status": 429}, "refused the launch (HTTP 429)"),
        ({"hang": True}, "did not begin within 4 s"),
        ({"hang": True, "comments_only": True}, "did not begin within 4 s"),
        ({"end_after": 0}, "ended the stream"),
        ({"cut_after": 0}, "broke the stream"),
        ({"content_type": "text/html"}, "text/html instead of a build stream"),
        ({"first": {"phase": "failed", "message": "All is taken.\n", "failure": "refused"}}, "All is taken"),
    ],
)
async def test_a_member_that_fails_before_its_first_event_is_passed_over(
    start: Starter, knobs: dict[str, Any], said: str
) -> None:
    gateway = await start.gateway(launch=BRIEF if "hang" in knobs else {})
    first, second = gateway.first_choice()
    for name, value in knobs.items():
        setattr(first.knobs, name, value)
    events = await gateway.launch()
    told = events[1]
    assert told.phase == Phase.WAITING
    assert told.message.startswith(f"{first.name} ")
    assert said in told.message
    assert (told.fields["member"], told.fields["attempt"]) == (first.name, 1)
    assert events[-1].phase == Phase.READY
    assert (events[-1].fields["member"], events[-1].fields["attempt"]) == (second.name, 2)
    assert first.claims(gateway.key, time.time()).launch_id == second.claims(gateway.key, time.time()).launch_id


async def test_a_member_at_a_dead_port_is_passed_over_and_leaves_rotation_at_once(start: Starter) -> None:
    gateway = await start.gateway(probes={"interval": "60s"})
    first, second = gateway.first_choice()
    await first.stop()
    events = await gateway.launch()
    assert "could not be reached (connection refused)" in events[1].message
    assert events[-1].fields["member"] == second.name
    # The launch's own failure counts, and brings the next probe forward.
    await gateway.until_state(first.name, "unreachable", 30)
    assert [event.phase for event in await gateway.launch()].count(Phase.WAITING) == 2


async def test_a_member_that_hung_is_told_to_give_the_launch_up(start: Starter) -> None:
    gateway = await start.gateway(launch=BRIEF)
    first, second = gateway.first_choice()
    first.knobs.hang = True
    await asyncio.gather(*[gateway.launch() for _ in range(3)])
    await until(lambda: first.cancelled)
    # Its probes are fine: what a launch met may be that launch's trouble.
    view = gateway.parts.fleet.snapshot.get(first.name)
    assert view is not None
    assert view.state == "available"
    await until(lambda: len(first.cancelled) == 3)
    assert first.claims(gateway.key, time.time()).launch_id in first.cancelled
    assert not second.cancelled


@pytest.mark.parametrize(
    ("knobs", "said", "kind"),
    [
        ({"cut_after": 3}, "broke the stream", "cut"),
        ({"cut_after": 5}, "broke the stream", "cut"),
        ({"end_after": 3}, "ended the stream before the launch had ended", "cut"),
        ({"silent_after": 3}, "has fallen silent for 4 s", "silence"),
        (
            {"final": {"phase": "failed", "message": "The Hub is down.\n", "failure": "member"}},
            "The Hub is down",
            "failed",
        ),
        ({"final": {"phase": "failed", "message": "All taken.\n", "failure": "refused"}}, "All taken", "refused"),
        ({"ready_url": "https://evil.example/user/x/"}, "not one of its registered origins", "session_url"),
        ({"ready_url": "http://127.0.0.1:1/"}, "not one of its registered origins", "session_url"),
        ({"ready_url": "javascript:alert(1)"}, "not passed on", "session_url"),
        ({"ready_url": "\\\\evil.example"}, "backslash", "session_url"),
    ],
)
async def test_a_launch_that_a_member_fails_in_the_middle_goes_on_at_the_next_one(
    start: Starter, knobs: dict[str, Any], said: str, kind: str
) -> None:
    gateway = await start.gateway(launch={"silence_timeout": "4s"} if "silent_after" in knobs else {})
    first, second = gateway.first_choice()
    for name, value in knobs.items():
        setattr(first.knobs, name, value)
    items = [item async for item in gateway.events()]
    ids = [parsed for event_id, _ in items if (parsed := parse_event_id(event_id))]
    assert [n for _, n in ids] == list(range(len(items)))
    assert len({launch for launch, _ in ids}) == 1
    events = [event for _, event in items]
    (told,) = [event for event in events if event.fields.get("reason")]
    assert (told.phase, told.fields["reason"], told.fields["member"]) == (Phase.WAITING, kind, first.name)
    assert said in told.message
    assert told.message.endswith("The launch goes on.\n")
    last = events[-1]
    assert (last.phase, last.fields["member"], last.fields["attempt"]) == (Phase.READY, second.name, 2)
    assert last.fields["url"].startswith(second.origin)
    assert first.builds == second.builds == [f"/build/{SPEC}"]
    if kind != "refused":
        await until(lambda: first.cancelled)


async def test_a_launch_waits_for_the_only_member_to_come_back(start: Starter) -> None:
    """No member is left for a while: the launch waits for one, and says so."""
    gateway = await start.gateway(1)
    (member,) = gateway.members
    member.knobs.gate_at = 2
    seen = []
    async for _, event in gateway.events():
        seen.append(event)
        if event.message == "line 0\n":
            await member.stop()
            member.knobs.gate_at = None
        if event.fields.get("reason") == "waiting":
            assert gateway.parts.launches.waiting == 1
            await member.start()
    assert seen[-1].phase == Phase.READY
    assert seen[-1].fields["attempt"] >= 2
    assert "member-1 broke the stream" in " ".join(event.message for event in seen)


async def test_a_member_that_keeps_failing_ends_a_launch_after_so_many_attempts(start: Starter) -> None:
    gateway = await start.gateway(1, launch={"max_attempts": 2}, ejection={"consecutive_failures": 10})
    (member,) = gateway.members
    member.knobs.end_after = 2
    last = (await gateway.launch())[-1]
    assert (last.failure, len(member.builds)) == (Failure.MEMBER, 2)
    assert "has failed 2 times" in last.message
    assert "launch again" in last.message
    assert "token" not in last.fields
    assert "url" not in last.fields


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"waiting_timeout": "4s"}, "was in its queue for more than 4 s"),
        ({"build_timeout": "4s"}, "was building for more than 4 s"),
        ({"start_timeout": "4s"}, "was starting the session for more than 4 s"),
    ],
)
async def test_no_stretch_of_a_launch_may_take_for_ever(start: Starter, bounds: dict[str, str], said: str) -> None:
    gateway = await start.gateway(launch={"silence_timeout": "60s", **bounds})
    first, second = gateway.first_choice()
    first.knobs.gate_at = {"waiting_timeout": 1, "build_timeout": 3, "start_timeout": 5}[next(iter(bounds))]
    events = await gateway.launch()
    assert said in " ".join(event.message for event in events)
    assert (events[-1].phase, events[-1].fields["member"]) == (Phase.READY, second.name)
    await until(lambda: first.cancelled)


async def test_a_launch_that_waits_for_its_turn_to_start_is_in_a_queue_and_not_slow(start: Starter) -> None:
    """A crowd of one repository: its image is built, and each session waits for those before it."""
    gateway = await start.gateway(launch={"start_timeout": "4s"})
    first, _ = gateway.first_choice()
    first.knobs.queues, first.knobs.gate_at = True, 6
    messages = []
    async for _, event in gateway.events():
        messages.append(event.message)
        if event.fields.get("position") == 40:
            await asyncio.sleep(6)
            first.gate.set()
    assert (event.phase, event.fields["member"], event.fields["attempt"]) == (Phase.READY, first.name, 1), messages


async def test_a_silent_stream_of_a_member_that_cannot_be_reached_is_given_up_early(start: Starter) -> None:
    gateway = await start.gateway(probes={"timeout": "2s"}, launch={"silence_timeout": "120s", "stalled_after": "5s"})
    first, second = gateway.first_choice()
    first.knobs.gate_at = 3
    messages = []
    async for _, event in gateway.events():
        messages.append(event.message)
        if event.message == "line 1\n":
            first.knobs.health_hang = True
    assert f"{first.name} can no longer be reached, and its stream is silent. The launch goes on.\n" in messages
    assert event.fields["member"] == second.name


async def test_a_member_that_is_asked_for_is_the_only_one_asked(start: Starter) -> None:
    gateway = await start.gateway(routing={"choose_member": True})
    _, second = gateway.first_choice()
    events = [event async for _, event in gateway.events(query=f"?member={second.name}")]
    assert (events[-1].phase, events[-1].fields["member"]) == (Phase.READY, second.name)
    (unknown,) = [event async for _, event in gateway.events(query="?member=nobody")]
    assert "has no member 'nobody'" in unknown.message
    strict = await start.gateway(1)
    (refused,) = [event async for _, event in strict.events(query="?member=member-1")]
    assert (refused.failure, refused.fields["status_code"]) == (Failure.REFUSED, 403)


async def test_a_failure_of_the_repository_passes_through_and_is_final(start: Starter) -> None:
    gateway = await start.gateway()
    first, second = gateway.first_choice()
    first.knobs.final = {"phase": "failed", "message": "postBuild failed\n", "failure": "user", "extra": 1}
    last = (await gateway.launch())[-1]
    assert (last.message, last.failure, last.fields["extra"]) == ("postBuild failed\n", Failure.USER, 1)
    assert not second.builds
    assert first.cancelled == []


async def test_when_nobody_can_take_it_the_visitor_is_told_when_to_come_back(start: Starter) -> None:
    gateway = await start.gateway(launch={"member_timeout": "2s"})
    gateway.members[0].knobs.first = {
        "phase": "failed",
        "message": "Full.\n",
        "failure": "refused",
        "retry_after_s": 77,
    }
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    last = (await gateway.launch())[-1]
    assert last.failure == Failure.REFUSED
    assert last.fields["retry_after_s"] == 77
    assert "member-1 refused the launch (Full)" in last.message
    assert "member-2 is unreachable" in last.message
    assert f"{last.fields['retry_after_s']} seconds" in last.message
    await gateway.until_state("member-1", "full")


async def test_a_launch_that_was_refused_for_room_is_taken_once_there_is_some(start: Starter) -> None:
    gateway = await start.gateway(1)
    (member,) = gateway.members
    member.knobs.first = {"phase": "failed", "message": "Full.\n", "failure": "refused", "retry_after_s": 600}
    seen = []
    async for _, event in gateway.events():
        seen.append(event)
        if event.fields.get("reason") == "waiting":
            member.knobs.first = None
    assert seen[-1].phase == Phase.READY
    assert len(member.builds) == 2


async def test_a_repository_that_never_starts_is_told_so_and_costs_no_member_its_place(start: Starter) -> None:
    gateway = await start.gateway(2, launch={"max_attempts": 3})
    for member in gateway.members:
        member.knobs.final = {"phase": "failed", "message": "The server did not start.\n", "failure": "member"}
    for _ in range(3):
        last = (await gateway.launch())[-1]
        assert last.failure == Failure.MEMBER
        assert "the repository may be one whose notebook server does not start" in last.message
    assert {view.state for view in gateway.parts.fleet.snapshot.members} == {"available"}


async def test_a_gateway_without_members_refuses(start: Starter) -> None:
    gateway = await start.gateway(0)
    last = (await gateway.launch())[-1]
    assert last.failure == Failure.REFUSED
    assert "it has no members" in last.message


async def test_a_visitor_who_reconnects_gets_what_was_missed_and_then_204(start: Starter) -> None:
    gateway = await start.gateway(1)
    member = gateway.members[0]
    member.knobs.gate_at = 3
    seen = []
    async for event_id, event in gateway.events():
        seen.append((event_id, event))
        if len(seen) == 2:
            break
    member.gate.set()
    rest = [item async for item in gateway.events(headers={"Last-Event-ID": seen[-1][0]})]
    numbers = [parsed[1] for event_id, _ in seen + rest if (parsed := parse_event_id(event_id))]
    assert numbers == list(range(len(seen) + len(rest)))
    assert rest[-1][1].phase == Phase.READY
    assert len(member.builds) == 1
    replay = [item async for item in gateway.events(headers={"Last-Event-ID": seen[0][0]})]
    assert replay == [seen[1], *rest]
    launch, _, _ = seen[0][0].partition(".")
    whole = [item async for item in gateway.events(headers={"Last-Event-ID": launch})]
    assert whole == [*seen, *rest]
    headers = {"Accept": "text/event-stream", "Last-Event-ID": rest[-1][0]}
    async with gateway.http.get(f"{gateway.url}build/{SPEC}", headers=headers) as response:
        assert response.status == 204
    assert len(member.builds) == 1


async def test_an_unknown_launch_is_not_begun_again(start: Starter) -> None:
    gateway = await start.gateway(1)
    headers = {"Last-Event-ID": f"{'0' * 32}.3"}
    items = [item async for item in gateway.events(headers=headers)]
    assert len(items) == 1
    assert items[0][1].failure == Failure.GATEWAY
    assert "start again" in items[0][1].message
    headers = {"Accept": "text/event-stream", "Last-Event-ID": items[0][0]}
    async with gateway.http.get(f"{gateway.url}build/{SPEC}", headers=headers) as response:
        assert response.status == 204
    assert not gateway.members[0].builds


async def test_a_visitor_cancels(start: Starter) -> None:
    gateway = await start.gateway(1)
    member = gateway.members[0]
    member.knobs.gate_at = 2
    events, launch_id = [], ""
    async for event_id, event in gateway.events():
        events.append(event)
        if event.message == "line 0\n":
            launch_id = event_id.partition(".")[0]
            state = await gateway.json(f"api/v1/launches/{launch_id}")
            assert (state["phase"], state["member"], state["outcome"]) == ("building", "member-1", None)
            assert launch_id not in str(state)
            async with gateway.http.delete(f"{gateway.url}api/v1/launches/{launch_id}") as response:
                assert response.status == 204
    assert events[-1].failure == Failure.USER
    assert "cancelled" in events[-1].message
    await until(lambda: member.cancelled == [launch_id] and not member.open_streams)
    assert (await gateway.json(f"api/v1/launches/{launch_id}"))["outcome"] == "cancelled"
    async with gateway.http.delete(f"{gateway.url}api/v1/launches/{'1' * 32}") as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
    view = gateway.parts.fleet.snapshot.get("member-1")
    assert view is not None
    assert view.reservations == ()


async def test_a_launch_that_nobody_watches_is_given_up_after_a_while(start: Starter) -> None:
    gateway = await start.gateway(1)
    member = gateway.members[0]
    member.knobs.gate_at = 2
    move = gateway.stop_clock()
    async for event_id, event in gateway.events():
        if event.message == "line 0\n":
            launch = await gateway.parts.launches.find(event_id.partition(".")[0])
            break
    assert launch is not None
    await until(lambda: launch.watchers == 0)
    move(59)
    await gateway.parts.launches.sweep()
    assert launch.outcome is None
    assert not member.cancelled
    move(2)
    await until(lambda: member.cancelled and not member.open_streams)
    assert launch.outcome == "abandoned"


async def test_two_hundred_streams_at_once(start: Starter) -> None:
    patient = {"connect_timeout": "140s", "first_event_timeout": "140s", "silence_timeout": "140s"}
    gateway = await start.gateway(launch=patient)
    for member in gateway.members:
        member.lines = 20
        member.knobs.gate_at = 1
    tasks = [asyncio.create_task(gateway.launch(spec_of(f"repo-{n}"))) for n in range(200)]
    await until(lambda: sum(member.open_streams for member in gateway.members) == 200, 140)
    assert gateway.parts.launches.streams == 200
    for member in gateway.members:
        member.gate.set()
    results = await asyncio.gather(*tasks)
    assert all(events[-1].phase == Phase.READY for events in results)
    assert all(len(member.builds) > 40 for member in gateway.members)
    await until(lambda: gateway.parts.launches.streams == 0 and gateway.parts.launches.running == 0)


async def test_one_launch_too_many_is_refused(start: Starter) -> None:
    gateway = await start.gateway(1, launch={"limit": 1})
    gateway.members[0].knobs.gate_at = 1
    async for _, event in gateway.events():
        if event.fields.get("member"):
            last = (await gateway.launch())[-1]
            break
    assert last.failure == Failure.REFUSED
    assert last.fields["retry_after_s"] > 0


async def test_a_gateway_that_ends_tells_visitors_and_members(start: Starter) -> None:
    gateway = await start.gateway(1)
    member = gateway.members[0]
    member.knobs.gate_at = 2
    ended = None
    async for _, event in gateway.events():
        if event.message == "line 0\n":
            ended = asyncio.create_task(gateway.runner.cleanup())
    assert event.failure == Failure.GATEWAY
    assert "launch again" in event.message
    assert ended is not None
    await ended
    assert len(member.cancelled) == 1


async def test_what_is_wrong_with_a_request_is_one_event(start: Starter) -> None:
    gateway = await start.gateway(1)
    for spec, said in (
        ("nowhere/org/repo/main", "No provider found for prefix nowhere"),
        ("git/https%3A%2F%2Fgit.example", "git"),
        (f"{SPEC}?build_only=true", "Building but not launching is not permitted"),
    ):
        (event,) = await gateway.launch(spec)
        assert event.phase == Phase.FAILED
        assert said in event.message
    assert not gateway.members[0].builds


async def test_a_repository_that_cannot_be_resolved_is_the_visitors_failure(start: Starter) -> None:
    gateway = await start.gateway(1, providers={"git": {"allow_private_addresses": False}})
    for ref in ("main", "c" * 40):
        last = (await gateway.launch(f"git/http%3A%2F%2F127.0.0.1%3A1%2Frepo/{ref}"))[-1]
        assert last.phase == Phase.FAILED
        assert last.failure == Failure.USER
    assert not gateway.members[0].builds


async def test_without_an_event_stream_in_accept_nothing_is_launched(start: Starter) -> None:
    gateway = await start.gateway(1)
    async with gateway.http.get(f"{gateway.url}build/{SPEC}") as response:
        assert "Missing Accept header" in await response.text()
    async with gateway.http.head(f"{gateway.url}build/{SPEC}") as response:
        assert response.status == 405
    assert not gateway.members[0].builds


async def test_the_wish_to_build_again_reaches_the_member_from_a_page_only(start: Starter) -> None:
    gateway = await start.gateway(1, security={"build_token_secret": "s" * 64})
    (member,) = gateway.members
    token = make_build_token("s" * 64, SPEC, URL(gateway.url).authority, time.time())
    for query, forced in (("", False), ("?force=true", False), (f"?build_token={token}", False)):
        await gateway.launch(SPEC + query)
        assert member.claims(gateway.key, time.time()).force is forced, query
    await gateway.launch(f"{SPEC}?force=true&build_token={token}")
    assert member.claims(gateway.key, time.time()).force
