"""axe-core from npm: what it finds wrong with a page for those who see, hear or point differently."""

from functools import cache
from pathlib import Path

from playwright.async_api import Page

from tests.npm import unpack

PACKAGE = "axe-core@4.11.0"

_FOUND = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id} (${help}): ${html.slice(0, 200)} ${failureSummary}`));
}"""


@cache
def script(directory: Path) -> str:
    """axe's script; skips the test where npm cannot bring it."""
    return (unpack(PACKAGE, directory) / "axe.min.js").read_text()


async def violations(page: Page, axe: str) -> list[str]:
    """What it finds, one line each; the page's policy does not stand in the way, for this is no script of the page."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe)
    return list(await page.evaluate(_FOUND))
