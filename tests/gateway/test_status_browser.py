"""The status page in a real browser: it follows the federation by itself, and works without scripts."""

import asyncio
import statistics
import time

import pytest
from playwright.async_api import Page, Route, expect

from tests.chromium import hurry, in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import Starter
from tests.gateway.test_operators import ADMIN, BOSS, ask

__all__ = ["start"]

pytestmark = in_chromium


async def test_the_page_follows_the_federation_and_keeps_the_focus(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#headline")).to_have_text("Members taking launches: 2 of 2.")
    await expect(page.locator("#connection")).to_contain_text("follows the federation by itself")
    await page.locator("#link-member-1").focus()
    await gateway.members[1].stop()
    stopped = time.monotonic()
    await expect(page.locator("#headline")).to_contain_text("member-2 is unreachable")
    # Nobody had to reload; how soon it comes is the next test's.
    assert time.monotonic() - stopped < 60
    await expect(page.locator("#member-member-2 .state")).to_have_text("unreachable")
    await expect(page).to_have_title("1 of 2 members · Status · manybinder")
    assert await page.evaluate("document.activeElement.id") == "link-member-1"
    await ask(gateway, BOSS, "POST", "notes", {"text": "We know of it."})
    await expect(page.locator(".note")).to_contain_text("We know of it.")
    # The gateway goes away: the page says that what it shows may be old.
    assert errors == []
    await gateway.runner.cleanup()
    await expect(page.locator("#connection")).to_contain_text("does not answer")


async def test_a_members_death_is_on_the_page_within_two_seconds(start: Starter, page: Page) -> None:
    """Of most members: one death may fall into a moment in which this machine is too busy."""
    gateway = await start.gateway(4, probes={"interval": "1s"})
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#connection")).to_contain_text("follows the federation by itself")
    took = []
    for member in gateway.members[:3]:
        # Looked for in the page, for who asks from without asks once a second.
        shown = asyncio.ensure_future(page.evaluate(_UNTIL_UNREACHABLE, f"#member-{member.name} .state"))
        await asyncio.sleep(0.1)
        killed = time.monotonic()
        await member.stop()
        await shown
        took.append(time.monotonic() - killed)
    assert statistics.median(took) < 2, took


_UNTIL_UNREACHABLE = """selector => new Promise((done) => {
  const look = () => document.querySelector(selector)?.textContent.includes("unreachable") && done();
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  look();
})"""


async def test_the_page_goes_on_after_an_answer_that_is_no_stream(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2)
    await hurry(page)
    answers = iter([503, 502])

    async def in_between(route: Route) -> None:
        status = next(answers, 0)
        await (route.fulfill(status=status, body="starting") if status else route.continue_())

    await page.route("**/api/v1/federation/events", in_between)
    await page.goto(f"{gateway.url}status")
    await expect(page.locator("#connection")).to_contain_text("does not answer")
    await expect(page.locator("#connection")).to_contain_text("follows the federation by itself")


@pytest.mark.slow  # ten seconds, which a browser without scripts cannot be told to skip
async def test_without_scripts_it_shows_the_same_and_asks_again(start: Starter, plain_page: Page) -> None:
    gateway = await start.gateway(1)
    await plain_page.goto(f"{gateway.url}status")
    await expect(plain_page.locator("#headline")).to_have_text("Members taking launches: 1 of 1.")
    async with plain_page.expect_request(lambda request: request.is_navigation_request(), timeout=120_000):
        await asyncio.sleep(0)


async def test_an_operator_drains_a_member_with_a_button(start: Starter, page: Page) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    gateway.parts.operators.public_url = gateway.url
    await page.goto(f"{gateway.url}admin")
    await page.get_by_label("An operator's token").fill(BOSS)
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Drain member-1").click()
    await expect(page.locator("#done")).to_have_text("It is set.")
    await expect(page.locator("#member-member-1 .state")).to_have_text("draining")
    await page.get_by_role("button", name="Undrain member-1").click()
    await expect(page.get_by_role("button", name="Drain member-1", exact=True)).to_be_visible()
    # A number is one in every language.
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await page.reload()
    weight = page.locator("#weight-member-1")
    await weight.fill("0.5")
    await weight.press("Enter")
    await expect(page.locator("#member-member-1")).to_contain_text("Gewicht 0,5, von Hand gesetzt.")
    await page.set_extra_http_headers({})
    await page.reload()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("An operator's token")).to_be_visible()
