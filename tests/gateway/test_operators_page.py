"""The page for operators: forms that do what the API does, to whom it is allowed, from nowhere else."""

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import aiohttp
import pytest

from gateway.core.admission import PROPOSAL
from gateway.core.fleet import Policy
from gateway.core.records import Change
from gateway.web.admin.page import FORMS
from gateway.web.admin.routes import ROUTES
from tests.gateway.harness import Gateway, Starter
from tests.gateway.joining import OPEN, TOKEN, join, join_token
from tests.gateway.test_operators import ADMIN, BOSS, OWNER, VIEWER, ask

PUBLIC = "http://gateway.example"


@dataclass
class Browser:
    """A browser without scripts."""

    gateway: Gateway
    http: aiohttp.ClientSession
    origin: str = PUBLIC
    host: str = ""

    async def get(self, path: str = "admin", **headers: str) -> tuple[int, str]:
        """A page."""
        given = {"Accept": "text/html", **({"Host": self.host} if self.host else {}), **headers}
        async with self.http.get(self.gateway.url + path, headers=given, allow_redirects=False) as response:
            return response.status, response.headers.get("Location") or await response.text()

    async def post(self, path: str, *, csrf: str | None = None, origin: str = "", **fields: str) -> tuple[int, str]:
        """Send a form with the token that the page has; the page that follows."""
        if csrf is None:
            found = re.search(r'name="csrf_token" value="(\w+)"', (await self.get())[1])
            csrf = found[1] if found else ""
        headers = {"Origin": origin or self.origin, "Accept": "text/html"}
        data = {"csrf_token": csrf, **fields}
        url = f"{self.gateway.url}admin/{path}"
        async with self.http.post(url, data=data, headers=headers, allow_redirects=False) as response:
            if response.status != 303:
                return response.status, await response.text()
            location = response.headers["Location"]
        assert location.startswith("/admin")
        status, text = await self.get(location.lstrip("/"))
        return (303, text) if status == 200 else (status, text)

    async def press(self, button: str) -> tuple[int, str]:
        """Press the one button of this name that the page has; the page that follows."""
        forms = re.findall(
            r'<form method="post" action="/admin/([^"]+)">(.*?)</form>', (await self.get())[1], re.DOTALL
        )
        ((path, body),) = [item for item in forms if f">{button}</button>" in item[1]]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', body))
        return await self.post(unescape(path), csrf=fields.pop("csrf_token"), **fields)

    async def log_in(self, token: str) -> str:
        """The page after that."""
        return (await self.post("login", csrf="", token=token))[1]


@pytest.fixture
async def gateway(start: Starter) -> Gateway:
    """A gateway with two members and four operators."""
    return await start.gateway(2, admin=ADMIN)


