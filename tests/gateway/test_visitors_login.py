"""Visitors log in at the gateway with OpenID Connect, and members are told who they are."""

import asyncio
import html
import json
import re
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError
from yarl import URL

from contract.events import BuildEvent, Failure, Phase
from contract.reports import session_owner
from contract.repos import RepoKey
from gateway.clients.visitor_login import VisitorLogin
from gateway.core import canary
from gateway.core.decision import Standing
from gateway.core.launch import Launch, Visitor
from gateway.core.launch_records import dump_launch, load_launch
from gateway.login_settings import VisitorOidcSettings
from tests.fakes.oidc import CLIENT, SECRET, FakeOidc, Fault
from tests.gateway.harness import SPEC, Gateway, Starter, gateway_settings
from tests.gateway.joining import OPEN, join, join_token
from tests.gateway.test_conformance import checked, newcomer, reporting
from tests.gateway.test_gateway_decision import choose, fleet, up

SITE = "http://gateway.example/"
LINK = f"v2/{SPEC}?urlpath=lab%2Ftree%2F%C3%BC.ipynb"
REPO = RepoKey("git.example/org/repo")


@dataclass
class Browser:
    """Keeps cookies by name, as one does of a single site."""

    gateway: Gateway
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def header(self) -> dict[str, str]:
        """Its cookies."""
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, where it leads, and text."""
        url = URL(f"{self.gateway.url}{path}", encoded=True)
        wanted = {"Accept": "text/html", **self.header}
        async with self.gateway.http.get(url, headers=wanted, allow_redirects=False) as response:
            for name, morsel in response.cookies.items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
            return response.status, response.headers.get("Location", ""), await response.text()

    async def log_in(self, path: str = "") -> tuple[int, str, str]:
        """Open a page, log in on the way; what the gateway answers to who comes back."""
        status, provider, text = await self.get(path)
        assert status == 302, text
        async with self.gateway.http.get(URL(provider, encoded=True), allow_redirects=False) as response:
            back = response.headers["Location"]
        assert back.startswith(f"{SITE}oauth_callback?")
        return await self.get(back.removeprefix(SITE))

    async def launch(self, **sent: str) -> list[BuildEvent]:
        """Launch from a page."""
        status, _, text = await self.get(f"v2/{SPEC}")
        assert status == 200
        config = re.search(r"window\.pageConfig = (\{.*?\});", text)
        assert config
        query = f"?build_token={json.loads(config[1])['buildToken']}"
        return [event async for _, event in self.gateway.events(SPEC, {**self.header, **sent}, query)]


@pytest.fixture
async def provider(start: Starter) -> FakeOidc:
    """A provider where Alice logs in."""
    return await start.oidc(email="Alice@Example.org")


def visitors(provider: FakeOidc, **changes: Any) -> dict[str, Any]:
    """Settings."""
    return {"oidc": {"issuer": provider.url, "client_id": CLIENT, "client_secret": SECRET, **changes}}


async def refusal(gateway: Gateway, **headers: str) -> BuildEvent:
    """The only event of a launch that is refused."""
    (event,) = await gateway.launch(headers=headers)
    return event


async def test_visitors_log_in_come_back_and_members_are_told_who_they_are(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(1, visitors=visitors(provider))
    browser = Browser(gateway)
    for path in ("about", "status", "api/v1/federation", "versions", "livez", "badge.svg"):
        assert (await browser.get(path))[0] == 200, path
    status, where, _ = await browser.log_in(LINK)
    assert (status, where) == (303, f"/{LINK}")
    assert (await browser.get(LINK))[0] == 200
    last = (await browser.launch())[-1]
    assert last.phase == Phase.READY, last
    claims = gateway.members[0].claims(gateway.key, time.time())
    # As JupyterHub writes it, for that is whom its Hub logs in.
    assert claims.user == "alice@example.org"
    assert "alice" not in "".join(event.to_json() for event in await browser.launch())
    assert "Log out" in (await browser.get("about"))[2]
    assert (await browser.get("logout"))[1] == "/about"
    assert browser.cookies == {}
    assert (await browser.get(LINK))[0] == 302


async def test_who_has_not_logged_in_starts_nothing(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(1, visitors=visitors(provider))
    browser = Browser(gateway)
    event = await refusal(gateway)
    assert (event.failure, event.fields["status_code"]) == (Failure.USER, 403)
    assert event.message == f"Log in first: open {SITE}v2/{SPEC} in a browser.\n"
    for headers in ({"Cookie": "manybinder-visitor=x"}, {"Authorization": "token x"}, {"Authorization": "Bearer x"}):
        assert (await refusal(gateway, **headers)).fields["status_code"] == 403
    await browser.log_in()
    # Any page could make a browser ask: a session's, on a host beside this one.
    event = await refusal(gateway, **browser.header)
    assert event.message.startswith("Invalid build token")
    # Nor by a token that its author has read after a login of their own.
    (event,) = await browser.launch(**{"Sec-Fetch-Site": "same-site"})
    assert event.message.startswith("Invalid build token")
    assert gateway.members[0].builds == []


async def test_without_scripts_it_is_the_same(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(1, visitors=visitors(provider))
    browser = Browser(gateway)
    status, _, text = await browser.get(f"plain/{SPEC}")
    assert (status, "Log in first" in text) == (200, True)
    await browser.log_in()
    status, _, text = await browser.get(f"plain/{SPEC}")
    assert (status, "Invalid build token" in text) == (200, True)
    assert gateway.members[0].builds == []
    _, _, text = await browser.get(f"v2/{SPEC}")
    found = re.search(r'href="(/plain/[^"]+)"', text) or re.search(r"url=(/plain/[^\"]+)", text)
    assert found, text
    status, where, _ = await browser.get(html.unescape(found[1]).removeprefix("/"))
    assert (status, where.partition("/plain-launch/")[0]) == (303, "")
    async with asyncio.timeout(90):
        while not gateway.members[0].tokens:
            await asyncio.sleep(0.05)
    assert gateway.members[0].claims(gateway.key, time.time()).user == "alice@example.org"


async def test_a_launch_goes_on_for_who_knows_it(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(1, visitors=visitors(provider))
    browser = Browser(gateway)
    await browser.log_in()
    status, _, text = await browser.get(f"v2/{SPEC}")
    config = re.search(r"window\.pageConfig = (\{.*?\});", text)
    assert (status, bool(config)) == (200, True)
    assert config
    query = f"?build_token={json.loads(config[1])['buildToken']}"
    seen = [identity async for identity, _ in gateway.events(SPEC, browser.header, query)]
    # Its login may have ended since.
    rest = [identity async for identity, _ in gateway.events(SPEC, {"Last-Event-ID": seen[0]})]
    assert rest == seen[1:]


async def test_where_nobody_logs_in_no_token_names_anybody(start: Starter) -> None:
    gateway = await start.gateway(1)
    assert (await gateway.launch())[-1].phase == Phase.READY
    assert gateway.members[0].claims(gateway.key, time.time()).user == ""
    async with gateway.http.get(f"{gateway.url}oauth_callback") as response:
        assert response.status == 404


FAULTS: list[tuple[Fault, int, str]] = [
    ("signature", 403, "not believed"),
    ("nonce", 403, "nonce"),
    ("denied", 403, "access_denied"),
    ("error", 403, "server_error"),
]


async def test_what_a_provider_should_not_say_lets_nobody_in(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(0, visitors=visitors(provider))
    browser = Browser(gateway)
    for fault, expected, said in FAULTS:
        provider.faults = {fault}
        status, _, text = await browser.log_in()
        assert (status, said in text) == (expected, True), fault
    provider.faults = set()
    for claims, said in (
        ({"email": "eve@example.org", "email_verified": False}, "has not verified"),
        ({"email": "a/b"}, "no name that will do"),
        ({"email": ["a"]}, "no name that will do"),
        ({"email": ".."}, "no name that will do"),
    ):
        provider.claims = {"sub": "1", **claims}
        status, _, text = await browser.log_in()
        assert (status, said in text) == (403, True), claims
    assert browser.cookies == {}
    await provider.stop()
    assert (await Browser(await start.gateway(0, visitors=visitors(provider))).get(""))[0] == 503


async def test_visitors_may_be_some_of_those_who_can_log_in(start: Starter, provider: FakeOidc) -> None:
    allowed = [{"claim": "groups", "value": "students"}, {"claim": "email", "value": "guest@example.org"}]
    gateway = await start.gateway(0, visitors=visitors(provider, allowed=allowed))
    status, _, text = await Browser(gateway).log_in()
    assert (status, "not among those who may visit" in text) == (403, True)
    provider.claims["groups"] = ["staff", "students"]
    assert (await Browser(gateway).log_in())[0] == 303


async def test_a_login_ends_in_its_time(provider: FakeOidc) -> None:
    now = 1000.0
    settings = VisitorOidcSettings.model_validate({**visitors(provider)["oidc"], "session": "8h"})
    async with aiohttp.ClientSession() as http:
        login = VisitorLogin(settings, http, wall=lambda: now)
        kept = {"name": "alice", "until": now + settings.session}
        assert await login.user(kept) == "alice"
        now += 8 * 3600 - 1
        assert await login.user(kept) == "alice"
        now += 1
        assert await login.user(kept) == ""
        assert await login.user({"name": "alice"}) == ""


async def test_who_has_a_session_of_a_repository_is_led_back_to_it(start: Starter, provider: FakeOidc) -> None:
    gateway = await start.gateway(3, visitors=visitors(provider))
    browser = Browser(gateway)
    await browser.log_in()
    for fake in gateway.members:
        # It is full besides, and has no image: the session is what counts.
        owners = (session_owner("alice@example.org", REPO),) if fake.name == "member-3" else ()
        report = replace(fake.report(time.time(), images=()), session_owners=owners)
        async with gateway.http.post(f"{gateway.url}api/v1/reports", data=fake.signed(report)) as response:
            assert response.status == 204, await response.text()
    for _ in range(3):
        last = (await browser.launch())[-1]
        assert last.fields["member"] == "member-3"
    explained = [event.fields["why"] for event in await browser.launch() if "why" in event.fields]
    assert explained == ["pinned"]


def test_a_session_leads_back_wherever_it_can_be_reached() -> None:
    owner = session_owner("alice", REPO)
    there = up("there", free=0)
    assert there.received is not None
    report = replace(there.received.report, session_owners=(owner,))
    there = replace(there, received=replace(there.received, report=report))
    others = [up("a", free=50), up("b", free=50)]
    decision = choose(fleet(*others, there), REPO, owner=owner)
    assert decision.candidates[0].member == "there"
    assert decision.candidates[0].standing is Standing.PINNED
    assert decision.candidates[0].group == "pinned"
    # It has failed this launch: the others are asked before it is again.
    assert choose(fleet(*others, there), REPO, owner=owner, tried=("there",)).candidates[-1].member == "there"
    # Nobody's else, nor another repository's.
    for asked in ("", session_owner("bob", REPO), session_owner("alice", RepoKey("other"))):
        assert choose(fleet(*others, there), REPO, owner=asked).candidates[0].member != "there"


def test_nobody_has_no_sessions_and_names_tell_nothing() -> None:
    assert session_owner("", REPO) == ""
    assert "alice" not in session_owner("alice", REPO)
    assert session_owner("alice", REPO) != session_owner("alic", RepoKey(f"e{REPO}"))


async def test_another_replica_goes_on_for_the_same_visitor(start: Starter) -> None:
    gateway = await start.gateway(0)
    spec = gateway.parts.providers.parse(SPEC)
    launch = Launch("0" * 32, spec, 1.0, Visitor(user="alice"))
    assert load_launch(launch.id, dump_launch(launch), gateway.parts.providers.parse).visitor.user == "alice"


async def test_a_member_that_joins_is_checked_as_far_as_that_goes(start: Starter, provider: FakeOidc) -> None:
    fake = await newcomer(start)
    settings = {**OPEN, "joining": {"allow_loopback": True, "patience": "60s"}}
    gateway = await start.gateway(0, **settings, visitors=visitors(provider))
    async with reporting(gateway, fake):
        await join(gateway, fake, await join_token(gateway))
        check = await checked(gateway)
    assert check["passed"] is True, check
    assert [step["name"] for step in check["steps"]][-2:] == ["launch", "session"]
    assert fake.claims(gateway.key, time.time()).user == canary.USER
    assert fake.versions["manybinder"] == version("manybinder")


async def test_settings_that_do_not_fit_are_told(start: Starter, provider: FakeOidc) -> None:
    gateway, fake = await start.gateway(0), await start.member("member-1")
    for changes, said in (
        ({"mode": "redirect"}, "visitors: oidc is for mode proxy"),
        ({"member_changes": {"kind": "binderhub"}}, "member-1 is a BinderHub"),
        ({"member_changes": {"origins": ["http://gateway.example:9002"]}}, "sessions of member-1 are on gateway"),
        ({"visitors": visitors(provider, scopes=["email"])}, "must hold openid"),
        ({"visitors": visitors(provider, issuer="http://login.example.org")}, "must begin with https"),
    ):
        with pytest.raises(ValidationError, match=said):
            gateway_settings(start.data_dir, gateway.key, [fake], **{"visitors": visitors(provider), **changes})
    apart = {"public_url": "http://gateway.example/binder/", "member_changes": {"origins": ["http://gateway.example"]}}
    tree = {**apart, "visitors": visitors(provider)}
    assert gateway_settings(start.data_dir, gateway.key, [fake], **tree).visitors.oidc
