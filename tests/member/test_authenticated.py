"""A member whose visitors log in at its Hub: who gets in, how, whose a session is, and what stays of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from traitlets.config.loader import PyFileConfigLoader
from yarl import URL

from contract.bans import Ban, BanKind
from contract.events import BuildEvent, Failure, Phase
from frontend.login_flow import MOST_HERE
from member.engines.bans import Bans
from member.engines.reaper import Reaper
from member.hub import ended
from member.processes import processes
from servicekit.config import ConfigError, parse
from tests.fakes.hub import FakeServer
from tests.member.member_harness import order, rig, until
from tests.member.web_harness import DIRECT, Member, member_of, member_settings

LINK = f"v2/{DIRECT}?urlpath=lab%2Ftree%2F%C3%BC.ipynb"
SITE = "http://member.example/"


@dataclass
class Browser:
    """Keeps cookies by name, as one does of a single site."""

    member: Member
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Status, where it leads, and text."""
        url = URL(f"{self.member.url}{path}", encoded=True)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        wanted = {"Accept": "text/html", "Cookie": cookie, **headers}
        async with self.member.http.get(url, headers=wanted, allow_redirects=False) as response:
            for name, morsel in response.cookies.items():
                if morsel.value:
                    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Lax", "/"), name
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
            return response.status, response.headers.get("Location", ""), await response.text()

    async def at_the_hub(self, url: str) -> str:
        """Log in there; returns the path at the member that the Hub sends one back to."""
        async with self.member.http.get(URL(url, encoded=True), allow_redirects=False) as response:
            assert response.status == 302
            back = response.headers["Location"]
        assert back.startswith(f"{SITE}oauth_callback?")
        return back.removeprefix(SITE)

    async def log_in(self, path: str = "") -> str:
        """Open a page, log in on the way; returns where that leads."""
        status, hub, _ = await self.get(path)
        assert status == 302
        status, here, text = await self.get(await self.at_the_hub(hub))
        assert status == 303, text
        return here

    async def launch(self, spec: str = DIRECT, **sent: str) -> list[BuildEvent]:
        """Launch from a page."""
        status, _, text = await self.get(f"v2/{spec}")
        assert status == 200
        config = re.search(r"window\.pageConfig = (\{.*?\});", text)
        assert config
        token = json.loads(config[1])["buildToken"]
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **sent}
        return [event for _, event in await self.member.events(headers, spec, f"?build_token={token}")]


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    """One of its own, with one server for each user."""
    async with member_of(tmp_path, federated=False, login=True) as made:
        yield made


async def test_pages_lead_to_the_login_and_back_to_the_same_address(member: Member) -> None:
    browser = Browser(member)
    for path in ("", "launch?repo=x", LINK, "v2/gh/org/repo/main"):
        status, where, _ = await browser.get(path)
        assert (status, where.partition("?")[0]) == (302, f"{member.engines.hub.url}hub/api/oauth2/authorize")
    for path in ("about", "badge.svg", "versions", "health", "livez", "metrics", "api/repoproviders"):
        assert (await browser.get(path))[0] == 200, path
    assert await browser.log_in(LINK) == f"/{LINK}"
    assert (await browser.get(LINK))[0] == 200
    assert (await browser.get(""))[0] == 200


async def test_two_tabs_log_in_side_by_side(member: Member) -> None:
    browser = Browser(member)
    first = (await browser.get("v2/gh/org/one/main"))[1]
    second = (await browser.get("v2/gh/org/two/main"))[1]
    assert (await browser.get(await browser.at_the_hub(first)))[1] == "/v2/gh/org/one/main"
    assert (await browser.get(await browser.at_the_hub(second)))[1] == "/v2/gh/org/two/main"
    assert list(browser.cookies) == ["manybinder-visitor"]


