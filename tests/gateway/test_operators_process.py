"""Operators and a gateway as processes: read again, started again, backed up and restored."""

import asyncio
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from contract.signatures import private_pem
from tests.fakes.member import FakeMember
from tests.federation import free_port
from tests.gateway.harness import SPEC, Gateway, Starter, until
from tests.gateway.test_gateway_process import config, ready, running
from tests.gateway.test_operators import ADMIN, BOSS, VIEWER, ask, made

# Gateways as processes, which take seconds to start and to end.
pytestmark = pytest.mark.slow

NEWCOMER = "a-token-of-the-newcomer-for-tests"


async def command(*arguments: str, token: str = BOSS, url: str = "http://127.0.0.1:1/") -> tuple[int, str, str]:
    """How ``manybinder admin`` ends, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "manybinder", "admin", "--gateway", url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 150)
    assert b"Traceback" not in err, err.decode()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Caller:
    """Asks a gateway that is another process."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http, self.url = http, url

    async def __call__(self, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and body of an answer of the API."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.url}api/v1/admin/{path}"
        async with self.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None) if response.status != 204 else {}


async def test_settings_for_operators_are_read_again_and_no_stream_drops(tmp_path: Path) -> None:
    member = await FakeMember("member-1").start()
    member.knobs.gate_at = 1
    port = free_port()
    path = config(tmp_path, port, f'[{{name: member-1, url: "{member.url}"}}]')
    good = yaml.safe_load(path.read_text())
    good["admin"] = {"tokens": [{"name": "boss", "token": BOSS}, {"name": "viewer", "token": VIEWER, "role": "viewer"}]}
    path.write_text(yaml.safe_dump(good))
    async with aiohttp.ClientSession() as http, running(path) as process:
        call = Caller(http, f"http://127.0.0.1:{port}/")
        await ready(http, call.url)
        assert process.stderr is not None
        said: list[str] = []

        async def listen(stream: asyncio.StreamReader) -> None:
            while line := await stream.readline():
                said.append(line.decode())

        listening = asyncio.create_task(listen(process.stderr))
        headers = {"Accept": "text/event-stream"}
        async with http.get(f"{call.url}build/{SPEC}", headers=headers) as stream:
            await stream.content.readany()
            bad: dict[str, Any] = {
                "tokens": [
                    {"name": "bo ss", "token": "short", "role": "king"},
                    {"name": "a", "token": NEWCOMER, "role": "member"},
                ],
                "oidc": {"issuer": "http://login.example", "client_id": "", "roles": []},
            }
            path.write_text(yaml.safe_dump({**good, "admin": bad}))
            process.send_signal(signal.SIGHUP)
            await until(lambda: any("the settings were not changed" in line for line in said))
            await until(lambda: any("admin.oidc.roles" in line for line in said))
            text = "".join(said)
            for where in (
                *("admin.tokens[0].name: ", "admin.tokens[0].token: ", "admin.tokens[0].role: "),
                *("admin.tokens[1]: the role member", "admin.oidc.issuer: must begin with https"),
                "admin.oidc.client_id: ",
            ):
                assert where in text, where
            assert (await call(VIEWER, "GET", "whoami"))[1]["role"] == "viewer"
            # The viewer becomes a member's operator, somebody comes, and the boss goes.
            tokens = [
                {"name": "viewer", "token": VIEWER, "role": "member", "member": "member-1"},
                {"name": "newcomer", "token": NEWCOMER},
            ]
            path.write_text(yaml.safe_dump({**good, "admin": {"tokens": tokens}}))
            process.send_signal(signal.SIGHUP)
            await until(lambda: any("the settings were read again" in line for line in said))
            assert (await call(VIEWER, "GET", "whoami"))[1]["role"] == "member"
            assert (await call(NEWCOMER, "PUT", "members/member-1/policy", {"policy": "draining"}))[0] == 200
            assert (await call(BOSS, "GET", "whoami"))[0] == 401
            assert not any("take effect with a restart" in line for line in said)
            member.gate.set()
            assert b'"ready"' in await stream.content.read()
        process.send_signal(signal.SIGINT)
        await listening
    await member.stop()


