"""How the gateway's own pages look: every state in light and dark, on a desktop and a phone.

Pictures are written to ``screenshots/``, for people to look through.
"""

import time

import pytest
from playwright.async_api import Page, expect

from gateway.core.admission import PROPOSAL
from gateway.core.alerts import AlertName
from gateway.core.history import (
    DAY,
    DAYS,
    HISTORY,
    HOUR,
    WHOLE,
    Seconds,
    Slot,
    launched,
    slot_key,
    slot_value,
    start_of,
)
from gateway.core.incidents import INCIDENT, incidents
from gateway.core.records import Change
from tests.chromium import in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import SPEC, Gateway, Starter, until
from tests.gateway.joining import OPEN, join, join_token
from tests.gateway.test_operators import ADMIN, BOSS, VIEWER, ask
from tests.gateway.test_operators_login import started
from tests.gateway.test_queue import make_room
from tests.gateway.test_visitors_login import visitors
from tests.looks import first_paint_without_scripts, first_visit, look

__all__ = ["start"]

pytestmark = in_chromium

MEMBERS = {"labels": {"region": "Europe"}}


async def _quarter_of_ups_and_downs(gateway: Gateway) -> None:
    """A history, as if the gateway had watched for long."""
    now, changes = gateway.parts.fleet.now(), []
    for name, seed in (("member-1", 7), ("member-2", 5), (WHOLE, 40)):
        for n in range(DAYS):
            start = start_of(now, DAY) - n * DAY
            seconds = Seconds(DAY - 9000, 9000 if n % seed == 3 else 0, 0) if n % 31 < 27 else Seconds(0, 0, DAY)
            slot = Slot(start, {0: seconds} if n < 70 else {})
            changes.append(Change(HISTORY, slot_key(name, start, DAY), slot_value(slot)))
        for n in range(20):
            start = start_of(now, HOUR) - n * HOUR
            trouble = 200 if n % seed == 2 else 0
            slot = Slot(start, {cell: Seconds(300 - trouble, trouble, 0) for cell in range(12)}, launched(9.0))
            changes.append(Change(HISTORY, slot_key(name, start, HOUR), slot_value(slot)))
    await gateway.parts.records.write(*changes)


async def _entered(gateway: Gateway, page: Page, token: str = BOSS) -> None:
    gateway.parts.operators.public_url = gateway.url
    await page.goto(f"{gateway.url}admin")
    await page.locator("#token").fill(token)
    await page.locator("#token").press("Enter")


