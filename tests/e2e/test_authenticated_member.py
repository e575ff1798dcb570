"""A member whose visitors log in at its own JupyterHub: whose a session is, and what nobody else gets of it."""

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
        "secrets": [{"trait": "SharedPasswordAuthenticator.user_password", "value_file": str(password)}],
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
