"""People log in with OpenID Connect at a real provider; what it says is checked, and what a browser sends too."""

import asyncio
from typing import Any, Self

import aiohttp
import pytest
from yarl import URL

from gateway.admin_settings import AdminSettings
from gateway.core.operators import LOGIN, Grant, Role, login_operator
from gateway.web.admin.routes import PREFIX
from tests.fakes.oidc import CLIENT, SECRET, FakeOidc, Fault
from tests.gateway.harness import Gateway, Starter
from tests.gateway.test_operators import BOSS, ask

ROLES = [
    {"claim": "groups", "value": "binder-operators", "role": "operator"},
    {"claim": "email", "value": "owner@example.org", "role": "member", "member": "member-1"},
]


class Browser:
    """A browser that an operator has before them; the gateway believes to be at ``base``."""

    def __init__(self, gateway: Gateway, base: str = "") -> None:
        self.gateway, self.base = gateway, base or gateway.url
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def get(self, url: str | URL, **more: Any) -> tuple[int, aiohttp.ClientResponse, str]:
        """What an address answers, without following."""
        async with self.http.get(url, allow_redirects=False, **more) as response:
            return response.status, response, await response.text()

    async def log_in(self) -> tuple[int, str]:
        """Go to the provider and back; the last status and body."""
        status, response, text = await self.get(f"{self.gateway.url}{PREFIX}login")
        if status != 302:
            return status, text
        status, response, text = await self.get(URL(response.headers["Location"], encoded=True))
        assert status == 302, text
        return await self.come_back(response.headers["Location"])

    async def come_back(self, url: str) -> tuple[int, str]:
        """What the gateway answers to who comes back."""
        status, _, text = await self.get(URL(url, encoded=True))
        return status, text

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """A call of the API with what cookies there are."""
        url = f"{self.gateway.url}{PREFIX}{path}"
        async with self.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None) if response.status != 204 else {}

    async def act(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """A call as the API's own pages make it."""
        _, who = await self.call("GET", "whoami")
        headers = {"Origin": self.base.rstrip("/"), "X-CSRF-Token": who.get("csrf_token", "")}
        return await self.call(method, path, body, **headers)


@pytest.fixture
async def provider(start: Starter) -> FakeOidc:
    """A provider where alice, an operator, logs in."""
    return await start.oidc(groups=["staff", "binder-operators"])


def admin(provider: FakeOidc, **changes: Any) -> dict[str, Any]:
    """Settings."""
    oidc = {"issuer": provider.url, "client_id": CLIENT, "client_secret": SECRET, "roles": ROLES, **changes}
    return {"oidc": oidc, "tokens": [{"name": "boss", "token": BOSS}]}


async def started(start: Starter, provider: FakeOidc, members: int = 1, **changes: Any) -> Gateway:
    """A gateway that browsers find where it is."""
    security = changes.pop("security", {})
    gateway = await start.gateway(members, admin=admin(provider, **changes), security=security)
    gateway.parts.operators.public_url = gateway.url
    return gateway


async def test_somebody_logs_in_acts_and_logs_out(start: Starter, provider: FakeOidc) -> None:
    gateway = await started(start, provider)
    async with Browser(gateway) as browser:
        assert (await browser.call("GET", "whoami"))[0] == 401
        assert await browser.log_in() == (303, "")
        status, who = await browser.call("GET", "whoami")
        assert (status, who["name"], who["role"], who["by"]) == (200, "alice@example.org", "operator", "login")
        page = (await browser.get(f"{gateway.url}{PREFIX}session"))[2]
        assert "You are alice@example.org, with the role operator" in page
        assert (await browser.act("PUT", "bans", {"kind": "owner", "value": "github.com/miner"}))[0] == 200
        _, log = await ask(gateway, BOSS, "GET", "log?kind=act")
        assert [(item["who"], item["name"], item["role"]) for item in log["entries"]] == [
            ("alice@example.org", "PUT bans", "operator"),
            ("alice@example.org", "GET login", "operator"),
        ]
        assert "staff" not in repr(log)
        # What is exported goes to other places: it holds decisions, and not what a provider says of people.
        _, state = await ask(gateway, BOSS, "POST", "export")
        assert "ban" in {record["kind"] for record in state["records"]}
        assert not any(record["kind"] == LOGIN for record in state["records"])
        cookies = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
        assert (await browser.act("POST", "session/end"))[0] == 204
        assert (await browser.call("GET", "whoami"))[0] == 401
        # Whoever has kept the cookie is out as well.
        browser.http.cookie_jar.update_cookies(cookies, URL(gateway.url))
        assert (await browser.call("GET", "whoami"))[0] == 401


FAULTS: list[tuple[Fault, int, str]] = [
    ("signature", 403, "not believed"),
    ("audience", 403, "not believed"),
    ("issuer", 403, "not believed"),
    ("expired", 403, "not believed"),
    ("nonce", 403, "nonce"),
    ("no nonce", 403, "nonce"),
    ("azp", 403, "azp"),
    ("none", 403, "not believed"),
    ("hs256", 403, "not believed"),
    ("denied", 403, "access_denied"),
    ("no token", 403, "no ID token"),
    ("garbage", 403, "not understood"),
    ("error", 403, "server_error"),
    ("impostor", 403, "calls itself"),
]


async def test_what_a_provider_should_not_say_lets_nobody_in(start: Starter, provider: FakeOidc) -> None:
    gateway = await started(start, provider, 0)
    for fault, expected, said in FAULTS:
        provider.faults = {fault}
        # What it says of itself is remembered while it is good.
        gateway.parts.operators.provider._found_at = -1e9  # type: ignore[union-attr]
        async with Browser(gateway) as browser:
            status, text = await browser.log_in()
            assert (status, said in text) == (expected, True), (fault, text)
            assert (await browser.call("GET", "whoami"))[0] == 401
    assert not gateway.parts.records.book.of("login")


async def test_a_provider_that_is_away_or_changes_its_keys(start: Starter, provider: FakeOidc) -> None:
    gateway = await started(start, provider, 0)
    async with Browser(gateway) as browser:
        assert (await browser.log_in())[0] == 303
        provider.rotate()
        gateway.parts.operators.provider._keys.cooldown_duration = 0.0  # type: ignore[union-attr]
        assert (await browser.log_in())[0] == 303
        assert provider.asked.count("jwks") == 2
        await provider.stop()
        gateway.parts.operators.provider._found_at = -1e9  # type: ignore[union-attr]
        status, text = await browser.log_in()
        assert (status, "cannot be reached" in text) == (503, True)
        # Who is in stays in: a provider that is away at 3 a.m. ends nobody's session.
        assert (await browser.call("GET", "whoami"))[0] == 200


async def test_a_login_is_finished_once_and_by_the_browser_that_has_begun_it(
    start: Starter, provider: FakeOidc
) -> None:
    gateway = await started(start, provider, 0)
    async with Browser(gateway) as victim, Browser(gateway) as thief:
        _, response, _ = await thief.get(f"{gateway.url}{PREFIX}login")
        _, response, _ = await thief.get(URL(response.headers["Location"], encoded=True))
        back = response.headers["Location"]
        # Somebody else's code, in a link (login CSRF): the victim has begun no login, or another one.
        assert (await victim.come_back(back))[0] == 403
        await victim.get(f"{gateway.url}{PREFIX}login")
        status, text = await victim.come_back(back)
        assert (status, "state" in text) == (403, True)
        assert (await thief.come_back(back))[0] == 303
        assert (await thief.come_back(back))[0] == 403
        wrong = URL(back).update_query(state="x")
        assert (await victim.come_back(str(wrong)))[0] == 403


async def test_a_page_of_another_origin_changes_nothing_in_the_name_of_who_is_logged_in(
    start: Starter, provider: FakeOidc
) -> None:
    gateway = await started(start, provider, security={"cors_allow_origin": "*"})
    async with Browser(gateway) as browser:
        await browser.log_in()
        _, who = await browser.call("GET", "whoami")
        own, csrf = gateway.url.rstrip("/"), who["csrf_token"]
        ban = {"kind": "owner", "value": "github.com/victim"}
        for headers in (
            {},
            {"Origin": own},
            {"X-CSRF-Token": csrf},
            {"Origin": "https://hub.example.org", "X-CSRF-Token": csrf},
            {"Origin": "null", "X-CSRF-Token": csrf},
            {"Origin": own, "X-CSRF-Token": "x" * 64},
        ):
            status, answer = await browser.call("PUT", "bans", ban, **headers)
            assert (status, answer["title"]) == (403, "Not From Here"), headers
        assert (await browser.call("PUT", "bans", ban, Origin=own, **{"X-CSRF-Token": csrf}))[0] == 200
        async with browser.http.get(
            f"{gateway.url}{PREFIX}whoami", headers={"Origin": "https://a.example"}
        ) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Cache-Control"] == "no-store"
        # A cookie is no token: whoever sends both is known by the token alone.
        assert (await browser.call("GET", "whoami", Authorization="Bearer nonsense"))[0] == 401


async def test_a_token_for_the_command_line_ends_with_its_session(start: Starter, provider: FakeOidc) -> None:
    provider.claims = {"sub": "2", "email": "owner@example.org", "email_verified": True}
    gateway = await started(start, provider, 2)
    async with Browser(gateway) as browser:
        await browser.log_in()
        _, who = await browser.call("GET", "whoami")
        form = {"csrf_token": who["csrf_token"]}
        headers = {"Accept": "text/html", "Origin": gateway.url.rstrip("/")}
        url = f"{gateway.url}{PREFIX}session/token"
        async with browser.http.post(url, data={"csrf_token": "x"}, headers=headers) as response:
            assert response.status == 403
        async with browser.http.post(url, data=form, headers=headers) as response:
            page = await response.text()
            assert response.status == 200, page
        token = page.partition('<pre class="card" id="token">')[2].partition("</pre>")[0]
        _, who = await ask(gateway, token, "GET", "whoami")
        assert (who["name"], who["role"], who["member"]) == ("owner@example.org", "member", "member-1")
        assert (await ask(gateway, token, "PUT", "members/member-1/policy", {"policy": "draining"}))[0] == 200
        assert (await ask(gateway, token, "PUT", "members/member-2/policy", {"policy": "draining"}))[0] == 403
        cookies = {cookie.key: cookie.value for cookie in browser.http.cookie_jar}
        # A session's secret is for its cookie, and a token's for the header.
        assert (await ask(gateway, cookies["manybinder-operator"], "GET", "whoami"))[0] == 401
        _, listed = await ask(gateway, BOSS, "GET", "tokens")
        assert {item["by"] for item in listed["tokens"]} == {"login"}
        (session,) = [item["id"] for item in listed["tokens"] if item["id"] in cookies["manybinder-operator"]]
        assert (await ask(gateway, BOSS, "DELETE", f"tokens?id={session}"))[0] == 204
        assert (await ask(gateway, token, "GET", "whoami"))[0] == 401
        assert (await ask(gateway, BOSS, "GET", "tokens"))[1] == {"tokens": []}
        assert (await browser.call("GET", "whoami"))[0] == 401


async def test_who_has_no_role_is_not_let_in_and_who_loses_it_is_out_at_once(
    start: Starter, provider: FakeOidc
) -> None:
    gateway = await started(start, provider)
    async with Browser(gateway) as browser:
        for claims in (
            {"sub": "3", "email": "eve@example.org", "groups": ["binder-operators-not"]},
            {"sub": "3", "email": "eve@example.org", "groups": "binder"},
        ):
            provider.claims = claims
            status, text = await browser.log_in()
            assert (status, "no role" in text) == (403, True), claims
        for claims in ({"sub": "3"}, {"sub": "3", "email": "eve\n[ok]@example.org", "groups": ["binder-operators"]}):
            provider.claims = claims
            assert (await browser.log_in())[0] == 403
        _, log = await ask(gateway, BOSS, "GET", "log?who=eve@example.org")
        assert [(item["outcome"], item["role"]) for item in log["entries"]] == [("refused", "none")]
        provider.claims = {"sub": "1", "email": "alice@example.org", "groups": ["binder-operators"]}
        await browser.log_in()
        assert (await browser.call("GET", "whoami"))[0] == 200
        # Read again with SIGHUP, for example.
        gateway.parts.operators.configure(AdminSettings.model_validate(admin(provider, roles=ROLES[1:])))
        assert (await browser.call("GET", "whoami"))[0] == 401


async def test_an_address_that_nobody_has_verified_names_nobody(start: Starter, provider: FakeOidc) -> None:
    gateway = await started(start, provider, 0)
    # A role by the groups, and an address that anybody may type in.
    provider.claims = {
        "sub": "3",
        "email": "alice@example.org",
        "email_verified": False,
        "groups": ["binder-operators"],
    }
    async with Browser(gateway) as browser:
        status, text = await browser.log_in()
        assert (status, "not verified" in text) == (403, True)
    assert not (await ask(gateway, BOSS, "GET", "log?kind=act"))[1]["entries"]


async def test_a_session_holds_at_every_replica_and_over_a_restart(start: Starter, provider: FakeOidc) -> None:
    one, two = await start.replicas(2, await start.redis(), members=0, admin=admin(provider))
    for gateway in (one, two):
        gateway.parts.operators.public_url = one.url
    async with Browser(one) as browser:
        await browser.log_in()
        (cookie,) = [item.value for item in browser.http.cookie_jar if item.key == "manybinder-operator"]
        headers = {"Cookie": f"manybinder-operator={cookie}"}
        async with one.http.get(f"{two.url}{PREFIX}whoami", headers=headers) as response:
            assert (response.status, (await response.json())["name"]) == (200, "alice@example.org")


async def test_operators_may_have_a_host_of_their_own_where_there_is_nothing_else(start: Starter) -> None:
    admin = {"public_url": "https://ops.example/", "tokens": [{"name": "boss", "token": BOSS}]}
    gateway = await start.gateway(1, admin=admin, security={"allowed_hosts": ["gateway.example"]})
    token = {"Authorization": f"Bearer {BOSS}"}

    async def status(host: str, path: str) -> int:
        url = URL(gateway.url + path, encoded=True)
        async with gateway.http.get(url, headers={"Host": host, **token}, allow_redirects=False) as response:
            return response.status

    for path in (f"{PREFIX}whoami", f"{PREFIX}bans", f"{PREFIX}session", "api/v1/%61dmin/whoami"):
        assert await status("gateway.example", path) == 404, path
    assert await status("ops.example", f"{PREFIX}whoami") == 200
    assert await status("OPS.example", f"{PREFIX}members") == 200
    for path in (
        "",
        "status",
        "api/v1/federation",
        "metrics",
        "openapi.json",
        "build/gh/a/b/c",
        "v2/gh/a/b/c",
        "nowhere",
    ):
        assert await status("ops.example", path) == 404, path
        assert await status("gateway.example", path) == (404 if path == "nowhere" else 200), path
    for host in ("ops.example", "gateway.example", "10.1.2.3"):
        assert await status(host, "livez") == 200
    assert await status("elsewhere.example", f"{PREFIX}whoami") == 421


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"groups": ["a", "ops"]}, Role.OPERATOR),
        ({"groups": "ops"}, Role.OPERATOR),
        ({"groups": ["ops-not"]}, None),
        ({"groups": {"ops": 1}}, None),
        ({"groups": None}, None),
        ({"email": "a@b"}, Role.VIEWER),
        ({"email": "a@b", "email_verified": False}, None),
        ({"email": "a@b", "email_verified": "false"}, None),
        ({"groups": ["ops"], "email": "a@b"}, Role.OPERATOR),
        ({"groups": ["ops"], "iss": "https://else"}, None),
    ],
)
def test_the_first_role_that_fits_counts(claims: dict[str, Any], role: Role | None) -> None:
    grants = [Grant("groups", "ops", Role.OPERATOR), Grant("email", "a@b", Role.VIEWER)]
    value = {"name": "a", "expires_at": 5.0, "claims": {"iss": "https://issuer", **claims}}
    found = login_operator("id", value, grants, "https://issuer")
    assert (found.role if found else None) == role


