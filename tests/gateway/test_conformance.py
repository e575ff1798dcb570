"""Members are checked before they are let in: what is wrong is told in plain words."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from gateway.core import canary
from tests.fakes.member import FakeMember
from tests.gateway.harness import Gateway, Starter, until
from tests.gateway.joining import OPEN, ask, join, join_token, report

AUTOMATIC = {**OPEN, "joining": {"allow_loopback": True, "patience": "2s"}}


async def newcomer(start: Starter) -> FakeMember:
    """A member that is what it says."""
    fake = await start.member("newcomer")
    fake.versions = {"manybinder": version("manybinder")}
    return fake


async def checked(gateway: Gateway, name: str = "newcomer") -> dict[str, Any]:
    """A member's check, once it has been made."""
    while True:
        members = {item["name"]: item for item in (await ask(gateway, "GET", "members")).body["members"]}
        if not members[name]["check"]["due"]:
            return dict(members[name]["check"])
        await asyncio.sleep(0.05)


@asynccontextmanager
async def reporting(gateway: Gateway, fake: FakeMember, late_s: float = 0.0) -> AsyncIterator[None]:
    """Report now and then, for as long as the context lasts."""

    async def run() -> None:
        while True:
            await report(gateway, fake, sent_at=time.time() - late_s)
            await asyncio.sleep(0.3)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def gateway(start: Starter) -> Gateway:
    """A gateway that lets in by itself whoever passes the check."""
    return await start.gateway(0, **AUTOMATIC)


async def test_who_passes_is_let_in_and_starts_slowly(start: Starter, gateway: Gateway) -> None:
    fake = await newcomer(start)
    async with reporting(gateway, fake):
        await join(gateway, fake, await join_token(gateway))
        check = await checked(gateway)
        steps = ["health", "versions", "report", "clock", "launch", "session", "websocket"]
        assert [(step["name"], step["ok"]) for step in check["steps"]] == [(name, True) for name in steps], check
        assert check["passed"] is True
        await gateway.until_state("newcomer", "available")
        (member,) = (await gateway.json("api/v1/federation"))["members"]
        assert member["slow_start"] < 1
        claims = fake.claims(gateway.key, time.time())
        commit, _ = canary.repository()
        assert (claims.repo_url, claims.resolved_ref) == ("http://gateway.example/canary.git", commit)
        calls = ["status", "kernels", "channels", "shutdown"]
        assert fake.session_calls == [f"{call} from https://page.elsewhere.invalid" for call in calls]


async def test_a_member_whose_sessions_are_for_one_site_is_checked_as_a_page_of_that_site(
    start: Starter, gateway: Gateway
) -> None:
    fake = await newcomer(start)
    fake.knobs.session_allows = "https://book.example"
    async with reporting(gateway, fake):
        await join(gateway, fake, await join_token(gateway))
        check = await checked(gateway)
    assert check["passed"] is True, check
    assert "by pages of https://book.example, and of no other" in check["steps"][-2]["said"]
    calls = ["kernels", "channels", "shutdown"]
    assert fake.session_calls[1:] == [f"{call} from https://book.example" for call in calls]


def knob(**changes: Any) -> Callable[[FakeMember], None]:
    """Turn a member's knobs."""

    def turn(fake: FakeMember) -> None:
        for name, value in changes.items():
            setattr(fake.knobs, name, value)

    return turn


