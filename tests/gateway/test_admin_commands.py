"""``manybinder admin`` as a process, against a real gateway."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.gateway.harness import Gateway, Starter

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
    assert "is lifted" in await desk.done("unban", "owner:github.com/miner")
    await desk.done("quota", "github.com/org", "20")
    await desk.done("quota", "total", "none")
    lines = [json.loads(line) for line in (await desk.done("--json", "quotas")).splitlines()]
    assert {line["name"]: line["limit"] for line in lines} == {"total": None, "per_repo": None, "github.com/org": 20}
    await desk.done("quota", "github.com/org", "configured")
    assert "member-1 is draining" in await desk.done("drain", "member-1")
    await desk.gateway.until_state("member-1", "draining")
    await desk.done("undrain", "member-1")
    await desk.done("suspend", "member-2")
    log = await desk.done("log")
    assert log.count("alice") == 8
    assert "taken back" in log


async def test_what_an_operator_does_wrong_is_told_and_has_its_exit_code(desk: Desk) -> None:
    for code, said, arguments in (
        (2, "host/owner", ("ban", "--kind", "owner", "miner")),
        (2, "no ban", ("unban", "owner:nobody")),
        (2, "nobody", ("drain", "nobody")),
        (2, "no number", ("quota", "total", "many")),
        (2, "must be", ("quota", "nonsense", "1")),
        (2, "Missing argument", ("drain",)),
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
