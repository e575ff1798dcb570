"""A real browser without JavaScript launches all the same."""

import pytest
from playwright.async_api import Page, expect

from tests.gateway.harness import SPEC, Starter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


async def test_from_the_link_to_the_session(start: Starter, page: Page) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.gate_at = 2
    assert page.context.browser is not None
    context = await page.context.browser.new_context(java_script_enabled=False)
    plain = await context.new_page()
    plain.set_default_timeout(90_000)
    await plain.goto(f"{gateway.url}v2/{SPEC}?labpath=a.ipynb", wait_until="commit")
    await plain.wait_for_url("**/plain-launch/**")
    await expect(plain.get_by_role("heading", level=1)).to_have_text("Building the environment", timeout=60_000)
    first.gate.set()
    await plain.wait_for_url(f"{first.origin}/user/**/doc/tree/a.ipynb?token=notebook-token")
    await context.close()
    assert len(first.builds) == 1
