"""How the pages of sessions that are not there look, in light and dark, on a desktop and a phone."""

from playwright.async_api import Page

from member.hub import ended
from tests.chromium import in_chromium
from tests.looks import BUDGET, look

pytestmark = in_chromium

KNOWN = {"url": "https://gateway.example/v2/gh/org/repo/main", "repo_url": "https://git.example/org/a-long-name/repo"}


async def test_pages_of_sessions_that_are_not_there(page: Page, axe_script: str) -> None:
    for name, shown in (
        ("session-ended", ended.page("This session has ended", ended.again(KNOWN))),
        ("session-unknown", ended.page("No such session", ended.UNKNOWN)),
        ("session-starting", ended.page("This session is starting", ended.STARTING)),
        ("session-ended-german", ended.page("This session has ended", ended.again(KNOWN, "de"), language="de")),
    ):
        assert len(shown.encode()) < BUDGET
        assert " src=" not in shown, "nothing else is loaded"
        await page.set_content(shown)
        assert await look(page, name, axe_script) == []
