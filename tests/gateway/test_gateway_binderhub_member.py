"""A gateway in front of BinderHubs that are no members of manybinder: launches, failover, capacity."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import BuildEvent, Failure, Phase
from contract.signatures import private_pem
from gateway.settings import GatewaySettings
from tests.fakes.binderhub import SECRET, FakeBinderHub
from tests.gateway.harness import SPEC, TESTED, Gateway, Starter


@pytest.fixture
async def hubs(start: Starter) -> AsyncIterator[list[FakeBinderHub]]:
    """Two BinderHubs."""
    hubs = [await FakeBinderHub().start() for _ in range(2)]
    yield hubs
    for hub in hubs:
        await hub.stop()


async def gateway_of(start: Starter, hubs: list[FakeBinderHub], **changes: Any) -> Gateway:
    """A gateway in front of them, which has seen them healthy."""
    key = Ed25519PrivateKey.generate()
    members = [
        {"name": f"hub-{n}", "url": hub.url, "kind": "binderhub", "build_token_secret": SECRET}
        for n, hub in enumerate(hubs)
    ]
    tree = {
        "public_url": "http://gateway.example/",
        "data_dir": str(start.data_dir),
        "signing_key": private_pem(key),
        "members": members,
        **TESTED,
        **changes,
    }
    gateway = await start.gateway_with(GatewaySettings.model_validate(tree), key)
    for n in range(len(hubs)):
        await gateway.until_state(f"hub-{n}", "available")
    return gateway


async def launch(gateway: Gateway) -> tuple[BuildEvent, str]:
    """The final event of a launch, and all that was said."""
    events = await gateway.launch()
    return events[-1], " ".join(event.message for event in events)


async def test_a_launch_goes_to_a_binderhub_with_a_token_of_its_own(start: Starter, hubs: list[FakeBinderHub]) -> None:
    gateway = await gateway_of(start, hubs)
    last, _ = await launch(gateway)
    assert last.phase == Phase.READY
    hub = hubs[int(last.fields["member"][-1])]
    assert (hub.builds, hub.with_token) == ([SPEC], [True])
    assert last.fields["url"].startswith(hub.url.rstrip("/"))
    assert last.fields["binder_launch_host"] == "http://gateway.example/"
    federation = await gateway.json("api/v1/federation")
    assert {member["kind"] for member in federation["members"]} == {"binderhub"}
    assert federation["members"][0]["capacity"]["sessions"]["limit"] == 10


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        (
            {"fails": ("launching", {"phase": "failed", "message": "Failed to launch image\n"})},
            "Failed to launch image",
        ),
        ({"build_status": 502}, "HTTP 502"),
        ({"ban": "gateway"}, "are not allowed"),
        ({"quota_after_build": True}, "Too many users"),
        ({"ready_url": "https://evil.example/"}, "registered origins"),
    ],
)
async def test_what_a_binderhub_fails_at_goes_on_at_the_next(
    start: Starter, hubs: list[FakeBinderHub], knobs: dict[str, Any], said: str
) -> None:
    gateway = await gateway_of(start, hubs)
    first = hubs[int((await launch(gateway))[0].fields["member"][-1])]
    for name, value in knobs.items():
        setattr(first.knobs, name, value)
    last, text = await launch(gateway)
    assert last.phase == Phase.READY, text
    assert hubs[int(last.fields["member"][-1])] is not first
    assert said in text


async def test_a_build_that_fails_is_the_users_and_final_though_the_stream_never_closes(
    start: Starter, hubs: list[FakeBinderHub]
) -> None:
    gateway = await gateway_of(start, hubs)
    for hub in hubs:
        hub.knobs.fails = ("building", {"phase": "failed", "message": "pip found no such package\n"})
        hub.knobs.never_closes = True
    last, _ = await launch(gateway)
    assert (last.phase, last.failure) == (Phase.FAILED, Failure.USER)
    assert sum(len(hub.builds) for hub in hubs) == 1


async def test_capacity_comes_from_the_pod_quota(start: Starter, hubs: list[FakeBinderHub]) -> None:
    gateway = await gateway_of(start, hubs)
    hubs[0].knobs.quota = 0
    await gateway.until_state("hub-0", "full")
    last, _ = await launch(gateway)
    assert last.fields["member"] == "hub-1"
    hubs[0].knobs.quota = None
    await gateway.until_state("hub-0", "available")
    federation = await gateway.json("api/v1/federation")
    assert [member["capacity_state"] for member in federation["members"]] == ["unknown", "free"]


async def test_many_launches_with_page_tokens_pass_the_rate_limit(start: Starter, hubs: list[FakeBinderHub]) -> None:
    """All launches come from the gateway's address, and without a token ten an hour are let in."""
    members = [{"name": "hub-0", "url": hubs[0].url, "kind": "binderhub"}]
    gateway = await gateway_of(start, hubs[:1], members=members)
    hubs[0].knobs.found = True
    hubs[0].knobs.user_pods = 0
    for _ in range(12):
        assert (await launch(gateway))[0].phase == Phase.READY
    assert hubs[0].with_token == [True] * 12
    assert any(path.startswith("/v2/") for path in hubs[0].asked)
