"""The federation's bans are in force at a member: for whoever asks, for what runs, over a restart."""

import asyncio
import io
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.bans import Ban, make_ban
from contract.events import Failure, Phase
from contract.repos import repo_key
from contract.signatures import BanList, sign_bans
from manybinder.cli import cli
from member.ban_proposals import TOLD_FOR_S, proposals, propose
from member.engines.bans import Bans
from member.web.bans import MOST_BYTES
from member.web.parts import PARTS
from tests.member.member_harness import rig, until
from tests.member.web_harness import Member, member_of

GATEWAY = "https://gateway.example/"


async def tell(
    member: Member, *bans: Ban, key: Ed25519PrivateKey | None = None, at: float | None = None, name: str = "member-1"
) -> tuple[int, str]:
    """Tell a member bans; the status and what it says."""
    token = sign_bans(BanList(name, GATEWAY, at or time.time(), bans), key or member.key)
    return await put(member, token)


async def put(member: Member, body: str | bytes) -> tuple[int, str]:
    """Send something as a list of bans."""
    async with member.http.put(
        f"{member.url}api/v1/bans", data=io.BytesIO(body.encode() if isinstance(body, str) else body)
    ) as response:
        return response.status, await response.text()


def bans_of(member: Member) -> Bans:
    """The engine behind a member."""
    bans = member.app[PARTS].bans
    assert isinstance(bans, Bans)
    return bans


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("network", "192.0.0.0/16", "Requests from 192.0.0.0/16 are not allowed\n"),
        ("owner", "git.example/org", "Sorry, gh/Org/repo/main is not allowed to launch. Please contact admins"),
        ("spec", "gh/org/", "Sorry, gh/Org/repo/main is not allowed to launch. Please contact admins"),
    ],
)
async def test_a_launch_that_is_banned_is_refused(tmp_path: Path, kind: str, value: str, said: str) -> None:
    async with member_of(tmp_path) as member:
        assert await tell(member, make_ban(kind, value, "coins")) == (204, "")
        refused = await member.refusal(member.bearer(member.claims()))
        assert refused.message.startswith(said)
        assert (refused.failure, refused.fields["status_code"]) == (Failure.REFUSED, 403)
        assert await tell(member, make_ban(kind, value, until=time.time() - 1)) == (204, "")
        last = (await member.events(member.bearer(member.claims())))[-1][1]
        assert last.phase == Phase.READY


async def test_a_members_own_rules_of_specs_hold_for_a_gateways_orders_too(tmp_path: Path) -> None:
    async with member_of(tmp_path, required=False, rules={"banned_specs": ["org/repo"]}) as member:
        for headers in (member.bearer(member.claims()), {}):
            refused = await member.refusal(headers)
            assert refused.message.startswith("Sorry, gh/Org/repo/main is not allowed to launch.")
            assert (refused.failure, refused.fields["status_code"]) == (Failure.REFUSED, 403)