async def test_logins_that_come_to_nothing_fill_no_header(member: Member) -> None:
    browser = Browser(member)
    for n in range(30):
        assert (await browser.get(f"v2/gh/org/repo/{n}?urlpath={'x' * 1000}"))[0] == 302
        assert sum(map(len, browser.cookies.values())) < 7000
    assert await browser.log_in(LINK) == f"/{LINK}"


async def test_a_session_is_of_who_has_logged_in(member: Member) -> None:
    browser, hub = Browser(member), member.engines.hub
    await browser.log_in()
    last = (await browser.launch())[-1]
    assert last.phase == Phase.READY, last
    assert last.fields["url"] == f"{hub.url}user/alice/"
    # Nobody is let in by a token of ours.
    assert last.fields["token"] == ""
    assert list(hub.users) == ["alice"]
    # The link leads back to what runs, and starts nothing.
    again = (await browser.launch())[-1]
    assert (again.phase, again.fields["url"]) == (Phase.READY, last.fields["url"])
    assert hub.count("stop") == 0


@pytest.mark.parametrize("name", ["alice@example.org", "a b+c", "Ünïcode", "a%2Fb"])
async def test_whatever_people_are_called(member: Member, name: str) -> None:
    member.engines.hub.who = name
    browser = Browser(member)
    await browser.log_in()
    last = (await browser.launch())[-1]
    assert last.phase == Phase.READY, last
    assert list(member.engines.hub.users) == [name]
    assert URL(last.fields["url"], encoded=True).path == f"/user/{name}/"


async def test_another_repository_waits_until_the_server_is_stopped(member: Member) -> None:
    hub = member.engines.hub
    hub.users["alice"] = FakeServer({"repo_url": "https://git.example/other", "image": "other"}, ready=True)
    browser = Browser(member)
    await browser.log_in()
    last = (await browser.launch())[-1]
    assert (last.phase, last.failure, last.fields["status_code"]) == (Phase.FAILED, Failure.USER, 409)
    assert last.message == f"User alice already has a running server. Stop it first: {hub.url}hub/home\n"
    server = hub.users["alice"]
    assert server is not None
    assert server.ready
    await member.engines.client.remove("alice", keep_user=True)
    assert (await browser.launch())[-1].phase == Phase.READY


async def test_who_has_not_logged_in_is_told_what_to_do(member: Member) -> None:
    for headers in ({}, {"Cookie": "manybinder-visitor=rubbish"}, {"Authorization": "token rubbish"}):
        event = await member.refusal(headers, spec=DIRECT)
        assert (event.phase, event.failure, event.fields["status_code"]) == (Phase.FAILED, Failure.USER, 403)
        assert f"Log in first: open {SITE}v2/{DIRECT} in a browser" in event.message
        assert "Authorization: token" in event.message
    assert member.engines.launches.seen == ()


async def test_a_script_launches_with_a_token_of_the_hub(member: Member) -> None:
    hub = member.engines.hub
    hub.tokens["s3cret"] = "bob"
    items = await member.events({"Authorization": "token s3cret"}, DIRECT)
    assert items[-1][1].fields["url"] == f"{hub.url}user/bob/"
    # A service's token is nobody's, and one without the scope not for this.
    event = await member.refusal({"Authorization": f"token {hub.token}"}, spec=DIRECT)
    assert event.fields["status_code"] == 403
    hub.tokens["another"], hub.scopes = "bob", ("access:services!service=other",)
    assert (await member.refusal({"Authorization": "token another"}, spec=DIRECT)).fields["status_code"] == 403


async def test_a_browsers_login_alone_starts_nothing(member: Member) -> None:
    browser = Browser(member)
    await browser.log_in()
    headers = {"Cookie": f"manybinder-visitor={browser.cookies['manybinder-visitor']}"}
    event = await member.refusal(headers, spec=DIRECT)
    assert (event.failure, event.fields["status_code"]) == (Failure.REFUSED, 403)
    assert event.message.startswith("Invalid build token")