WRONG = {
    "health": (knob(health_status=503, health_checks=[{"service": "Hub", "ok": False, "message": "away"}]), "Hub"),
    "launch": (knob(final={"phase": "failed", "message": "no disk\n", "failure": "member"}), "no disk"),
    "launch elsewhere": (knob(ready_url="http://evil.example/user/1/"), "not one of its registered origins"),
    "session": (knob(session_status=500), "answers HTTP 500"),
    "session of no page": (knob(session_allows=""), "Access-Control-Allow-Origin"),
    "session of its own pages": (knob(session_allows="ITS OWN"), "Access-Control-Allow-Origin"),
    "session of no origin": (knob(session_allows="null"), "Access-Control-Allow-Origin"),
    "websocket": (knob(websocket="refused"), "HTTP 403"),
    "websocket that closes": (knob(websocket="closes"), "breaks a kernel's websocket off"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_told_and_once_it_is_mended_another_check_lets_in(
    start: Starter, gateway: Gateway, wrong: str
) -> None:
    turn, words = WRONG[wrong]
    fake = await newcomer(start)
    turn(fake)
    if fake.knobs.session_allows == "ITS OWN":
        fake.knobs.session_allows = fake.url.rstrip("/")
    async with reporting(gateway, fake):
        await join(gateway, fake, await join_token(gateway))
        check = await checked(gateway)
        last = check["steps"][-1]
        assert (last["name"], last["ok"], check["passed"]) == (wrong.split()[0], False, False)
        assert words in last["said"], last
        (view,) = gateway.parts.fleet.snapshot.members
        assert view.policy == "pending"
        fake.knobs = type(fake.knobs)()
        assert (await ask(gateway, "POST", "members/newcomer/check")).status == 204
        await gateway.until_state("newcomer", "available")
        assert (await checked(gateway))["passed"] is True


async def test_a_member_that_does_not_report_or_whose_clock_is_off_is_told_so(start: Starter, gateway: Gateway) -> None:
    fake = await newcomer(start)
    await join(gateway, fake, await join_token(gateway))
    last = (await checked(gateway))["steps"][-1]
    assert (last["name"], last["ok"]) == ("report", False)
    assert "No signed report" in last["said"]
    async with reporting(gateway, fake, late_s=6):
        await until(lambda: gateway.parts.fleet.snapshot.members[0].received)
        await ask(gateway, "POST", "members/newcomer/check")
        last = (await checked(gateway))["steps"][-1]
    assert (last["name"], last["ok"]) == ("clock", False)
    assert "ClockSkew" in last["said"]
    await report(gateway, fake, sent_at=time.time() + 600)
    gateway.parts.fleet.now = (lambda now: lambda: now() + 20)(gateway.parts.fleet.now)
    await ask(gateway, "POST", "members/newcomer/check")
    last = (await checked(gateway))["steps"][-1]
    assert (last["name"], last["ok"]) == ("report", False)
    assert "ClockSkew" in last["said"]


async def test_an_operator_has_the_last_word_where_that_is_set(start: Starter) -> None:
    gateway = await start.gateway(0, **OPEN)
    fake = await newcomer(start)
    async with reporting(gateway, fake):
        await join(gateway, fake, await join_token(gateway))
        assert (await checked(gateway))["passed"] is True
        assert gateway.parts.fleet.snapshot.members[0].policy == "pending"
        assert (await ask(gateway, "POST", "members/newcomer/accept")).status == 204
        await gateway.until_state("newcomer", "available")
        assert (await ask(gateway, "POST", "members/newcomer/accept")).status == 409


async def test_of_several_replicas_one_checks(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, 0, **AUTOMATIC)
    fake = await newcomer(start)
    async with reporting(one, fake):
        await join(one, fake, await join_token(one))
        for gateway in (one, two):
            await gateway.until_state("newcomer", "available")
        assert len(fake.builds) == 1


async def test_who_joins_in_the_place_of_another_is_checked_too(start: Starter, gateway: Gateway) -> None:
    lost, found = await newcomer(start), await newcomer(start)
    lost.knobs.gate_at = 1
    found.knobs.session_status = 500
    async with reporting(gateway, lost):
        await join(gateway, lost, await join_token(gateway))
        await until(lambda: lost.open_streams)
        await join(gateway, found, await join_token(gateway, replace=True))
    async with reporting(gateway, found):
        lost.gate.set()
        check = await checked(gateway)
        assert (check["passed"], check["steps"][-1]["name"]) == (False, "session")
        assert "shutdown from https://page.elsewhere.invalid" in lost.session_calls
        assert gateway.parts.fleet.snapshot.members[0].policy == "pending"


async def test_git_reads_the_canary(gateway: Gateway, tmp_path: Path) -> None:
    commit, _ = canary.repository()
    clone = tmp_path / "clone"
    for command in (
        ["git", "clone", "--quiet", f"{gateway.url}canary.git", str(clone)],
        ["git", "-C", str(clone), "checkout", "--quiet", "--detach", commit],
        ["git", "-C", str(clone), "fsck", "--strict"],
    ):
        done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert (clone / "README.md").read_text().startswith("# Canary")
    async with gateway.http.get(f"{gateway.url}canary.git/objects/../../etc") as response:
        assert response.status == 404


async def test_a_member_of_the_configuration_is_checked_where_it_was_put(start: Starter) -> None:
    gateway = await start.gateway(1, admin=OPEN["admin"], joining={"patience": "2s"})
    (fake,) = gateway.members
    assert (await ask(gateway, "POST", "members/member-1/check")).status == 204
    async with reporting(gateway, fake):
        check = await checked(gateway, "member-1")
    assert [step["name"] for step in check["steps"]][-1] == "versions"
    await fake.stop()
    await gateway.until_state("member-1", "unreachable")
    fake.versions = {"manybinder": version("manybinder")}
    await fake.start()
    assert (await ask(gateway, "POST", "members/member-1/check")).status == 204
    async with reporting(gateway, fake):
        check = await checked(gateway, "member-1")
    assert check["passed"] is True, check
