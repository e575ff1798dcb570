"""An operator logs in with a real browser, at a real provider, and goes on with the command line."""

from playwright.async_api import Page, expect

from tests.chromium import in_chromium
from tests.gateway.browserkit import start
from tests.gateway.harness import Starter
from tests.gateway.test_operators import ask
from tests.gateway.test_operators_login import started

__all__ = ["start"]

pytestmark = in_chromium


async def test_an_operator_logs_in_takes_a_token_along_and_logs_out(start: Starter, page: Page) -> None:
    provider = await start.oidc(groups=["binder-operators"])
    gateway = await started(start, provider)
    await page.goto(f"{gateway.url}api/v1/admin/login")
    await expect(page.locator("#main")).to_contain_text("You are alice@example.org, with the role operator")
    assert page.url == f"{gateway.url}admin"
    await page.get_by_role("link", name="Make a token for the command line").click()
    await page.get_by_role("button", name="Make a token for the command line").click()
    token = (await page.locator("#token").inner_text()).strip()
    status, who = await ask(gateway, token, "GET", "whoami")
    assert (status, who["name"]) == (200, "alice@example.org")
    # A page of another port is of another origin and of the same site: it sends the cookie, and changes nothing.
    cookies = await page.context.cookies()
    assert [item["httpOnly"] for item in cookies] == [True] * len(cookies)
    await page.goto(f"{provider.url}/jwks")
    await page.evaluate(
        """url => fetch(url, {method: "POST", mode: "no-cors", credentials: "include"}).catch(() => null)""",
        f"{gateway.url}api/v1/admin/session/end",
    )
    assert (await ask(gateway, token, "GET", "whoami"))[0] == 200
    await page.goto(f"{gateway.url}api/v1/admin/session")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.locator("#main")).to_contain_text("You are logged out")
    assert (await ask(gateway, token, "GET", "whoami"))[0] == 401
