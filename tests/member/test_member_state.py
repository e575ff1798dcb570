"""What a member says of itself: health, versions, capacity, metrics, and what it serves."""

import asyncio

import pytest

from member.engines import capacity as capacity_module
from member.web.parts import PARTS
from tests.member.web_harness import Member, member
from tests.openapi import described, served

__all__ = ["member"]


async def test_health_follows_the_hub(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("member.engines.health.FRESH_S", 0)
    body = await member.json("health")
    assert body["ok"] is True
    assert {check["service"] for check in body["checks"]} == {"JupyterHub API", "Builder"}
    assert all(check["ok"] for check in body["checks"])
    member.engines.hub.errors["version"] = [500, 500]
    body = await member.json("health", status=503)
    assert body["ok"] is False
    assert (await member.json("readyz", status=503)) == {"ok": False}
    assert (await member.json("readyz")) == {"ok": True}
    async with member.http.head(f"{member.url}health") as response:
        assert response.status == 200
    assert (await member.json("livez")) == {"ok": True}


async def test_versions_are_binderhubs_form(member: Member) -> None:
    body = await member.json("versions")
    assert set(body) >= {"builder_info", "binderhub", "builder"}


async def test_capacity_names_no_repository(member: Member) -> None:
    member.engines.hub.server("busy", repo_url="https://git.example/hidden/project")
    member.engines.hub.server("starting", repo_url="https://git.example/hidden/project", ready=False)
    await member.events(member.bearer(member.claims(spec="gh/hidden/project/main")))
    async with member.http.get(f"{member.url}api/v1/capacity") as response:
        text = await response.text()
        body = await response.json()
    assert "hidden" not in text
    assert "repo" not in text
    assert body["sessions"] == {"running": 2, "pending": 1, "limit": 10, "free": body["sessions"]["free"]}
    assert 0 <= body["sessions"]["free"] <= 7
    assert body["builds"] == {"running": 0, "queued": 0, "limit": 1}
    assert body["confined"] is True
    assert body["disk_bytes"]["limit"] > 0


async def test_without_the_hub_there_is_no_free_session(member: Member) -> None:
    member.engines.hub.errors["users"] = [503]
    body = await member.json("api/v1/capacity")
    assert body["sessions"] == {"running": 0, "pending": 0, "limit": 10, "free": 0}


async def test_a_hub_that_hangs_does_not_hold_a_report_up(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_module, "DEADLINE_S", 0.1)
    member.engines.hub.hang.add("users")
    async with asyncio.timeout(25):  # less than the Hub is waited for
        report = await member.app[PARTS].capacity.report()
    assert report.sessions.free == 0
    assert [check.message for check in report.checks if not check.ok] == ["the Hub takes too long to list them"]


async def test_who_asks_for_capacity_often_does_not_make_the_hub_work_as_often(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity_module, "FRESH_S", 600)
    member.engines.hub.server("busy")
    first = await member.json("api/v1/capacity")
    # A Hub that were asked again would answer otherwise.
    member.engines.hub.server("busier")
    assert [await member.json("api/v1/capacity") for _ in range(5)] == [first] * 5
    report = await member.app[PARTS].capacity.report()
    assert report.sessions.running == 2
    assert (await member.json("api/v1/capacity"))["sessions"]["running"] == 2


async def test_metrics_name_no_repository_and_count(member: Member) -> None:
    await member.events(member.bearer(member.claims(spec="gh/hidden/project/main")))
    async with member.http.get(f"{member.url}metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    assert 'binderhub_launch_count_total{provider="gh",status="ready"} 1.0' in text
    assert 'binderhub_build_count_total{provider="gh",status="success"} 1.0' in text
    assert 'binderhub_launch_time_seconds_count{retries="0",status="success"} 1.0' in text
    for phase in ("build_queue", "fetching", "building", "launch_queue", "starting"):
        assert f'manybinder_member_phase_seconds_count{{phase="{phase}"}} 1.0' in text, phase
    assert "binderhub_inprogress_builds 0.0" in text
    assert "hidden" not in text


async def test_what_is_served_is_what_is_described(member: Member) -> None:
    description = await member.json("openapi.json")
    assert description["info"]["version"] == "1.2.3"
    assert described(description) == served(member.app)
