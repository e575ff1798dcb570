"""``manybinder member join``, ``leave``, ``rotate-key`` and ``drain`` as processes, against a real gateway."""

import asyncio
import json
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.joining import parse_join_token
from contract.reports import Sessions
from contract.signatures import fingerprint, sign_report
from gateway.app import make_app
from gateway.core.records import Change
from manybinder import new_member
from manybinder.errors import CommandError
from member import joined
from member.settings import MemberSettings
from servicekit.config import parse
from tests.fakes.member import FakeMember
from tests.federation import free_port
from tests.gateway.harness import Gateway, Starter, gateway_settings, until
from tests.gateway.joining import OPEN, ask, join_token, post, request_of

# Each command is a process of its own, which takes its second to start.
pytestmark = pytest.mark.slow


@dataclass
class Cluster:
    """A member's operator at a terminal; ``fake`` is what runs there."""

    gateway: Gateway
    fake: FakeMember
    config: Path

    @property
    def data_dir(self) -> Path:
        """Of the member."""
        return self.config.parent

    async def run(self, *arguments: str) -> tuple[int, str]:
        """How a command ends, and what it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "manybinder", "member", *arguments, "--config", str(self.config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 150)
        assert b"Traceback" not in err, err.decode()
        assert (out, process.returncode is None) == (b"", False)
        return process.returncode or 0, err.decode()

    async def join(self, token: str, *arguments: str) -> tuple[int, str]:
        """Join with a token from a file."""
        path = self.data_dir / "token"
        path.write_text(token + "\n")
        return await self.run("join", self.gateway.url, "--token-file", str(path), *arguments)

    async def report(self, **changes: Any) -> int:
        """Report as the member does, with what it has on its disk; returns the HTTP status."""
        (known,) = joined.read_all(self.data_dir)
        made = self.fake.report(time.time(), member=known.member, draining=known.leaving, **changes)
        body = sign_report(made.to_wire(), known.report_key)
        async with self.gateway.http.post(known.report_url, data=body) as response:
            return response.status


@pytest.fixture
async def cluster(start: Starter, tmp_path: Path) -> Cluster:
    """A member that is to join."""
    port, key = free_port(), Ed25519PrivateKey.generate()
    settings = gateway_settings(tmp_path / "gateway", key, [], **OPEN, public_url=f"http://127.0.0.1:{port}/")
    gateway = await start.serving(await make_app(settings), key, settings.data_dir, port=port)
    fake = await start.member("newcomer")
    config = tmp_path / "member" / "member.yaml"
    config.parent.mkdir()
    hub = {"url": fake.url, "public_url": fake.url, "api_token": "t"}
    tree = {"schema": 1, "name": "local", "public_url": fake.url, "data_dir": str(config.parent), "hub": hub}
    config.write_text(yaml.safe_dump({**tree, "listen": {"port": fake.port}}))
    return Cluster(gateway, fake, config)


async def test_a_member_joins_changes_its_key_and_leaves_from_its_own_terminal(cluster: Cluster) -> None:
    gateway = cluster.gateway
    code, said = await cluster.join(await join_token(gateway))
    assert code == 0, said
    assert "newcomer has joined" in said
    (path,) = joined.directory(cluster.data_dir).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await cluster.report() == 204
    assert (await ask(gateway, "POST", "members/newcomer/accept")).status == 204
    await gateway.until_state("newcomer", "available")

    (before,) = joined.read_all(cluster.data_dir)
    code, said = await cluster.run("rotate-key")
    assert code == 0, said
    (after,) = joined.read_all(cluster.data_dir)
    assert after.report_key.public_key() != before.report_key.public_key()
    assert await cluster.report() == 204
    (member,) = (await ask(gateway, "GET", "members")).body["members"]
    assert member["joined"]["keys"] == [fingerprint(after.report_key.public_key())]

    leaving = asyncio.create_task(cluster.run("leave"))
    await until(lambda: joined.read_all(cluster.data_dir)[0].leaving)
    assert await cluster.report() == 204
    await gateway.until_state("newcomer", "draining")
    code, said = await cluster.run("leave", "--timeout", "1ms")
    assert (code, "newcomer holds 1 sessions or launches" in said) == (1, True), said
    assert not leaving.done()
    assert await cluster.report(sessions=Sessions(limit=10, free=10)) == 204
    code, said = await leaving
    assert (code, "has left" in said) == (0, True), said
    assert joined.read_all(cluster.data_dir) == []
    assert (await gateway.json("api/v1/federation"))["members"] == []
    code, said = await cluster.run("leave")
    assert (code, "has joined no federation" in said) == (2, True)


async def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_key(cluster: Cluster) -> None:
    token = await join_token(cluster.gateway)
    key = joined.fresh_key(cluster.data_dir, f"join-{parse_join_token(token).digest[:16]}")
    # The answer to this does not come.
    assert (await post(cluster.gateway, "join", request_of(cluster.fake, token, key), token)).status == 200
    assert (await cluster.join(token))[0] == 0
    (known,) = joined.read_all(cluster.data_dir)
    assert known.report_key.public_key() == key.public_key()
    # Whoever starts it again with the same command, once it has joined, is not refused.
    code, said = await cluster.join(token)
    assert (code, "already" in said) == (0, True), said
    joined.forget(cluster.data_dir, known)
    code, said = await cluster.join(token)
    assert (code, "was used before" in said) == (4, True), said


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("rubbish", 2, "not a join token"),
        (f"mbjoin_newcomer_{'0' * 64}_{'0' * 64}", 4, "not known here"),
    ],
)
async def test_what_is_wrong_with_a_token_is_told(cluster: Cluster, token: str, code: int, words: str) -> None:
    found, said = await cluster.join(token)
    assert (found, words in said) == (code, True), said
    assert joined.read_all(cluster.data_dir) == []


async def test_who_answers_in_the_gateways_place_is_not_believed(cluster: Cluster, start: Starter) -> None:
    # Another gateway that would take anybody, but has another key than the token says.
    token = await join_token(cluster.gateway)
    impostor = Ed25519PrivateKey.generate()
    settings = gateway_settings(start.data_dir / "impostor", impostor, [], **OPEN)
    other = await start.gateway_with(settings, impostor)
    for record in cluster.gateway.parts.records.book.all():
        if record.kind == "join-token":
            await other.parts.records.write(Change(record.kind, record.key, record.value))
    path = cluster.data_dir / "token"
    path.write_text(token)
    code, said = await cluster.run("join", other.url, "--token-file", str(path))
    assert code == 4, said
    assert joined.read_all(cluster.data_dir) == []


async def test_shares_come_to_one_and_no_more(cluster: Cluster) -> None:
    tree = yaml.safe_load(cluster.config.read_text())
    key = cluster.data_dir / "key.pem"
    tree["federation"] = {
        "report_url": "https://elsewhere.example/api/v1/reports",
        "launch_keys_files": [str(key)],
        "report_key": "k",
        "share": 0.75,
    }
    cluster.config.write_text(yaml.safe_dump(tree))
    token = await join_token(cluster.gateway)
    code, said = await cluster.join(token, "--share", "0.5")
    assert (code, "more than is left" in said) == (2, True), said
    code, said = await cluster.join(token, "--share", "0.25")
    assert code == 0, said


async def test_drain_and_undrain_are_there_for_a_member_that_runs(cluster: Cluster) -> None:
    assert not joined.is_draining(cluster.data_dir)
    assert (await cluster.run("drain"))[0] == 0
    assert joined.is_draining(cluster.data_dir)
    assert (await cluster.run("undrain"))[0] == 0
    assert not joined.is_draining(cluster.data_dir)


async def test_a_gateway_that_is_not_there_is_told(cluster: Cluster) -> None:
    token = await join_token(cluster.gateway)
    path = cluster.data_dir / "token"
    path.write_text(token)
    code, said = await cluster.run("join", f"http://127.0.0.1:{free_port()}/", "--token-file", str(path))
    assert (code, "cannot reach" in said) == (3, True), said
    # The member itself, as if it were a gateway.
    code, said = await cluster.run("join", cluster.fake.url, "--token-file", str(path))
    assert (code, "is it the address of a gateway" in said) == (3, True), said
    # The key that was made is used once the gateway is there.
    assert len(list(joined.directory(cluster.data_dir).glob("join-*.key.pem"))) == 1
    assert (await cluster.join(token))[0] == 0
    assert not list(joined.directory(cluster.data_dir).glob("*.key.pem"))


async def test_a_member_is_drained_checked_and_removed_from_the_operators_terminal(cluster: Cluster) -> None:
    gateway = cluster.gateway
    token_file = cluster.data_dir / "operator"
    token_file.write_text("an-operators-token-for-tests")

    async def admin(*arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "manybinder", "admin", "--gateway", gateway.url),
            *("--token-file", str(token_file), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 150)
        assert b"Traceback" not in err, err.decode()
        return process.returncode or 0, out.decode().strip(), err.decode()

    code, token, said = await admin("join-token", "newcomer", "--hosts", "127.0.0.1,hub.example.org", "--label", "a=b")
    assert (code, "once" in said) == (0, True), said
    assert (await cluster.join(token))[0] == 0
    assert await cluster.report() == 204
    assert "It is being checked." in (await admin("members"))[1]
    assert (await admin("members", "accept", "newcomer"))[0] == 0
    await gateway.until_state("newcomer", "available")
    draining = asyncio.create_task(admin("members", "drain", "newcomer", "--wait"))
    await gateway.until_state("newcomer", "draining")
    code, _, said = await admin("members", "drain", "newcomer", "--wait", "--timeout", "1ms")
    assert (code, "still holds 1; it stays drained" in said) == (1, True), said
    assert await cluster.report(sessions=Sessions(limit=10, free=10)) == 204
    code, _, said = await draining
    assert (code, "newcomer is empty" in said) == (0, True), said
    assert (await admin("members", "remove", "newcomer"))[0] == 0
    assert await cluster.report() == 403
    code, listed, _ = await admin("--json", "alerts")
    assert [json.loads(line)["name"] for line in listed.splitlines()] == ["RevokedMemberReports"]
    code, _, said = await admin("members", "remove", "newcomer")
    assert (code, "has joined" in said) == (2, True)
    assert "newcomer" in (await admin("join-tokens"))[1]


def test_a_member_from_nothing_has_settings_that_load(tmp_path: Path) -> None:
    text = new_member.settings_text("newcomer", tmp_path, "127.0.0.1", "", "")
    settings = parse(MemberSettings, text, "test", {})
    assert settings.public_url == f"http://127.0.0.1:{settings.listen.port}/"
    assert settings.hub.managed is not None
    with pytest.raises(CommandError, match="--public-url"):
        new_member.settings_text("newcomer", tmp_path, "0.0.0.0", "", "")  # noqa: S104 - nobody listens
    far = new_member.settings_text("n", tmp_path, "0.0.0.0", "https://m.example/", "https://h.example/")  # noqa: S104
    assert parse(MemberSettings, far, "test", {}).hub.public_url == "https://h.example/"