@pytest.fixture
async def browser(gateway: Gateway) -> AsyncIterator[Browser]:
    """A browser at it."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        yield Browser(gateway, http)


async def test_who_has_no_token_gets_a_way_in_and_nothing_else(gateway: Gateway, browser: Browser) -> None:
    status, page = await browser.get()
    assert status == 401
    assert 'name="token"' in page
    assert "member-1" not in page
    for token in ("nobody's", "a-token-that-has-expired-for-tests", "mbt_00_11", ""):
        status, page = await browser.post("login", csrf="", token=token)
        assert status == 401
        assert "not known here, has expired, or was revoked" in page
    # A page elsewhere logs nobody in.
    assert (await browser.post("login", csrf="", origin="https://evil.example", token=BOSS))[0] == 403
    assert (await browser.get())[0] == 401
    assert "You are boss, with the role operator" in await browser.log_in(BOSS)
    (cookie,) = [item for item in browser.http.cookie_jar if item.key == "manybinder-operator"]
    assert BOSS not in cookie.value
    assert cookie["httponly"]
    status, page = await browser.post("logout")
    assert status == 401
    assert 'name="token"' in page


async def test_members_are_drained_weighed_and_suspended_and_it_stands_in_the_log(
    gateway: Gateway, browser: Browser
) -> None:
    await browser.log_in(BOSS)
    status, page = await browser.post("members/member-1/policy", policy="draining")
    # It is so as soon as it is said, and can be taken back.
    assert (status, "It is set." in page, 'aria-label="Undrain member-1"' in page) == (303, True, True)
    assert gateway.parts.fleet.snapshot.members[0].state == "draining"
    _, page = await browser.post("members/member-1/policy", policy="active")
    assert 'aria-label="Drain member-1"' in page
    await browser.post("members/member-2/weight", weight="0.5")
    for language, told in (("en", "Weight 0.5, set by hand."), ("de", "Gewicht 0,5, von Hand gesetzt.")):
        page = (await browser.get(**{"Accept-Language": language}))[1]
        assert told in page
        # The browser shows it as its user writes numbers, and sends it so again.
        assert 'name="weight" type="number" min="0" step="any" value="0.5"' in page
    assert "set by hand" not in (await browser.post("members/member-2/registered"))[1]
    _, page = await browser.post("members/member-2/policy", policy="suspended")
    assert 'aria-label="Activate member-2"' in page
    for field in ("weight=much", "weight=-1", "weight="):
        name, _, value = field.partition("=")
        status, page = await browser.post("members/member-1/weight", **{name: value})
        assert (status, "must be a number from 0" in page) == (422, True)
    assert (await browser.post("members/nobody/policy", policy="draining"))[0] == 404
    acts = (await ask(gateway, BOSS, "GET", "log?kind=act&member=member-2"))[1]["entries"]
    assert {(item["who"], item["name"]) for item in acts} >= {
        ("boss", "PUT members/member-2/policy"),
        ("boss", "PUT members/member-2/weight"),
        ("boss", "DELETE members/member-2/weight"),
    }
    page = (await browser.get())[1]
    assert "<strong>boss</strong> PUT members/member-2/policy" in page
    assert "member-2: available → suspended" in page


async def test_bans_proposals_quotas_notes_and_decisions(gateway: Gateway, browser: Browser) -> None:
    await gateway.launch()
    await gateway.parts.records.write(
        Change(
            PROPOSAL,
            "member-1 owner:github.com/miner",
            {"kind": "owner", "value": "github.com/miner", "reason": "coins", "member": "member-1", "until": None},
        )
    )
    page = await browser.log_in(BOSS)
    assert "takes git.example/org/repo" in page
    assert "member-1 proposes" in page
    status, page = await browser.post(
        "bans/add", kind="owner", value="github.com/miner", proposal="member-1 owner:github.com/miner"
    )
    assert status == 303
    assert "proposes" not in page
    assert (await browser.post("bans/lift?name=owner:github.com/miner"))[0] == 303
    assert "Nobody is banned." in (await browser.get())[1]
    status, page = await browser.post("bans/add", kind="network", value="not a network")
    assert status == 422
    # Where the form is, which still has what was typed.
    bans = page[page.index('aria-labelledby="bans"') : page.index('aria-labelledby="quotas"')]
    assert 'role="alert"' in bans
    assert '<option value="network" selected>' in bans
    assert 'value="not a network"' in bans
    assert (await browser.post("quotas/set", name="github.com/org/course", limit="300"))[0] == 303
    assert gateway.parts.admission.rules.quotas.repos["github.com/org/course"] == 300
    assert (await browser.post("quotas/set", name="total", limit=""))[0] == 303
    for limit in ("many", "9" * 5000):
        status, page = await browser.post("quotas/set", name="total", limit=limit)
        assert (status, 'name="name" value="total"' in page, f'value="{limit}"' in page) == (422, True, True)
    page = (await browser.get())[1]
    assert 'action="/admin/quotas/drop?name=github.com/org/course"' in page
    status, page = await browser.post("quotas/drop?name=github.com/org/course")
    assert (status, "The configuration counts again." in page) == (303, True)
    assert "Take back github.com/org/course" not in page
    assert "github.com/org/course" not in gateway.parts.admission.rules.quotas.repos
    assert (await browser.post("notes/add", text="<b>We move.</b>"))[0] == 303
    (note,) = (await ask(gateway, BOSS, "GET", "notes"))[1]["notes"]
    assert "&lt;b&gt;We move.&lt;/b&gt;" in (await browser.get())[1]
    assert (await browser.post(f"notes/drop?id={note['id']}"))[0] == 303


async def test_a_form_is_refused_without_its_token_from_elsewhere_and_to_other_roles(
    gateway: Gateway, browser: Browser
) -> None:
    await browser.log_in(BOSS)
    for form in FORMS:
        path = form.replace("{member}", "member-1")
        assert (await browser.post(path, csrf="wrong", policy="draining"))[0] == 403, form
        assert (await browser.post(path, origin="https://evil.example", policy="draining"))[0] == 403, form
    for token, mine in ((VIEWER, False), (OWNER, True)):
        page = await browser.log_in(token)
        assert ("admin/members/member-1/policy" in page) == mine
        assert "admin/members/member-2/policy" not in page
        assert "admin/bans/add" not in page
        status, page = await browser.post("members/member-2/policy", policy="draining")
        assert (status, "operator" in page) == (403, True)
        assert (await browser.post("bans/add", kind="owner", value="github.com/org"))[0] == 403
    assert (await browser.post("members/member-1/policy", policy="draining"))[0] == 303
    assert {view.policy for view in gateway.parts.fleet.snapshot.members} <= {Policy.ACTIVE, Policy.DRAINING}
    # A member's own operator does not see where others work from.
    assert "127.0.0.1" not in (await browser.get())[1]


async def test_a_typed_token_that_is_revoked_or_was_typed_long_ago_lets_nobody_in(
    gateway: Gateway, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, made = await ask(gateway, BOSS, "POST", "tokens", {"name": "guest", "role": "viewer"})
    assert status == 201
    assert "You are guest" in await browser.log_in(made["token"])
    await ask(gateway, BOSS, "DELETE", f"tokens?id={made['id']}")
    assert (await browser.get())[0] == 401
    await browser.log_in(BOSS)
    later: Any = lambda: time.time() + 9 * 3600  # noqa: E731 - a clock
    monkeypatch.setattr(gateway.parts.operators, "_wall", later)
    assert (await browser.get())[0] == 401


async def test_on_a_host_of_its_own_every_link_leads_somewhere(start: Starter) -> None:
    gateway = await start.gateway(1, admin={**ADMIN, "public_url": "http://ops.example/"})
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        browser = Browser(gateway, http, host="ops.example")
        assert await browser.get("") == (302, "/admin")
        status, page = await browser.get("admin", Authorization=f"Bearer {BOSS}")
        assert (status, "You are boss" in page) == (200, True)
        lost = await browser.get("status")
        assert lost[0] == 404
        for text in (page, lost[1], (await browser.get("admin"))[1]):
            for link in re.findall(r'(?:href|src)="(/[^"#]*)"', text):
                status, _ = await browser.get(link.lstrip("/"), Authorization=f"Bearer {BOSS}")
                assert status == 200, link
            assert 'href="http://gateway.example/status"' in text
        # And there is no page for operators where visitors are.
        browser.host = "gateway.example"
        assert (await browser.get("admin"))[0] == 404
        assert (await browser.get("status"))[0] == 200


async def test_a_member_is_accepted_checked_suspended_and_activated_and_a_proposal_dismissed(start: Starter) -> None:
    gateway = await start.gateway(0, **OPEN)
    fake = await start.member("newcomer")
    await join(gateway, fake, await join_token(gateway))
    await gateway.until_state("newcomer", "pending")
    proposed = {"kind": "owner", "value": "github.com/miner", "reason": "", "member": "newcomer", "until": None}
    await gateway.parts.records.write(Change(PROPOSAL, "newcomer owner:github.com/miner", proposed))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        browser = Browser(gateway, http)
        page = await browser.log_in(TOKEN)
        assert "It has joined: pending." in page
        for button, said, state in (
            ("Accept", "It is accepted.", "available"),
            ("Suspend", "It is set.", "suspended"),
            ("Activate", "It is set.", "available"),
            ("Check again", "It is being checked.", "available"),
        ):
            status, page = await browser.press(button)
            assert (status, said in page) == (303, True), button
            view = gateway.parts.fleet.snapshot.get("newcomer")
            assert view is not None
            assert view.state == state
        status, page = await browser.press("Dismiss")
        assert (status, "The proposal is dismissed." in page) == (303, True)
        assert "newcomer proposes" not in page
        assert "github.com/miner" not in page.split('id="decisions"')[0]
    assert not gateway.parts.records.book.of(PROPOSAL)
    acts = [item["name"] for item in (await ask(gateway, TOKEN, "GET", "log?kind=act"))[1]["entries"]]
    assert {name for name in acts if "members/" in name or "proposals" in name} == {
        "POST members/newcomer/accept",
        "PUT members/newcomer/policy",
        "POST members/newcomer/check",
        "DELETE proposals",
    }


def test_every_form_does_what_a_call_of_the_api_does_and_what_has_no_form_is_listed() -> None:
    acts = {(method, route) for method, route, _, _ in ROUTES if method != "GET"}
    calls = {(form.method, form.route) for form in FORMS.values()}
    assert calls - acts == set()
    # What gives a secret or takes a file has no place on a page; what takes a member away is asked for by its name.
    assert acts - calls == {
        ("DELETE", "members/{member}"),
        ("POST", "join-tokens"),
        ("DELETE", "join-tokens"),
        ("POST", "tokens"),
        ("DELETE", "tokens"),
        ("POST", "export"),
        ("POST", "import"),
        # The page of a login has these.
        ("POST", "session/token"),
        ("POST", "session/end"),
    }