async def test_the_status_of_a_federation_in_trouble(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(3, admin=ADMIN, member_changes=MEMBERS)
    await _quarter_of_ups_and_downs(gateway)
    await ask(gateway, BOSS, "POST", "notes", {"text": "We move to another building on Friday."})
    await ask(gateway, BOSS, "PUT", "members/member-3/policy", {"policy": "draining"})
    await make_room(gateway, gateway.members[0], 4)
    await gateway.launch()
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    await page.goto(f"{gateway.url}status")
    await expect(page.locator(".incident.standing")).to_be_visible()
    assert await look(page, "status", axe_script) == []
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await page.reload()
    assert await look(page, "german-status", axe_script) == []


@pytest.mark.slow  # more pictures of pages that others show
async def test_the_status_of_a_federation_that_is_well_again(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(2)
    await _quarter_of_ups_and_downs(gateway)
    second = gateway.members[1]
    second.knobs.health_status = 503
    await gateway.until_state("member-2", "failing")
    await until(lambda: gateway.parts.records.book.of(INCIDENT))
    second.knobs.health_status = 200
    await until(lambda: all(item.closed_at for item in incidents(gateway.parts.records.book)))
    await gateway.until_state("member-2", "available")
    await page.goto(f"{gateway.url}status")
    await expect(page.locator(".incident")).to_be_visible()
    assert await look(page, "status-well", axe_script) == []


@pytest.mark.slow  # more pictures of pages that others show
async def test_the_status_of_a_federation_that_is_full_or_down(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(2)
    for member in gateway.members:
        await make_room(gateway, member, 0)
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#headline")).to_contain_text("are full (2 of 2)")
    assert await look(page, "status-full", axe_script) == []
    for member in gateway.members:
        await member.stop()
        await gateway.until_state(member.name, "unreachable")
    await expect(page.locator("#headline")).to_contain_text("No member takes launches")
    await expect(page.locator(".incident.standing").first).to_be_visible()
    assert await look(page, "status-down", axe_script) == []
    # What it tells itself when nobody answers any more.
    await gateway.runner.cleanup()
    await expect(page.locator("#connection")).to_contain_text("does not answer")
    assert await look(page, "status-lost", axe_script) == []


async def test_the_status_of_a_federation_of_nobody(
    start: Starter, page: Page, axe_script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start.gateway(0, mode="redirect")
    await page.goto(f"{gateway.url}status")
    assert await look(page, "status-nobody", axe_script) == []
    monkeypatch.setattr(type(gateway.parts.replicas), "away_since", time.time() - 75)
    await page.reload()
    await expect(page.locator("#live")).to_contain_text("degraded")
    assert await look(page, "status-degraded", axe_script) == []


async def test_what_operators_see(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(
        3, admin={"tokens": [*ADMIN["tokens"], *OPEN["admin"]["tokens"]]}, joining=OPEN["joining"]
    )
    await page.goto(f"{gateway.url}admin")
    assert await look(page, "admin-login", axe_script) == []
    await _entered(gateway, page, "nobody's")
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await look(page, "admin-login-refused", axe_script) == []
    await _entered(gateway, page)
    await expect(page.locator("#member-member-1")).to_be_visible()
    assert await look(page, "admin-quiet", axe_script) == []

    await ask(gateway, BOSS, "POST", "notes", {"text": "We move to another building on Friday."})
    await ask(gateway, BOSS, "PUT", "members/member-3/policy", {"policy": "draining"})
    await ask(gateway, BOSS, "PUT", "members/member-1/weight", {"weight": 0.5})
    ban = {"kind": "owner", "value": "github.com/miner", "reason": "coins", "for": "24h"}
    await ask(gateway, BOSS, "PUT", "bans", ban)
    await ask(gateway, BOSS, "PUT", "quotas", {"name": "github.com/org/course", "limit": 300})
    await ask(gateway, VIEWER, "PUT", "quotas", {"name": "total", "limit": 1})
    proposal = {"kind": "network", "value": "198.51.100.0/24", "reason": "floods", "member": "member-1", "until": None}
    await gateway.parts.records.write(Change(PROPOSAL, "member-1 network:198.51.100.0/24", proposal))
    gateway.parts.alerts.begin(AlertName.CLOCK_SKEW, "member-2", "Its clock is 42 s ahead of ours.")
    newcomer = await start.member("newcomer")
    await join(gateway, newcomer, await join_token(gateway))
    await make_room(gateway, gateway.members[0], 4)
    await gateway.launch()
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    await page.reload()
    await expect(page.locator("#member-newcomer")).to_be_visible()
    assert await look(page, "admin", axe_script) == []
    await page.get_by_role("button", name="Lift the ban").click()
    await expect(page.locator("#done")).to_be_visible()
    assert await look(page, "admin-done", axe_script) == []
    await page.locator("#ban-kind").select_option("network")
    await page.locator("#ban-value").fill("not a network")
    await page.get_by_role("button", name="Ban, and end what it hits").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await look(page, "admin-refused", axe_script) == []
    await page.context.clear_cookies()
    await _entered(gateway, page, VIEWER)
    await expect(page.locator("#member-member-1")).to_be_visible()
    assert await look(page, "admin-viewer", axe_script) == []


@pytest.mark.slow  # more pictures of pages that others show
async def test_what_operators_see_in_german(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(3, admin=ADMIN)
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await ask(gateway, BOSS, "PUT", "members/member-3/policy", {"policy": "draining"})
    await ask(gateway, BOSS, "PUT", "members/member-1/weight", {"weight": 0.5})
    await ask(
        gateway, BOSS, "PUT", "bans", {"kind": "owner", "value": "github.com/miner", "reason": "coins", "for": "24h"}
    )
    await ask(gateway, BOSS, "PUT", "quotas", {"name": "github.com/org/course", "limit": 1})
    gateway.parts.alerts.begin(AlertName.CLOCK_SKEW, "member-2", "Its clock is 42 s ahead of ours.")
    await gateway.launch()
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    await gateway.until_state("member-3", "draining")
    await _entered(gateway, page)
    await expect(page.locator("#member-member-1")).to_be_visible()
    assert await look(page, "german-admin", axe_script) == []


async def test_an_operators_session(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await started(start, await start.oidc(groups=["binder-operators"]))
    await page.goto(f"{gateway.url}admin")
    assert await look(page, "admin-login-people", axe_script) == []
    await page.goto(f"{gateway.url}api/v1/admin/login")
    await page.goto(f"{gateway.url}api/v1/admin/session")
    assert await look(page, "operator", axe_script) == []
    await page.get_by_role("button", name="Make a token for the command line").click()
    await expect(page.locator("#token")).to_be_visible()
    assert await look(page, "operator-token", axe_script) == []

    async def token() -> None:
        await page.goto(f"{gateway.url}api/v1/admin/session")
        await page.get_by_role("button", name="Make a token for the command line").click()
        await expect(page.locator("#token")).to_be_visible()

    await first_visit(page, gateway.url, token)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.locator("#main")).to_contain_text("You are logged out")
    assert await look(page, "operator-out", axe_script) == []


async def _read_with_scripts(page: Page, address: str, axe_script: str) -> list[str]:
    """What axe, which is a script, finds wrong with a page for browsers without any."""
    await page.goto(address)
    # That it refreshes itself is told on it, and there is no other way; here it stays as it is.
    await page.route("**/plain-launch/**", lambda route: route.fulfill(status=204))
    found = await look(page, "plain-with-scripts", axe_script, without=["meta-refresh"])
    await page.unroute("**/plain-launch/**")
    return found


async def test_launches_without_scripts(start: Starter, page: Page, plain_page: Page, axe_script: str) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.gate_at = 12
    first.lines = 20
    first.knobs.final = {"phase": "failed", "message": "postBuild ended with status 3.\n", "failure": "user"}
    await plain_page.goto(f"{gateway.url}v2/{SPEC}?labpath=a.ipynb", wait_until="commit")
    await plain_page.wait_for_url("**/plain-launch/**")
    await until(lambda: first.builds)
    await expect(plain_page.get_by_role("heading", level=1)).to_have_text("Building the environment")
    assert await look(plain_page, "plain") == []
    assert await _read_with_scripts(page, plain_page.url, axe_script) == []
    first.gate.set()
    await expect(plain_page.get_by_role("heading", level=1)).to_have_text("The launch failed")
    assert await look(plain_page, "plain-failed") == []
    assert await _read_with_scripts(page, plain_page.url, axe_script) == []
    await first_visit(page, plain_page.url)
    await plain_page.goto(f"{gateway.url}plain-launch/{'0' * 32}")
    assert await look(plain_page, "plain-unknown") == []
    assert await _read_with_scripts(page, plain_page.url, axe_script) == []
    await first_visit(page, plain_page.url)


@pytest.mark.slow  # more pictures of pages that others show
async def test_a_face_of_ones_own(start: Starter, page: Page, axe_script: str) -> None:
    gateway = await start.gateway(
        2,
        name="The Binder of the Universities of the North",
        about="<p>Run by the computing centres of the <a href='https://north.example/'>North</a>.</p>",
        banner="<p>On Friday, <b>27 November</b>, we move. Save your work before 17:00.</p>",
        visitors=visitors(await start.oidc()),
        face={
            "accent": "#7a1f5c",
            "links": [{"text": "Help", "url": "https://help.example/"}],
            "footer_html": "<p><a href='https://north.example/imprint'>Imprint</a></p>",
        },
    )
    await page.goto(f"{gateway.url}about")
    assert await look(page, "face-about", axe_script) == []
    await page.goto(f"{gateway.url}status")
    assert await look(page, "face-status", axe_script) == []
    await page.goto(f"{gateway.url}oauth_callback?code=x&state=y")
    await expect(page.get_by_role("heading", level=1)).to_have_text("You could not be logged in")
    assert await look(page, "login-failed", axe_script) == []


async def test_what_a_first_visit_costs(start: Starter, page: Page) -> None:
    gateway = await start.gateway(3, admin=ADMIN, member_changes=MEMBERS)
    await _quarter_of_ups_and_downs(gateway)
    assert await first_visit(page, f"{gateway.url}status")
    assert await first_visit(page, f"{gateway.url}admin")
    await _entered(gateway, page)
    await expect(page.locator("#member-member-1")).to_be_visible()
    assert await first_visit(page, f"{gateway.url}admin")


async def test_the_first_paint_of_the_status_waits_for_no_script(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2)
    await first_paint_without_scripts(page, f"{gateway.url}status")
