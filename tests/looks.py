"""How pages look: pictures in ``screenshots/``, for people to look through, and what a machine can see is wrong."""

import asyncio
import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.async_api import Page, Request

from tests import axe

PICTURES = Path(__file__).parents[1] / "screenshots"

#: Compressed, all that a page needs at first (bytes).
BUDGET = 150 * 1024

DEVICES = (("desktop", 1280, 800), ("phone", 360, 740))


@pytest.fixture(scope="session")
def axe_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core's script."""
    return axe.script(tmp_path_factory.mktemp("axe"))


async def look(page: Page, name: str, script: str = "", without: Sequence[str] = ()) -> list[str]:
    """Take a page's pictures in light and dark, on a desktop and a phone; what is wrong with it, a line each.

    ``script`` is axe's; without it nobody but the eye looks ("" where pages run no scripts).  ``without`` names rules
    of axe that are left out.
    """
    PICTURES.mkdir(exist_ok=True)
    problems = []
    for scheme in ("light", "dark"):
        for device, width, height in DEVICES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            await page.set_viewport_size({"width": width, "height": height})
            await page.screenshot(path=PICTURES / f"{name}-{device}-{scheme}.png", full_page=True)
            where = f"{name}, {device}, {scheme}"
            problems += [f"{where}: {line}" for line in await axe.violations(page, script, without)] if script else []
            if await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                problems.append(f"{where}: wider than the window")
    return problems


async def first_visit(page: Page, url: str) -> list[str]:
    """Load a page for the first time; gives what of it was loaded."""
    origin = url[: url.index("/", len("https://"))]
    finished: list[Request] = []
    # A page whose requests are looked at has no cache.
    await page.route("**/*", lambda route: route.continue_())
    page.on("requestfinished", lambda request: finished.append(request))  # noqa: PLW0108 - playwright marks it
    await page.add_init_script(
        """window.shifts = [];
        new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((entry) => entry.value)))
          .observe({ type: "layout-shift", buffered: true });"""
    )
    await page.goto(url, wait_until="load")
    await painted(page)
    sizes = {}
    for request in finished:
        response = await request.response()
        if response is not None and request.url.startswith(f"{origin}/") and not _goes_on(request.url):
            sizes[request.url] = len(gzip.compress(await response.body()))
    await page.unroute("**/*")
    assert 0 < sum(sizes.values()) < BUDGET, sizes
    assert await page.evaluate("window.shifts.reduce((sum, value) => sum + value, 0)") < 0.01
    return list(sizes)


def _goes_on(url: str) -> bool:
    """Whether an answer is a stream, which has no end that could be waited for."""
    return "/build/" in url or url.endswith("/events")


async def painted(page: Page) -> None:
    """Wait for the first paint; not by ``wait_for_function``, whose polling the pages' policy refuses."""
    async with asyncio.timeout(60):
        await page.evaluate(
            """new Promise((painted) =>
              new PerformanceObserver((list) => list.getEntriesByName("first-contentful-paint").length && painted())
                .observe({ type: "paint", buffered: true }))"""
        )
