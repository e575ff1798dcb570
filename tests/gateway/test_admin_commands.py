"""``manybinder admin`` as a process, against a real gateway."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, Starter

# Each command is a process of its own, which takes its second to start.
pytestmark = pytest.mark.slow

TOKEN = "an-operators-token-for-tests"


class Desk:
    """An operator at a terminal."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self.gateway = gateway
        self.token_file = directory / "token"
        self.token_file.write_text(f"{TOKEN}\n")

    async def run(self, *arguments: str, gateway: str = "") -> tuple[int, str, str]:
        """How a command ends, and what it says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "manybinder", "admin", "--gateway", gateway or self.gateway.url),
            *("--token-file", str(self.token_file), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 150)
        assert b"Traceback" not in err
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def done(self, *arguments: str) -> str:
        """What a command says that does what it should."""
        code, out, err = await self.run(*arguments)
        assert code == 0, err
        return out or err


@pytest.fixture
async def desk(start: Starter, tmp_path: Path) -> Desk:
    """Where a gateway with two members is governed."""
    gateway = await start.gateway(2, admin={"tokens": [{"name": "alice", "token": TOKEN}]})
    return Desk(gateway, tmp_path)


async def test_an_operator_bans_sets_quotas_and_drains(desk: Desk) -> None:
    assert "there are no bans" in await desk.done("bans")
    said = await desk.done("ban", "--kind", "owner", "--reason", "coins", "--for", "24h", "https://github.com/Miner")
    assert said == "https://github.com/Miner is banned\n"
    assert "owner:github.com/miner" in await desk.done("bans")
    (ban,) = (json.loads(line) for line in (await desk.done("--json", "bans")).splitlines())
    assert (ban["name"], ban["state"], ban["reason"]) == ("owner:github.com/miner", "in force", "coins")
    (again,) = (json.loads(line) for line in (await desk.done("bans", "--json")).splitlines())
    assert again == ban
    assert "is lifted" in await desk.done("unban", "owner:github.com/miner")
    await desk.done("note", "We move on Friday.", "--member", "member-1")
    (note,) = (json.loads(line) for line in (await desk.done("notes", "--json")).splitlines())
    assert (note["text"], note["member"]) == ("We move on Friday.", "member-1")
    assert "taken back" in await desk.done("notes", "--remove", note["id"])
    assert "nothing is said" in await desk.done("notes")
    await desk.done("quota", "github.com/org", "20")
    await desk.done("quota", "total", "none")
    lines = [json.loads(line) for line in (await desk.done("--json", "quotas")).splitlines()]
    assert {line["name"]: line["limit"] for line in lines} == {"total": None, "per_repo": None, "github.com/org": 20}
    await desk.done("quota", "github.com/org", "configured")
    assert "member-1 is draining" in await desk.done("drain", "member-1")
    await desk.gateway.until_state("member-1", "draining")
    await desk.done("undrain", "member-1")
    await desk.done("undrain", "member-1")
    await desk.done("suspend", "member-2")
    # What was said in anger is not taken back by the way.
    code, _, err = await desk.run("undrain", "member-2")
    assert (code, "member-2 is suspended, and not draining" in err) == (2, True)
    log = await desk.done("log", "--kind", "act")
    assert log.count("alice") == 11
    assert "taken back" in log
    lines = [json.loads(line) for line in (await desk.done("--json", "log", "--member", "member-1")).splitlines()]
    assert {(line["kind"], line["name"]) for line in lines} >= {
        ("act", "PUT members/member-1/policy"),
        ("transition", "MemberDraining"),
    }
    assert all(line["member"] == "member-1" for line in lines)
    assert "nothing of this kind" in await desk.done("log", "--who", "nobody", "--since", "1h", "--limit", "5")
    assert (await desk.run("log", "--since", "yesterday"))[0] == 2


async def test_an_operator_weighs_activates_and_hands_out_tokens(desk: Desk) -> None:
    assert await desk.done("weight", "member-1", "0.25") == "member-1 has the weight 0.25\n"
    await desk.done("suspend", "member-2")
    await desk.gateway.until_state("member-2", "suspended")
    shown = {item["name"]: item for item in map(json.loads, (await desk.done("--json", "members")).splitlines())}
    assert (shown["member-1"]["weight"], shown["member-2"]["set"]["policy"]["policy"]) == (0.25, "suspended")
    assert "An operator has set it to suspended: it gets no new launches." in await desk.done("members")
    assert {json.loads(line)["name"] for line in (await desk.done("members", "--json")).splitlines()} == set(shown)
    code, _, err = await desk.run("members", "--gateway", desk.gateway.url, gateway="http://127.0.0.1:1")
    assert code == 0, err
    await desk.done("activate", "member-2")
    await desk.done("weight", "member-1", "registered")
    token = (
        await desk.done("tokens", "create", "bob", "--role", "member", "--member", "member-1", "--for", "1h")
    ).strip()
    (listed,) = map(json.loads, (await desk.done("--json", "tokens", "list")).splitlines())
    assert (listed["name"], listed["role"], listed["member"]) == ("bob", "member", "member-1")
    boss = desk.token_file.read_text()
    desk.token_file.write_text(token)
    assert "member-1" in await desk.done("whoami")
    await desk.done("drain", "member-1")
    for arguments in (("drain", "member-2"), ("suspend", "member-1"), ("unban", "x"), ("quota", "total", "1")):
        code, _, err = await desk.run(*arguments)
        assert (code, "role operator" in err) == (4, True), err
    desk.token_file.write_text(boss)
    await desk.done("tokens", "revoke", listed["id"])
    assert "no tokens were made" in await desk.done("tokens", "list")
    desk.token_file.write_text(token)
    assert (await desk.run("members"))[0] == 4


async def test_what_an_operator_does_wrong_is_told_and_has_its_exit_code(desk: Desk) -> None:
    for code, said, arguments in (
        (2, "host/owner", ("ban", "--kind", "owner", "miner")),
        (2, "no ban", ("unban", "owner:nobody")),
        (2, "nobody", ("drain", "nobody")),
        (2, "no number", ("quota", "total", "many")),
        (2, "no number", ("quota", "total", "9" * 5000)),
        (2, "must be", ("quota", "nonsense", "1")),
        (2, "Missing argument", ("drain",)),
        (2, "no number", ("weight", "member-1", "nan")),
        (2, "from 0 to", ("weight", "member-1", "--", "-1")),
        (2, "needs the name", ("tokens", "create", "bob", "--role", "member")),
        (2, "no token", ("tokens", "revoke", "00")),
    ):
        found = await desk.run(*arguments)
        assert (found[0], said in found[2]) == (code, True), found
    assert (await desk.run("bans", gateway="http://127.0.0.1:1/"))[0] == 3
    desk.token_file.write_text("somebody else's")
    code, _, err = await desk.run("bans")
    assert (code, "operator's token" in err) == (4, True)
    desk.token_file.write_text("")
    assert (await desk.run("bans"))[0] == 2
    desk.token_file.unlink()
    assert (await desk.run("bans"))[0] == 2