async def test_every_act_outlives_a_restart_of_all_replicas_and_an_empty_redis(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, members=2, admin=ADMIN)
    for path, body in (
        ("bans", {"kind": "owner", "value": "github.com/miner"}),
        ("quotas", {"name": "github.com/org", "limit": 7}),
        ("members/member-1/policy", {"policy": "draining"}),
        ("members/member-2/weight", {"weight": 0.5}),
    ):
        assert (await ask(one, BOSS, "PUT", path, body))[0] == 200
    kept = str((await made(one, name="kept", role="viewer"))["token"])
    revoked = await made(two, name="revoked", role="viewer")
    assert (await ask(two, BOSS, "DELETE", f"tokens?id={revoked['id']}"))[0] == 204
    await until(lambda: len(one.parts.records.book.all()) == len(two.parts.records.book.all()))
    for gateway in (one, two):
        await gateway.runner.cleanup()
    await server.flush()
    changes = {"admin": ADMIN, "signing_key": _signing_key(one), "redis": {"url": server.url, "timeout": "30s"}}
    parent = start.data_dir
    again: list[Gateway] = []
    for n in range(2):
        start.data_dir = parent / f"replica-{n}"
        again.append(await start.gateway_of(one.members, **changes))
    start.data_dir = parent
    for gateway in again:
        await gateway.until_state("member-1", "draining")
        _, members = await ask(gateway, kept, "GET", "members")
        assert [item["weight"] for item in members["members"]] == [1, 0.5]
        assert (await ask(gateway, kept, "GET", "bans"))[1]["bans"][0]["name"] == "owner:github.com/miner"
        assert (await ask(gateway, kept, "GET", "quotas"))[1]["repos"] == {"github.com/org": 7}
        assert (await ask(gateway, str(revoked["token"]), "GET", "whoami"))[0] == 401
        _, log = await ask(gateway, kept, "GET", "log?kind=act&who=boss")
        assert len(log["entries"]) == 7


def _signing_key(gateway: Gateway) -> str:
    return private_pem(gateway.key)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The settings of a gateway with operators, whose data and keys are below a directory of its own."""
    directory = tmp_path / "machine"
    directory.mkdir()
    path = config(directory, free_port())
    tree = yaml.safe_load(path.read_text())
    (directory / "boss-token").write_text(BOSS)
    tree["data_dir"] = str(directory / "data")
    tree["admin"] = {"tokens": [{"name": "boss", "token_file": str(directory / "boss-token")}]}
    path.write_text(yaml.safe_dump(tree))
    return path


async def test_a_backup_of_a_gateway_that_runs_is_restored_on_an_empty_machine(site: Path, tmp_path: Path) -> None:
    url = yaml.safe_load(site.read_text())["public_url"]
    file, token_file = tmp_path / "backup.tar.gz", site.parent / "boss-token"
    backup = ("backup", "--config", str(site), str(file))
    assert (await command(*backup))[0] == 2, "it has never run"
    async with aiohttp.ClientSession() as http:
        call = Caller(http, url)
        async with running(site) as process:
            await ready(http, url)
            ban = {"kind": "owner", "value": "github.com/miner"}
            assert (await call(BOSS, "PUT", "bans", ban))[0] == 200
            code, out, err = await command(*backup)
            assert code == 0, err
            assert {Path(line).name for line in out.splitlines()} == {
                *("gateway.yaml", "key.pem", "boss-token", "records.sqlite3", "log.sqlite3", "index.jsonl"),
            }
            assert file.stat().st_mode & 0o777 == 0o600
            assert (await command(*backup))[0] == 2, "it would be overwritten"
            export = ("--token-file", str(token_file), "export", str(tmp_path / "state.json"))
            assert (await command(*export, url=url))[0] == 0
            # Decided after the backup, and lost with the machine.
            assert (await call(BOSS, "PUT", "quotas", {"name": "total", "limit": 1}))[0] == 200
            assert (await command("restore", str(file)))[0] == 2, "there are files"
            code, _, err = await command("restore", "--force", str(file))
            assert (code, "in use" in err) == (2, True)
            process.send_signal(signal.SIGINT)
            await process.wait()
        shutil.move(site.parent, tmp_path / "lost")
        damaged = tmp_path / "damaged.tar.gz"
        damaged.write_bytes(file.read_bytes()[:-200])
        assert (await command("restore", str(damaged)))[0] == 2
        assert not site.exists()
        assert (await command("restore", "--dry-run", str(file)))[0] == 0
        assert not site.exists()
        assert (await command("restore", "--root", str(tmp_path / "elsewhere"), str(file)))[0] == 0
        assert (tmp_path / "elsewhere" / str(site).lstrip("/")).read_text() == site_text(tmp_path)
        code, out, err = await command("--json", "restore", str(file))
        assert code == 0, err
        assert {json.loads(line)["path"] for line in out.splitlines()} >= {str(site), str(token_file)}
        async with running(site):
            await ready(http, url)
            assert [item["name"] for item in (await call(BOSS, "GET", "bans"))[1]["bans"]] == ["owner:github.com/miner"]
            assert (await call(BOSS, "GET", "quotas"))[1]["total"] is None
            token = ("--token-file", str(token_file))
            code, _, err = await command(*token, "import", "--dry-run", str(tmp_path / "state.json"), url=url)
            assert code == 0, err
            assert "records would be taken" in err
            code, out, _ = await command(*token, "--json", "import", str(tmp_path / "state.json"), url=url)
            assert (code, json.loads(out)["signed_here"]) == (0, True)
            assert (await command(*token, "import", str(site), url=url))[0] == 2


def site_text(tmp_path: Path) -> str:
    """The settings as they were."""
    return (tmp_path / "lost" / "gateway.yaml").read_text()
