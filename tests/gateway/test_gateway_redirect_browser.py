"""Redirect mode in a real browser: the page stays at the gateway, the launch runs at a member of another origin."""

from playwright.async_api import Page, expect

from tests.chromium import in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import SPEC, Starter

__all__ = ["start"]

pytestmark = in_chromium


async def test_a_visitor_returns_where_it_went_well_and_not_where_it_failed(start: Starter, page: Page) -> None:
    gateway = await start.gateway(mode="redirect")
    for member in gateway.members:
        member.knobs.allow_origin = "*"
    first, second = gateway.first_choice()
    first.knobs.final = {"phase": "failed", "message": "The Hub is down.\n", "failure": "member"}
    link = f"{gateway.url}v2/{SPEC}"

    await page.goto(link)
    await expect(page.locator("#failure-message")).to_have_text("The Hub is down.")
    assert page.url == link
    first.knobs.final = None

    # What a visitor does: reload.  The failure outranks that the repository belongs to the first member.
    await page.reload()
    await page.wait_for_url(f"{second.origin}/user/**")
    assert (len(first.builds), len(second.builds)) == (1, 1)

    # That one went well, so it is where the next launch goes.
    await page.goto(link)
    await page.wait_for_url(f"{second.origin}/user/**")
    assert (len(first.builds), len(second.builds)) == (1, 2)
