"""A member whose visitors log in at its own JupyterHub: whose a session is, and what nobody else gets of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from federation import git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer
from member_process import Browser, MemberProcess, events, member_process

from contract.events import Failure, Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PASSWORD = "a password that all of them share"


def settings(base: Path, tmp: Path, **auth: Any) -> dict[str, Any]:
    password = tmp / "password"
    password.write_text(PASSWORD)
    authenticator = {
        "name": "shared-password",
        "config": {"Authenticator": {"allow_all": True}},
        "secrets": [{"trait": "SharedPasswordAuthenticator.user_password", "secret_file": str(password)}],
    }
    return {
        "auth_enabled": True,
        "auth": auth,
        "managed": {"authenticator": authenticator},
        "builder": {"cache_dir": str(shared_cache_dir(base))},
        "providers": {"git": {"allow_private_addresses": True}},
    }


@pytest.fixture(scope="module")
def repos(git_server: GitServer) -> tuple[str, str]:
    """Two specs."""
    made = []
    for name in ("first", "second"):
        make_repo(git_server.root, name, {"requirements.txt": "", "name.txt": name})
        made.append(git_spec(git_server.url(name)))
    return made[0], made[1]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    """One server for each user."""
    base, tmp = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("auth")
    with member_process(tmp / "data", settings(base, tmp)) as started:
        yield started


@pytest.fixture(scope="module")
def named_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcess]:
    """Two servers for each user."""
    base, tmp = tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("named")
    named = settings(base, tmp, use_named_servers=True, named_server_limit_per_user=2)
    with member_process(tmp / "data", named) as started:
        yield started


async def token_of(member: MemberProcess, user: str) -> dict[str, str]:
    """The header of an API token that a user, who has logged in before, makes at the Hub."""
    body = {"auth": {"username": user, "password": PASSWORD}}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{member.hub_url}hub/api/users/{user}/tokens", json=body) as response,
    ):
        assert response.status == 201, await response.text()
        return {"Authorization": f"token {(await response.json())['token']}"}


async def servers_of(member: MemberProcess, user: str) -> dict[str, bool]:
    """All servers that the Hub knows of a user, and whether each is ready."""
    token = (member.data_dir / "secrets" / "hub_api_token").read_text().strip()
    url = f"{member.hub_url}hub/api/users/{user}?include_stopped_servers=1"
    async with (
        aiohttp.ClientSession() as http,
        http.get(url, headers={"Authorization": f"token {token}"}) as response,
    ):
        assert response.status == 200, await response.text()
        return {name: server["ready"] for name, server in (await response.json())["servers"].items()}


async def whose(browser: Browser, url: str) -> tuple[int, str]:
    """What a session's page answers to a browser, and whom the session takes it for."""
    status, _, _ = await browser.open(f"{url}lab")
    async with browser.http.get(f"{url}api/me", allow_redirects=False) as response:
        if response.status != 200:
            return status, ""
        return status, str((await response.json())["identity"]["username"])


async def test_who_logs_in_comes_back_and_their_session_is_theirs(
    member: MemberProcess, repos: tuple[str, str]
) -> None:
    link = f"{member.url}v2/{repos[0]}?urlpath=lab%2Ftree%2Fname.txt"
    async with Browser() as alice, Browser() as bob:
        # Whoever has not logged in gets no build: a browser's EventSource is told why.
        (refused,) = await events(alice.http, f"{member.url}build/{repos[0]}")
        assert (refused.phase, refused.fields["status_code"]) == (Phase.FAILED, 403)
        assert "Log in first" in refused.message

        status, at, _ = await alice.log_in(link, "alice", PASSWORD)
        assert (status, str(at)) == (200, link)

        # The cookie alone is not her word: any page could make her browser ask.
        (refused,) = await events(alice.http, f"{member.url}build/{repos[0]}")
        assert refused.message.startswith("Invalid build token")

        fields = ready(await alice.launch(member.url, repos[0]))
        assert fields["url"] == f"{member.hub_url}user/alice/"
        assert fields["token"] == ""
        assert await whose(alice, fields["url"]) == (200, "alice")

        await bob.log_in(member.url, "bob", PASSWORD)
        assert await whose(bob, fields["url"]) == (403, "")
        async with aiohttp.ClientSession() as nobody, nobody.get(f"{fields['url']}api/status") as response:
            assert response.status == 403

        # The same link leads back to what runs; anything else has to wait until it has ended.
        assert ready(await alice.launch(member.url, repos[0]))["url"] == fields["url"]
        last = (await alice.launch(member.url, repos[1]))[-1]
        assert (last.phase, last.failure, last.fields["status_code"]) == (Phase.FAILED, Failure.USER, 409)
        assert last.message.startswith("User alice already has a running server.")
        assert await whose(alice, fields["url"]) == (200, "alice")

        other = ready(await bob.launch(member.url, repos[1]))
        assert await whose(bob, other["url"]) == (200, "bob")


