"""A launch through a gateway in a real browser, while members come and go."""

from playwright.async_api import Page, expect

from tests.chromium import in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import SPEC, Starter

__all__ = ["start"]

pytestmark = in_chromium


async def test_a_launch_whose_member_dies_goes_on_at_another(start: Starter, page: Page) -> None:
    gateway = await start.gateway()
    first, second = gateway.first_choice()
    first.knobs.gate_at = second.knobs.gate_at = 3
    await page.goto(f"{gateway.url}v2/{SPEC}?labpath=a.ipynb")
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await expect(page.locator("#member")).to_contain_text(first.name)
    await first.stop()
    await expect(page.locator("#moves")).to_contain_text(first.name)
    await expect(page.locator("#member")).to_contain_text(second.name)
    await expect(page.get_by_role("alert")).to_be_hidden()
    second.gate.set()
    await page.wait_for_url(f"{second.origin}/user/**/a.ipynb?token=notebook-token")
    assert len(second.builds) == 1
