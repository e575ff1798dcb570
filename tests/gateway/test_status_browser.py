"""The status page in a real browser: it follows the federation by itself, and works without scripts."""

import asyncio
import time

import pytest
from playwright.async_api import Page, Route, expect

from tests.gateway.harness import Starter
from tests.gateway.test_gateway_redirect_browser import page
from tests.gateway.test_operators import ADMIN, BOSS, ask

__all__ = ["page"]

# How long a page takes says how busy the machine is.
expect.set_options(timeout=60_000)

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
