"""Redirect mode in a real browser: the page stays at the gateway, the launch runs at a member of another origin."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.gateway.harness import SPEC, Starter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page; what it complains of on its console for its security policy fails the test."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium on PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await browser.new_page()
        page.set_default_timeout(90_000)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
        yield page
        await browser.close()
        assert not complaints


async def test_a_visitor_returns_where_it_went_well_and_not_where_it_failed(start: Starter, page: Page) -> None:
    gateway = await start.gateway(mode="redirect")
    for member in gateway.members:
        member.knobs.allow_origin = "*"
    first, second = gateway.first_choice()
    first.knobs.final = {"phase": "failed", "message": "The Hub is down.\n", "failure": "member"}
    link = f"{gateway.url}v2/{SPEC}"

    await page.goto(link)
    await expect(page.locator("#failure-message")).to_have_text("The Hub is down.", timeout=60_000)
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