async def test_a_script_has_a_token_and_who_stops_a_server_may_launch_again(
    member: MemberProcess, repos: tuple[str, str]
) -> None:
    async with Browser() as carol, Browser() as dave, aiohttp.ClientSession() as script:
        await carol.log_in(member.url, "carol", PASSWORD)
        header = await token_of(member, "carol")
        url = ready(await events(script, f"{member.url}build/{repos[0]}", headers=header))["url"]
        assert url == f"{member.hub_url}user/carol/"
        async with script.get(f"{url}api/me", headers=header) as response:
            assert (await response.json())["identity"]["username"] == "carol"

        # She may end her server, and start none but through the member, which names what is started.
        server = f"{member.hub_url}hub/api/users/carol/server"
        async with script.post(server, headers=header, json={"image": "another"}) as response:
            assert response.status in (403, 404)
        async with script.delete(server, headers=header) as response:
            assert response.status in (202, 204), await response.text()
        async with asyncio.timeout(120):
            while (await servers_of(member, "carol")).get(""):
                await asyncio.sleep(0.2)

        # What was there is told to her alone.
        async with asyncio.timeout(120):
            while (found := await carol.open(f"{url}lab"))[0] != 410:
                await asyncio.sleep(0.2)
        assert "This session has ended" in found[2]
        assert f'href="{member.url}v2/{repos[0]}"' in found[2]
        assert (await dave.open(f"{url}lab"))[1].path == "/hub/login"
        await dave.log_in(member.url, "dave", PASSWORD)
        status, _, text = await dave.open(f"{url}lab")
        assert (status, "first" in text) == (404, False)

        again = ready(await carol.launch(member.url, repos[1]))
        assert await whose(carol, again["url"]) == (200, "carol")


async def test_named_servers_are_one_for_each_launch(named_member: MemberProcess, repos: tuple[str, str]) -> None:
    member = named_member
    async with Browser() as erin:
        await erin.log_in(member.url, "erin", PASSWORD)
        urls = [ready(await erin.launch(member.url, spec))["url"] for spec in (repos[0], repos[0])]
        assert len(set(urls)) == 2
        for url in urls:
            assert url.startswith(f"{member.hub_url}user/erin/")
            assert await whose(erin, url) == (200, "erin")
        last = (await erin.launch(member.url, repos[1]))[-1]
        assert (last.phase, last.fields["status_code"]) == (Phase.FAILED, 409)
        assert last.message.startswith("User erin already has the maximum of 2 named servers.")

        # One that ends by itself leaves its name at the Hub, until the member has looked twice.
        name = urls[0].rstrip("/").rpartition("/")[2]
        header = await token_of(member, "erin")
        async with (
            aiohttp.ClientSession() as http,
            http.delete(f"{member.hub_url}hub/api/users/erin/servers/{name}", headers=header) as response,
        ):
            assert response.status in (202, 204), await response.text()
        async with asyncio.timeout(180):
            while name in await servers_of(member, "erin"):
                await asyncio.sleep(0.5)
        assert ready(await erin.launch(member.url, repos[1]))["url"] not in urls
