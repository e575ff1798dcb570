"""A real browser without JavaScript launches all the same."""

from playwright.async_api import Page, expect

from tests.chromium import in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import SPEC, Starter

__all__ = ["start"]

pytestmark = in_chromium


async def test_from_the_link_to_the_session(start: Starter, plain_page: Page) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.gate_at = 2
    await plain_page.goto(f"{gateway.url}v2/{SPEC}?labpath=a.ipynb", wait_until="commit")
    await plain_page.wait_for_url("**/plain-launch/**")
    await expect(plain_page.get_by_role("heading", level=1)).to_have_text("Building the environment")
    first.gate.set()
    await plain_page.wait_for_url(f"{first.origin}/user/**/doc/tree/a.ipynb?token=notebook-token")
    assert len(first.builds) == 1
