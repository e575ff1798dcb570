"""The status page in a real browser: it follows the federation by itself, and works without scripts."""

import asyncio
import time
from pathlib import Path

import pytest
from axe import script, violations
from playwright.async_api import Page, Route, expect

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
from gateway.core.records import Change
from tests.gateway.harness import Gateway, Starter
from tests.gateway.test_operators import ADMIN, BOSS, ask

#: Not kept: for people to look through.
SCREENSHOTS = Path(__file__).parents[2] / "screenshots"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


async def test_the_page_follows_the_federation_and_keeps_the_focus(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#headline")).to_have_text("2 of 2 members take launches.")
    await expect(page.locator("#connection")).to_contain_text("follows the federation by itself")
    await page.locator("#link-member-1").focus()
    await gateway.members[1].stop()
    stopped = time.monotonic()
    await expect(page.locator("#headline")).to_contain_text("member-2 is unreachable", timeout=60_000)
    # The promise of two seconds is tested in virtual time; here only that nobody had to reload.
    assert time.monotonic() - stopped < 60
    await expect(page.locator("#member-member-2 .state")).to_have_text("unreachable")
    await expect(page).to_have_title("1 of 2 members · Status · manybinder")
    assert await page.evaluate("document.activeElement.id") == "link-member-1"
    await ask(gateway, BOSS, "POST", "notes", {"text": "We know of it."})
    await expect(page.locator(".note")).to_contain_text("We know of it.", timeout=60_000)
    # The gateway goes away: the page says that what it shows may be old.
    assert errors == []
    await gateway.runner.cleanup()
    await expect(page.locator("#connection")).to_contain_text("does not answer", timeout=60_000)


async def test_the_page_goes_on_after_an_answer_that_is_no_stream(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2)
    answers = iter([503, 502])

    async def in_between(route: Route) -> None:
        status = next(answers, 0)
        await (route.fulfill(status=status, body="starting") if status else route.continue_())

    await page.route("**/api/v1/federation/events", in_between)
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#connection")).to_contain_text("does not answer")
    await expect(page.locator("#connection")).to_contain_text("follows the federation by itself", timeout=60_000)


async def test_without_scripts_it_shows_the_same_and_asks_again(start: Starter, page: Page) -> None:
    gateway = await start.gateway(1)
    assert page.context.browser is not None
    context = await page.context.browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    await plain.goto(f"{gateway.url}status")
    await expect(plain.locator("#headline")).to_have_text("1 of 1 members take launches.")
    async with plain.expect_request(lambda request: request.is_navigation_request(), timeout=120_000):
        await asyncio.sleep(0)
    await context.close()


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script."""
    return script(tmp_path_factory.mktemp("axe"))


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


async def test_the_pages_have_no_violations_in_either_theme_on_desktop_and_phone(
    start: Starter, page: Page, axe: str
) -> None:
    gateway = await start.gateway(3, admin=ADMIN, member_changes={"labels": {"region": "Europe"}})
    gateway.parts.operators.public_url = gateway.url
    await _quarter_of_ups_and_downs(gateway)
    await ask(gateway, BOSS, "POST", "notes", {"text": "We move to another building on Friday."})
    await ask(gateway, BOSS, "PUT", "members/member-3/policy", {"policy": "draining"})
    await ask(gateway, BOSS, "PUT", "bans", {"kind": "owner", "value": "github.com/miner", "reason": "coins"})
    await gateway.launch()
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    SCREENSHOTS.mkdir(exist_ok=True)
    found = []
    for theme in ("light", "dark"):
        for device, width in (("desktop", 1200), ("phone", 360)):
            await page.context.clear_cookies()
            await page.emulate_media(color_scheme=theme)
            await page.set_viewport_size({"width": width, "height": 800})
            for name, path in (("status", "status"), ("admin-login", "admin"), ("admin", "admin")):
                await page.goto(gateway.url + path)
                if name == "admin":
                    await page.get_by_label("An operator's token").fill(BOSS)
                    await page.get_by_role("button", name="Log in with the token").click()
                    await expect(page.locator("#member-member-1")).to_be_visible()
                if name == "status":
                    await expect(page.locator(".incident.standing")).to_be_visible(timeout=60_000)
                await page.screenshot(path=SCREENSHOTS / f"{name}-{theme}-{device}.png", full_page=True)
                found += [f"{name} {theme} {device}: {item}" for item in await violations(page, axe)]
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} on {device} is {wide} pixels wide"
    assert not found, "\n".join(found)


async def test_an_operator_drains_a_member_with_a_button(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    gateway.parts.operators.public_url = gateway.url
    await page.goto(f"{gateway.url}admin")
    await page.get_by_label("An operator's token").fill(BOSS)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Drain member-1").click()
    await expect(page.locator("#done")).to_have_text("It is set.")
    await gateway.until_state("member-1", "draining")
    await page.reload()
    await expect(page.locator("#member-member-1 .state")).to_have_text("draining")
    await page.get_by_role("button", name="Undrain member-1").click()
    await gateway.until_state("member-1", "available")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("An operator's token")).to_be_visible()