async def test_a_session_ends_when_its_time_is_up_and_what_is_known_of_its_person_goes(
    start: Starter, provider: FakeOidc
) -> None:
    gateway = await started(start, provider, 0, session="1s")
    async with Browser(gateway) as browser:
        await browser.log_in()
        await asyncio.sleep(1.1)
        assert (await browser.call("GET", "whoami"))[0] == 401
        (first,) = gateway.parts.records.book.of(LOGIN)
        await browser.log_in()
        assert first not in gateway.parts.records.book.of(LOGIN)


async def test_over_https_no_other_host_can_set_the_cookies_and_no_script_reads_them(
    start: Starter, provider: FakeOidc
) -> None:
    gateway = await started(start, provider, 0)
    gateway.parts.operators.public_url = "https://ops.example/"
    async with Browser(gateway) as browser:
        _, response, _ = await browser.get(f"{gateway.url}{PREFIX}login")
        (login,) = response.headers.getall("Set-Cookie")
        _, response, _ = await browser.get(URL(response.headers["Location"], encoded=True))
        back = URL(response.headers["Location"])
        assert back.host == "ops.example"
        headers = {"Cookie": login.partition(";")[0]}
        _, response, text = await browser.get(f"{gateway.url}{PREFIX}callback?{back.query_string}", headers=headers)
        cookies = [login, *response.headers.getall("Set-Cookie")]
    assert [cookie.partition("=")[0] for cookie in cookies if 'operator=""' not in cookie] == [
        *("__Host-manybinder-login", "__Host-manybinder-operator", "__Host-manybinder-login")
    ], text
    for cookie in cookies[:2]:
        attributes = {item.strip().lower() for item in cookie.split(";")[1:]}
        assert {"secure", "httponly", "path=/", "samesite=lax"} <= attributes
        assert "domain" not in cookie.lower()
