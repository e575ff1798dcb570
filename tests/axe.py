"""axe-core from npm: what it finds wrong with a page for those who see, hear or point differently."""

import shutil
import subprocess
import tarfile
from functools import cache
from pathlib import Path

import pytest
from playwright.async_api import Page

PACKAGE = "axe-core@4.11.0"

_FOUND = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id} (${help}): ${html.slice(0, 200)} ${failureSummary}`));
}"""


@cache
def script(directory: Path) -> str:
    """axe's script; skips the test where npm cannot bring it."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no node on PATH")
    try:
        subprocess.run([npm, "pack", PACKAGE], capture_output=True, text=True, timeout=120, check=True, cwd=directory)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        pytest.skip(f"npm cannot install axe-core: {error}")
    (package,) = directory.glob("axe-core-*.tgz")
    with tarfile.open(package) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


async def violations(page: Page, axe: str) -> list[str]:
    """What it finds, one line each; the page's policy does not stand in the way, for this is no script of the page."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(axe)
    return list(await page.evaluate(_FOUND))
