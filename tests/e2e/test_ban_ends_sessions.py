"""A ban, given while the federation runs, refuses launches and ends the real sessions that it hits."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

from contract.events import Phase
from contract.repos import repo_key

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "an-operators-token-for-tests"


@pytest.fixture
def governed(tmp_path: Path, member_config: Path) -> Iterator[Federation]:
    """A federation with an operator."""
    config = tmp_path / "gateway.yaml"
    config.write_text(f"admin:\n  tokens: [{{name: alice, token: {TOKEN}}}]\n")
    federation = Federation.start(
        tmp_path / "up",
        *("--members", "1", "--member-config", str(member_config), "--gateway-config", str(config)),
    )
    yield federation
    federation.stop()


async def test_a_ban_ends_the_sessions_that_it_hits(
    governed: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    notebooks = {}
    for name in ("good", "miner"):
        make_repo(git_server.root, name, {"requirements.txt": ""})
        fields = ready(await governed.launch(http, git_spec(git_server.url(name))))
        notebooks[name] = Notebook(http, fields["url"], fields["token"])
        await notebooks[name].get("api/status")
    ban = {"kind": "owner", "value": repo_key(git_server.url("miner")), "reason": "coins"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with http.put(f"{governed.url}/api/v1/admin/bans", json=ban, headers=headers) as response:
        assert response.status == 200, await response.text()
        name = (await response.json())["name"]
    refused = (await governed.launch(http, git_spec(git_server.url("miner"))))[-1]
    assert (refused.phase, refused.fields["status_code"]) == (Phase.FAILED, 403)
    async with asyncio.timeout(90):
        while await _answers(notebooks["miner"]):
            await asyncio.sleep(0.5)
    assert await _answers(notebooks["good"])
    # At the member, too, and over a restart of its API.
    governed.member_api("member-1").kill()
    assert (governed.data_dir / "member-1" / "bans.json").exists()
    url = f"{governed.url}/api/v1/admin/bans"
    async with http.delete(url, params={"name": name}, headers=headers) as response:
        assert response.status == 204, await response.text()
    # The member was away when the ban was lifted, and hears of it soon after its return.
    async with asyncio.timeout(90):
        while (await governed.launch(http, git_spec(git_server.url("miner"))))[-1].phase != Phase.READY:
            await asyncio.sleep(1)


async def _answers(notebook: Notebook) -> bool:
    try:
        await notebook.get("api/status")
    except aiohttp.ClientError:
        return False
    return True
