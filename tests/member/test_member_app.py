"""The member's API on a real socket: who may launch, how streams begin, resume and end."""

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from contract.events import Failure, Phase
from contract.launches import event_id, launch_id
from frontend.refusals import FINAL_N
from frontend.tokens import make_build_token
from member.core.launching import Outcome
from tests.member.member_harness import COMMIT, build_request, until
from tests.member.web_harness import DIRECT, SPEC, Member, member, member_of, read

__all__ = ["member"]


async def test_a_gateways_token_launches_what_it_says(member: Member) -> None:
    claims = member.claims()
    items = await member.events(member.bearer(claims), spec="gh/who/cares/what")
    assert [identity for identity, _ in items] == [event_id(claims.launch_id, n) for n in range(len(items))]
    last = items[-1][1]
    assert last.phase == Phase.READY
    assert last.fields["binder_request"] == f"v2/{SPEC}"
    assert last.fields["binder_persistent_request"] == f"v2/gh/Org/repo/{COMMIT}"
    assert last.fields["binder_launch_host"] == "https://gateway.example/"
    assert last.fields["binder_client_ip"] == "192.0.2.0/24"
    assert last.fields["repo_url"] == "https://git.example/org/repo"
    assert member.engines.builder.begun == [build_request("repo").image]


async def test_without_a_token_nothing_starts(member: Member) -> None:
    for headers in ({}, {"Authorization": "Basic Zm9v"}, {"Authorization": "token abc"}):
        event = await member.refusal(headers)
        assert (event.failure, event.fields["status_code"]) == (Failure.REFUSED, 403)
        assert "federation" in event.message
    assert member.engines.launches.seen == ()


async def test_a_token_that_proves_nothing_is_refused(member: Member) -> None:
    now = time.time()
    good = member.bearer(member.claims())["Authorization"]
    head, body, signature = good.split(".")
    cases = {
        "the signature is not by a key": member.bearer(member.claims(), Ed25519PrivateKey.generate()),
        "has expired": member.bearer(member.claims(issued_at=now - 100, expires_at=now - 40)),
        "is from the future": member.bearer(member.claims(issued_at=now + 600, expires_at=now + 660)),
        "is for another member": member.bearer(member.claims(member="member-2")),
        "names no launch": member.bearer(member.claims(launch_id="7")),
        "not a readable token": {"Authorization": "Bearer rubbish"},
        "refused": {"Authorization": f"{head}.{body}.{signature[::-1]}"},
    }
    for said, headers in cases.items():
        event = await member.refusal(headers)
        assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403), said
        assert event.message.startswith("Launch token refused: "), said
        assert said in event.message, event.message
    assert member.engines.launches.seen == ()


async def test_accept_must_name_event_streams(member: Member) -> None:
    event = await member.refusal({**member.bearer(member.claims()), "Accept": "*/*"})
    assert (event.message, event.fields["status_code"]) == ("Missing Accept header: text/event-stream\n", 400)
    assert event.failure == Failure.GATEWAY
    assert member.engines.launches.seen == ()


async def test_building_only_is_not_permitted(member: Member) -> None:
    event = await member.refusal(member.bearer(member.claims()), query="?build_only=true")
    assert (event.failure, event.fields["status_code"]) == (Failure.USER, 400)
    assert event.message.startswith("Building but not launching is not permitted")
    assert member.engines.launches.seen == ()


async def test_the_same_order_twice_is_one_launch_and_both_get_all_of_it(member: Member) -> None:
    gate = member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    first = asyncio.create_task(member.events(member.bearer(claims)))
    await until(lambda: member.engines.builder.running)
    again = [member.bearer(replace(claims, issued_at=claims.issued_at - n)) for n in (1, 2)]
    second = asyncio.create_task(member.events(again[0]))
    await until(lambda: (launch := member.engines.launches.find(claims.launch_id)) and launch.watchers == 2)
    gate.set()
    assert await first == await second
    assert len(member.engines.hub.users) == 1
    assert await member.events(again[1]) == await first


async def test_a_token_that_somebody_sends_a_second_time_is_refused(member: Member) -> None:
    headers = member.bearer(member.claims())
    assert (await member.events(headers))[-1][1].phase == Phase.READY
    event = await member.refusal(headers)
    assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403)
    assert "was used before" in event.message
    assert "token" not in event.fields


async def test_a_stream_goes_on_from_the_last_event_id_and_after_the_end_there_is_204(member: Member) -> None:
    gate = member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    async with member.stream(member.bearer(claims)) as response:
        async for identity, event in read(response):
            last_seen = identity
            if event.message == "Step 1\n":
                break
    launch = member.engines.launches.find(claims.launch_id)
    assert launch is not None
    await until(lambda: not launch.watchers)
    gate.set()
    rest = await member.events({"Last-Event-ID": last_seen})
    assert [identity for identity, _ in rest] == [event_id(claims.launch_id, n) for n in range(3, 3 + len(rest))]
    assert rest[0][1].message == "Step 2\n"
    assert rest[-1][1].phase == Phase.READY
    async with member.stream({"Last-Event-ID": rest[-1][0]}) as response:
        assert response.status == 204
    assert await member.events({"Last-Event-ID": rest[-2][0]}) == rest[-1:]
    whole = await member.events({"Last-Event-ID": claims.launch_id})
    assert [identity for identity, _ in whole] == [event_id(claims.launch_id, n) for n in range(3 + len(rest))]
    assert len(member.engines.hub.users) == 1


async def test_a_launch_that_is_not_known_is_never_begun_anew(member: Member) -> None:
    unknown = event_id(launch_id(os.urandom(16)), 3)
    event = await member.refusal({"Last-Event-ID": unknown})
    assert (event.phase, event.failure) == (Phase.FAILED, Failure.MEMBER)
    assert "start again" in event.message
    assert member.engines.launches.seen == ()
    async with member.stream({"Last-Event-ID": event_id(launch_id(os.urandom(16)), FINAL_N)}) as response:
        assert response.status == 204