async def test_a_gateway_may_say_what_the_key_of_a_repository_is(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        claims = member.claims(
            spec="figshare/10.6084/m9.figshare.7", provider="figshare", repo="figshare.com/articles/7"
        )
        await member.events(member.bearer(claims))
        (request,) = await member.engines.builder.images()
        assert request.repo == "figshare.com/articles/7"


async def test_only_a_gateway_of_the_federation_bans(tmp_path: Path) -> None:
    ban = make_ban("owner", "git.example/org")
    async with member_of(tmp_path) as member:
        for status, told in (
            (401, await tell(member, ban, key=Ed25519PrivateKey.generate())),
            (401, await tell(member, ban, name="member-2")),
            (401, await tell(member, ban, at=time.time() + 3600)),
            (401, await put(member, "no token at all")),
            (401, await put(member, b"\xff\xfe")),
            (413, await put(member, b"x" * (MOST_BYTES + 1))),
        ):
            assert told[0] == status, told
            assert "detail" in told[1]
        assert (await member.events(member.bearer(member.claims())))[-1][1].phase == Phase.READY
    async with member_of(tmp_path / "alone", federated=False, required=False) as alone:
        assert (await tell(alone, ban))[0] == 404


async def test_the_latest_list_of_a_gateway_counts_and_outlives_a_restart(tmp_path: Path) -> None:
    now = time.time()
    async with member_of(tmp_path) as member:
        await tell(member, make_ban("owner", "git.example/org"), at=now - 5)
        assert (await tell(member, at=now - 6))[0] == 409
        assert (await tell(member, make_ban("owner", "git.example/org"), at=now - 5))[0] == 204
    async with member_of(tmp_path) as again:
        assert (await again.refusal(again.bearer(again.claims()))).failure == Failure.REFUSED
    (tmp_path / "bans.json").write_text("{broken")
    async with member_of(tmp_path) as broken:
        assert (await broken.events(broken.bearer(broken.claims())))[-1][1].phase == Phase.READY


async def test_replicas_that_tell_at_the_same_moment_leave_a_whole_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bans = tuple(make_ban("owner", f"github.com/o{n}") for n in range(500))
    async with member_of(tmp_path) as member:
        now = time.time()
        answers = await asyncio.gather(*(tell(member, *bans, at=now) for _ in range(12)))
        assert {status for status, _ in answers} == {204}
        assert "cannot be kept" not in caplog.text
        again = Bans(tmp_path / "bans.json", member.engines.client, member.engines.launches)
        assert again.find("gh/o7/r/main", repo_key("https://github.com/o7/r"), "") == bans[7]


async def test_a_ban_ends_launches_and_sessions_that_it_hits_and_no_others(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        hub = member.engines.hub
        for spec, client in (("gh/Org/repo/main", "192.0.2.7"), ("gh/org/other/main", "192.0.2.7")):
            name = spec.split("/")[2]
            claims = member.claims(spec=spec, client=client, repo_url=f"https://git.example/org/{name}")
            assert (await member.events(member.bearer(claims)))[-1][1].phase == Phase.READY
        hub.server("somebody-elses", "https://git.example/org/repo")
        assert len(hub.users) == 3
        hub.gate = asyncio.Event()
        starting = asyncio.create_task(member.events(member.bearer(member.claims())))
        await until(lambda: hub.starting == 1)
        await tell(member, make_ban("owner", "git.example/org/repo"))
        hub.errors["users"] = [500]
        bans = bans_of(member)
        await bans.enforce()
        ended = (await starting)[-1][1]
        assert (ended.phase, ended.failure) == (Phase.FAILED, Failure.REFUSED)
        assert "is not allowed to launch" in ended.message
        # The Hub was away; what it could not do is done at the next look.
        await until(lambda: len(hub.users) == 3)
        await bans.enforce()
        await until(lambda: len(hub.users) == 2)
        assert {user.split("-")[1] for user in hub.users} == {"other", "elses"}
        await tell(member, make_ban("network", "192.0.2.0/24"))
        await bans.enforce()
        assert set(hub.users) == {"somebody-elses"}


async def test_what_detectors_propose_stands_in_the_report_for_an_hour(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "member.yaml"
    data_dir = tmp_path / "data"
    hub = {"url": "http://127.0.0.1:9/", "public_url": "http://127.0.0.1:9/", "api_token": "t"}
    config.write_text(
        f"schema: 1\nname: member-1\nlisten: {{port: 9001}}\npublic_url: http://127.0.0.1:9001/\n"
        f"data_dir: {data_dir}\nhub: {hub}\n"
    )
    run = CliRunner()
    asked: Any = ["member", "propose-ban", "--config", str(config)]
    for arguments in (["--kind", "network", "192.0.2.7", "--reason", "miner"], ["--kind", "owner", "github.com/x"]):
        result = await asyncio.to_thread(run.invoke, cli, [*asked, *arguments, "--for", "24h"])
        assert result.exit_code == 0, result.output
    refused = await asyncio.to_thread(run.invoke, cli, [*asked, "--kind", "network", "nowhere"])
    assert "is not a network" in str(refused.exception or refused.output)
    found = proposals(data_dir)
    assert {ban.name for ban in found} == {"network:192.0.2.7/32", "owner:github.com/x"}
    assert all(ban.until is not None and ban.until > time.time() + 80000 for ban in found)
    folder = data_dir / "ban-proposals"
    (folder / "broken.json").write_text("{")
    (folder / "nested.json").write_text("[" * 9000)
    (folder / "folder.json").mkdir()
    (folder / "endless.json").write_text('[{"kind": "network", "value": "192.0.2.9", "until": 1e400}]')
    old = min(path for path in folder.glob("*.json") if path.stem not in ("broken", "nested", "folder", "endless"))
    os.utime(old, (time.time() - TOLD_FOR_S - 10,) * 2)
    with caplog.at_level(logging.WARNING):
        assert len(proposals(data_dir)) == 1
    assert "broken.json is no proposal of a ban" in caplog.text
    # What cannot be removed stays, and is in nobody's way.
    assert {path.suffix for path in folder.iterdir()} == {".json"}
    assert len(list(folder.iterdir())) == 2
    for n in range(150):
        propose(data_dir, make_ban("network", f"192.0.3.{n}"))
    assert len(proposals(data_dir)) == 100


async def test_launches_under_way_count_among_the_sessions_of_their_repository(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member, rig():
        member.engines.hub.gate = asyncio.Event()
        starting = asyncio.create_task(member.events(member.bearer(member.claims())))
        await until(lambda: member.engines.launches.running == 1)
        report = await member.app[PARTS].capacity.report()
        assert dict(report.sessions_by_repo) == {"git.example/org/repo": 1}
        assert report.sessions.pending == 1
        member.engines.hub.gate.set()
        assert (await starting)[-1][1].phase == Phase.READY
        report = await member.app[PARTS].capacity.report()
        assert dict(report.sessions_by_repo) == {"git.example/org/repo": 1}