async def test_a_page_of_another_site_starts_nothing_by_a_token_that_somebody_else_has_read(member: Member) -> None:
    browser = Browser(member)
    await browser.log_in()
    for site in ("same-site", "cross-site"):
        (event,) = await browser.launch(**{"Sec-Fetch-Site": site})
        assert event.message.startswith("Invalid build token"), site
    assert member.engines.launches.seen == ()
    assert (await browser.launch(**{"Sec-Fetch-Site": "same-origin"}))[-1].phase == Phase.READY


async def test_a_login_that_this_browser_has_not_begun_is_none(member: Member) -> None:
    mine, other = Browser(member), Browser(member)
    back = await mine.at_the_hub((await mine.get(""))[1])
    for path in (back, "oauth_callback", "oauth_callback?state=x&code=y", "oauth_callback?state=%00%ff"):
        status, where, text = await other.get(path)
        assert (status, where) == (403, "")
        assert "this browser has begun no login" in text
    assert other.cookies == {}
    # The code is good once.
    assert (await mine.get(back))[0] == 303
    assert (await mine.get(back))[0] == 403


async def test_what_the_hub_does_not_like_is_told(member: Member) -> None:
    hub, browser = member.engines.hub, Browser(member)
    hub.who = ""
    status, _, text = await browser.get(await browser.at_the_hub((await browser.get(""))[1]))
    assert (status, "access_denied" in text) == (403, True)
    # Whoever calls can write what they like there, but no line of the log.
    back = await browser.at_the_hub((await browser.get(""))[1])
    status, _, text = await browser.get(back.replace("access_denied", "a%0D%0Ab"))
    assert (status, "refused: a b" in text) == (403, True)
    hub.who, hub.scopes = "alice", ()
    status, _, text = await browser.get(await browser.at_the_hub((await browser.get(""))[1]))
    assert (status, "does not let this user use this service" in text) == (403, True)
    hub.scopes, hub.errors = ("access:services",), {"token": [500]}
    status, _, text = await browser.get(await browser.at_the_hub((await browser.get(""))[1]))
    assert (status, "gave no token" in text) == (403, True)
    assert browser.cookies == {}


async def test_a_hub_that_is_away_is_no_reason_to_log_in_again(member: Member) -> None:
    member.engines.hub.errors["user"] = [503, 503]
    headers = {"Authorization": "token t"}
    event = await member.refusal(headers, spec=DIRECT)
    assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 503)


async def test_who_logs_out_has_to_log_in_again(member: Member) -> None:
    browser = Browser(member)
    await browser.log_in()
    assert "Log out" in (await browser.get(""))[2]
    status, where, _ = await browser.get("logout")
    assert (status, where) == (303, f"{member.engines.hub.url}hub/logout")
    assert browser.cookies == {}
    assert (await browser.get(""))[0] == 302


async def test_a_link_too_long_to_be_kept_says_so(member: Member) -> None:
    status, _, text = await Browser(member).get(f"v2/gh/org/repo/main?urlpath={'x' * MOST_HERE}")
    assert status == 403
    assert "log in first, and open it again" in text


async def test_two_launches_of_one_image_at_once_are_one_server(member: Member) -> None:
    hub, browser = member.engines.hub, Browser(member)
    await browser.log_in()
    hub.gate = asyncio.Event()
    first, second = asyncio.create_task(browser.launch()), asyncio.create_task(browser.launch())
    await until(lambda: hub.count("progress") == 2)
    # One of them is given up; the other keeps what it waits for.
    member.engines.launches.cancel(next(iter(member.engines.launches.under_way)))
    hub.gate.set()
    ends = sorted(event.phase for event in ((await first)[-1], (await second)[-1]))
    assert ends == [Phase.FAILED, Phase.READY]
    server = hub.users["alice"]
    assert server is not None
    assert server.ready


async def test_a_launch_that_fails_leaves_the_user_and_no_server() -> None:
    async with rig() as made:
        made.hub.spawn_fails = "no memory"
        assert (await made.launch(order(user="alice")))[-1].phase == Phase.FAILED
        await until(lambda: made.hub.users == {"alice": None})
        assert made.hub.count("remove user") == 0


