"""``?build_only=true`` at a gateway: an image and no session."""

import time

from contract.events import Failure, Phase
from tests.gateway.harness import SPEC, Gateway, Starter

ASKED = f"{SPEC}?build_only=true"
ENABLED = {"launch": {"build_only": True}}


async def metrics(gateway: Gateway) -> dict[str, float]:
    async with gateway.http.get(f"{gateway.url}metrics") as response:
        lines = [line for line in (await response.text()).splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_it_is_refused_where_it_is_not_enabled(start: Starter) -> None:
    for mode in ("proxy", "redirect"):
        gateway = await start.gateway(1, mode=mode)
        (event,) = await gateway.launch(ASKED)
        assert (event.phase, event.fields["status_code"]) == (Phase.FAILED, 400)
        assert event.message.startswith("Building but not launching is not permitted")
        assert "launch.build_only" in event.message
        assert not gateway.members[0].builds


async def test_a_member_builds_and_the_stream_ends_with_the_image(start: Starter) -> None:
    gateway = await start.gateway(1, **ENABLED)
    (member,) = gateway.members
    events = await gateway.launch(ASKED)
    assert events[-1].phase == Phase.READY
    assert events[-1].message == "Done! Image built\n"
    assert events[-1].fields["imageName"] == "image"
    assert not {"url", "token"} & events[-1].fields.keys()
    assert not any(event.phase in (Phase.BUILT, Phase.LAUNCHING) for event in events)
    claims = member.claims(gateway.key, time.time())
    assert claims.build_only
    # A launch is one still, with a token of its own.
    assert (await gateway.launch(SPEC))[-1].fields["url"]
    assert not member.claims(gateway.key, time.time()).build_only
    assert len(set(member.launches)) == 2


async def test_it_counts_as_no_launch_and_takes_no_room_and_no_quota(start: Starter) -> None:
    gateway = await start.gateway(1, **ENABLED, admission={"quotas": {"total": 1}})
    (member,) = gateway.members
    member.knobs.gate_at = 2
    async for _, event in gateway.events(ASKED):
        if event.message == "line 0\n":
            async with gateway.http.get(f"{gateway.url}api/v1/federation") as response:
                (shown,) = (await response.json())["members"]
            assert shown["reservations"] == 0
            member.gate.set()
    assert event.phase == Phase.READY
    assert (await gateway.launch(ASKED))[-1].phase == Phase.READY
    assert (await gateway.launch(SPEC))[-1].phase == Phase.READY
    counted = await metrics(gateway)
    assert counted['manybinder_gateway_builds_total{member="member-1",outcome="success"}'] == 2
    assert counted['manybinder_gateway_launches_total{member="member-1",outcome="ready"}'] == 1


async def test_a_member_that_only_builds_for_launches_is_passed_over_without_blame(start: Starter) -> None:
    gateway = await start.gateway(2, **ENABLED)
    for member in gateway.members:
        for other in gateway.members:
            other.knobs.builds_alone = other is not member
        assert (await gateway.launch(ASKED))[-1].phase == Phase.READY
    members = gateway.parts.fleet.snapshot.members
    assert all(view.outcomes.ejection is None and not view.outcomes.recent for view in members)
    # Where nobody does it, that is what is told.
    for member in gateway.members:
        member.knobs.builds_alone = False
    last = (await gateway.launch(ASKED))[-1]
    assert (last.phase, last.failure) == (Phase.FAILED, Failure.REFUSED)
    assert "Building but not launching is not permitted" in last.message


async def test_a_failed_build_is_the_repositorys(start: Starter) -> None:
    gateway = await start.gateway(2, **ENABLED)
    for member in gateway.members:
        member.knobs.first = {"phase": "failed", "message": "no such package\n", "failure": "user"}
    events = await gateway.launch(ASKED)
    assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.USER)
    assert sum(len(member.builds) for member in gateway.members) == 1