async def test_whoever_knows_the_id_may_look_and_cancel(member: Member) -> None:
    member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    following = asyncio.create_task(member.events(member.bearer(claims)))
    await until(lambda: member.engines.builder.running)
    path = f"api/v1/launches/{claims.launch_id}"
    shown = await member.json(path)
    assert (shown["outcome"], shown["spec"], shown["resolved_ref"]) == (None, SPEC, COMMIT)
    assert claims.launch_id not in str(shown)
    async with member.http.delete(member.url + path) as response:
        assert response.status == 204
    last = (await following)[-1][1]
    assert (last.phase, last.failure) == (Phase.FAILED, Failure.USER)
    assert "cancelled" in last.message
    assert (await member.json(f"api/v1/launches/{event_id(claims.launch_id, 2)}"))["outcome"] == Outcome.CANCELLED
    async with member.http.delete(member.url + path) as response:
        assert response.status == 204
    async with member.http.delete(f"{member.url}api/v1/launches/{launch_id(os.urandom(16))}") as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"


async def test_a_visitor_that_leaves_is_noticed(member: Member) -> None:
    member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    async with member.stream(member.bearer(claims)) as response:
        await response.content.readany()
        launch = member.engines.launches.find(claims.launch_id)
        assert launch is not None
        assert launch.watchers == 1
    await until(lambda: not launch.watchers)
    member.engines.skew = 61
    await member.engines.launches.sweep()
    await until(lambda: launch.outcome == Outcome.ABANDONED)
    await until(lambda: not member.engines.builder.running)


async def test_a_head_request_begins_nothing(member: Member) -> None:
    async with member.http.head(f"{member.url}build/{SPEC}", headers=member.bearer(member.claims())) as response:
        assert response.status == 405
    assert member.engines.launches.seen == ()


async def test_a_member_that_stands_alone_admits_visitors_by_itself(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False) as member:
        items = await member.events({}, spec=DIRECT)
        last = items[-1][1]
        assert last.phase == Phase.READY
        assert last.fields["binder_request"] == f"v2/{DIRECT}"
        assert last.fields["binder_launch_host"] == "http://member.example/"
        assert last.fields["binder_client_ip"] == "127.0.0.1"
        event = await member.refusal({}, spec="nowhere/org/repo/main")
        assert (event.failure, event.message) == (Failure.USER, "No provider found for prefix nowhere\n")
        event = await member.refusal({"Accept": "text/html"}, spec=DIRECT)
        assert event.failure == Failure.USER
        # A bearer token means nothing to a member without a gateway.
        bearer = member.bearer(member.claims())
        assert (await member.events(bearer, spec=DIRECT))[-1][1].phase == Phase.READY
        seen = member.engines.launches.seen
        event = await member.refusal({**bearer, "Last-Event-ID": event_id("0" * 32, 3)}, spec=DIRECT)
        assert "start again" in event.message
        assert member.engines.launches.seen == seen


async def test_where_build_tokens_are_required_only_pages_of_this_member_launch(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False, require_build_token=True) as member:
        for query in ("", "?build_token=rubbish"):
            event = await member.refusal({}, spec=DIRECT, query=query)
            assert (event.message, event.fields["status_code"]) == ("Invalid build token\n", 403)
        event = await member.refusal({"Last-Event-ID": event_id(launch_id(os.urandom(16)), 3)}, spec=DIRECT)
        assert "start again" in event.message
        assert member.engines.launches.seen == ()
        host = URL(member.url).authority
        token = make_build_token(member.secret, DIRECT, host, time.time())
        items = await member.events({}, spec=DIRECT, query=f"?build_token={token}")
        assert items[-1][1].phase == Phase.READY


async def test_a_gateways_token_is_enough_where_build_tokens_are_required(tmp_path: Path) -> None:
    async with member_of(tmp_path, require_build_token=True) as member:
        assert (await member.events(member.bearer(member.claims())))[-1][1].phase == Phase.READY


async def test_another_host_is_misdirected(tmp_path: Path) -> None:
    async with member_of(tmp_path, allowed_hosts=["127.0.0.1"]) as member:
        bad = {"Host": "evil.example"}
        for path in ("health", "api/v1/capacity", f"build/{SPEC}", "metrics", ""):
            async with member.http.get(member.url + path, headers=bad) as response:
                assert response.status == 421, path
        for path in ("livez", "readyz"):
            async with member.http.get(member.url + path, headers=bad) as response:
                assert response.status == 200, path
        async with member.http.get(f"{member.url}health") as response:
            assert response.status == 200


@pytest.mark.parametrize("address", ["10.1.2.3", "10.1.2.3:8080", "[fd00::1]", "[fd00::1]:8080"])
async def test_prometheus_asks_a_pod_by_its_address(tmp_path: Path, address: str) -> None:
    async with member_of(tmp_path, allowed_hosts=["127.0.0.1"]) as member:
        for path, status in {"metrics": 200, "health": 421, "": 421}.items():
            async with member.http.get(member.url + path, headers={"Host": address}) as response:
                assert response.status == status, path


async def test_a_fault_of_ours_is_a_stream_that_says_so(member: Member, caplog: pytest.LogCaptureFixture) -> None:
    claims = member.claims()
    member.engines.builder.failures[build_request("repo").image] = ZeroDivisionError("inner workings")
    last = (await member.events(member.bearer(claims)))[-1][1]
    assert last.failure == Failure.MEMBER
    assert "inner workings" not in last.message
    assert claims.launch_id not in caplog.text