@pytest.mark.parametrize("slow", [0, 3])
async def test_named_servers_are_one_for_each_launch_and_nothing_stays_of_them(slow: int) -> None:
    async with rig(named_servers=True, named_server_limit=2) as made:
        first, second = [(await made.launch(order(user="alice")))[-1] for _ in range(2)]
        for event in (first, second):
            assert event.phase == Phase.READY, event
            assert re.fullmatch(re.escape(made.hub.url) + r"user/alice/org-repo-[a-z2-7]{12}/", event.fields["url"])
        assert first.fields["url"] != second.fields["url"]
        third = (await made.launch(order(user="alice")))[-1]
        assert (third.failure, third.fields["status_code"]) == (Failure.USER, 409)
        assert third.message.startswith("User alice already has the maximum of 2 named servers.")
        assert (await made.launch(order(user="bob")))[-1].phase == Phase.READY
        # A session that ends by itself leaves its name at the Hub.
        (ended, other) = [key for key in made.hub.users if key.startswith("alice/")]
        made.hub.users[ended], made.hub.slow_stop = None, slow
        # No launch has made this one, and what they keep may hang on it.
        made.hub.users["bob/my-project"] = None
        reaper = Reaper(made.client, lambda: made.launches.servers, keep_users=True)
        await reaper.sweep()
        assert ended in made.hub.users
        await reaper.sweep()
        assert ended not in made.hub.users
        assert {"alice", "bob", other, "bob/my-project"} <= made.hub.users.keys()
        await made.client.remove("alice", other.partition("/")[2], keep_user=True)
        assert [key for key in made.hub.users if key.startswith("alice")] == ["alice"]


async def test_a_cancelled_launch_leaves_no_named_server() -> None:
    async with rig(named_servers=True) as made:
        made.hub.gate = asyncio.Event()
        launch = made.launches.start(order(user="alice"))
        await until(lambda: launch.key in made.hub.users)
        made.launches.cancel(launch)
        assert (await made.events(launch))[-1].phase == Phase.FAILED
        await until(lambda: made.hub.users == {"alice": None})


async def test_a_ban_ends_the_session_and_leaves_the_user(tmp_path: Path) -> None:
    async with rig(named_servers=True) as made:
        assert (await made.launch(order(user="alice")))[-1].phase == Phase.READY
        ban = Ban(BanKind.SPEC, "gh/org/repo/")
        await Bans(tmp_path / "bans.json", made.client, made.launches, (ban,), keep_users=True).enforce()
        assert made.hub.users == {"alice": None}


async def test_a_federation_and_a_member_must_agree_on_who_logs_in(tmp_path: Path) -> None:
    async with member_of(tmp_path, login=True) as made:
        event = await made.refusal(made.bearer(made.claims()))
        assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403)
        assert "auth_enabled" in event.message
        items = await made.events(made.bearer(made.claims(user="carol")))
        assert items[-1][1].fields["url"] == f"{made.engines.hub.url}user/carol/"
    async with member_of(tmp_path) as made:
        event = await made.refusal(made.bearer(made.claims(user="carol")))
        assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403)
        assert "auth_enabled" in event.message
        assert made.engines.hub.users == {}


def settings(tmp_path: Path, **sections: Any) -> list[str]:
    """What is wrong with settings."""
    hub = {"url": "http://127.0.0.1:9/", "public_url": "https://hub.example.org/", "api_token": "t"}
    tree: dict[str, Any] = {
        "schema": 1,
        "name": "member-1",
        "listen": {"port": 9001},
        "public_url": "https://binder.example.org/",
        "data_dir": str(tmp_path),
        "hub": hub,
        "auth_enabled": True,
    }
    tree["hub"] = {**hub, **sections.pop("hub", {})}
    try:
        parse(type(member_settings(tmp_path)), json.dumps({**tree, **sections}), "member.yaml", {})
    except ConfigError as error:
        return error.problems
    return []


