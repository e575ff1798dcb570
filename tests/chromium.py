"""Real Chromium: one for all tests of a worker, which give each page a context of its own.

A browser belongs to the loop that has started it, so these tests share a loop as well (:data:`in_chromium`).
"""

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

# How long a page takes says how busy the machine is.
expect.set_options(timeout=60_000)

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: It asks nobody for anything by itself.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: The marks of tests that use the fixtures below.
in_chromium = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser, for a test that has a loop of its own; skips it where there is none."""
    if _CHROMIUM is None:
        pytest.skip("needs Chromium on PATH")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        try:
            yield started
        finally:
            await started.close()


@contextlib.asynccontextmanager
async def page_of(browser: Browser, **options: object) -> AsyncIterator[Page]:
    """A page in a context with these options.

    What it complains of on its console (a policy that is broken, an error of a script) fails the test.
    """
    context = await browser.new_context(**options)  # type: ignore[arg-type]
    page = await context.new_page()
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Security Policy" in said.text else None)
    yield page
    await context.close()
    assert not complaints, complaints


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The one that all share."""
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page of a visitor who has been nowhere yet."""
    async with page_of(browser) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def plain_page(browser: Browser) -> AsyncIterator[Page]:
    """The same, without JavaScript."""
    async with page_of(browser, java_script_enabled=False) as made:
        yield made


async def hurry(page: Page) -> None:
    """Let what a page waits for by itself come ten times as soon."""
    await page.add_init_script("const sleep = window.setTimeout; window.setTimeout = (f, ms) => sleep(f, ms / 10);")