def test_settings_that_do_not_fit_are_told(tmp_path: Path) -> None:
    ports = {"hub_port": 1, "proxy_port": 2, "proxy_api_port": 3}
    someone = {"authenticator": {"name": "dummy", "config": {"Authenticator": {"allow_all": True}}}}
    managed = {"managed": {**ports, **someone}}
    assert settings(tmp_path) == []
    assert settings(tmp_path, hub=managed) == []
    cases: list[tuple[dict[str, Any], str]] = [
        ({"hub": {"managed": ports}}, "hub.managed.authenticator: is missing"),
        ({"hub": managed, "auth_enabled": False}, "hub.managed.authenticator: is for auth_enabled"),
        ({"hub": {"managed": {**ports, "authenticator": {"name": "Null"}}}}, "Null lets nobody log in"),
        ({"hub": managed, "builder": {"kind": "container"}}, "auth_enabled: needs, with builder.kind container"),
        ({"hub": {"public_url": "https://binder.example.org/"}}, "hub.public_url: is on binder.example.org"),
        ({"hub": {"public_url": "https://binder.example.org/jupyter/"}}, "hub.public_url: is on binder.example.org"),
        ({"auth": {"oauth_client_id": "binder"}}, "auth.oauth_client_id"),
        ({"auth": {"named_server_limit_per_user": -1}}, "auth.named_server_limit_per_user"),
    ]
    for sections, said in cases:
        (problem,) = settings(tmp_path, **sections)
        assert said in problem
    paths = {"public_url": "https://x.example.org/binder/", "hub": {"public_url": "https://x.example.org/jupyter/"}}
    assert settings(tmp_path, **paths) == []


def test_an_image_without_the_single_user_server_is_another_one(tmp_path: Path) -> None:
    plain = member_settings(tmp_path)
    auth = plain.model_copy(update={"auth_enabled": True})
    assert auth.image_prefix != plain.image_prefix


def test_the_hub_that_a_member_runs_lets_people_log_in_and_start_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"trait": "SharedPasswordAuthenticator.user_password", "secret": "a long password"}
    config = {"Authenticator": {"allow_all": True}}
    authenticator = {"name": "shared-password", "config": config, "secrets": [secret]}
    managed = {"hub_port": 1, "proxy_port": 2, "proxy_api_port": 3, "authenticator": authenticator}
    made = member_settings(
        tmp_path / "data",
        auth_enabled=True,
        auth={"use_named_servers": True, "named_server_limit_per_user": 3},
        hub={"url": "http://127.0.0.1:1/", "public_url": "http://127.0.0.1:2/", "managed": managed},
    )
    specs = {spec.name.partition("/")[2]: spec for spec in processes(made, tmp_path / "member.yaml")}
    # People stay, and what they have started does not.
    assert "--remove-named-servers=true" in specs["culler"].argv
    assert "--cull-users=true" not in specs["culler"].argv
    monkeypatch.setenv("MANYBINDER_HUB_CONFIG", specs["hub"].env["MANYBINDER_HUB_CONFIG"])
    monkeypatch.setattr(ended, "SESSIONS", ended.SESSIONS)
    loaded = PyFileConfigLoader(specs["hub"].argv[-1]).load_config()
    doorman = loaded.JupyterHub.authenticator_class(config=loaded)
    assert isinstance(doorman, SharedPasswordAuthenticator)
    assert (doorman.user_password, doorman.allow_all) == ("a long password", True)
    binder, _ = loaded.JupyterHub.services
    assert binder["oauth_redirect_uri"] == "http://127.0.0.1:9001/oauth_callback"
    scopes = {role["name"]: role["scopes"] for role in loaded.JupyterHub.load_roles}
    assert "access:services!service=binder" in scopes["user"]
    assert not {"self", "servers", "servers!user", "start:servers!user"} & set(scopes["user"])
    assert loaded.JupyterHub.allow_named_servers is True
    assert loaded.JupyterHub.named_server_limit_per_user == 3
