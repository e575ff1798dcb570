"""How pages look: pictures in ``screenshots/``, for people to look through, and what a machine can see is wrong."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests import axe

PICTURES = Path(__file__).parents[1] / "screenshots"

#: All that a page needs at first, as it is sent (bytes).
BUDGET = 150_000

DEVICES = (("desktop", 1280, 800), ("phone", 360, 740))


@pytest.fixture(scope="session")
def axe_core(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """axe-core's script, or why it cannot be had."""
    try:
        return axe.script(tmp_path_factory.mktemp("axe")), ""
    except pytest.skip.Exception as skipped:
        return "", str(skipped.msg)


@pytest.fixture
def axe_script(axe_core: tuple[str, str]) -> Iterator[str]:
    """axe-core's script; where it cannot be had "", and the test is skipped after all else is done."""
    script, why = axe_core
    yield script
    if why:
        pytest.skip(why)


async def look(page: Page, name: str, script: str = "", without: Sequence[str] = ()) -> list[str]:
    """Take a page's pictures in light and dark, on a desktop and a phone; what is wrong with it, a line each.

    ``script`` is axe's ("" where it cannot be had, or the page runs no scripts); ``without`` names rules of it that are
    left out.
    """
    PICTURES.mkdir(exist_ok=True)
    problems = []
    await page.emulate_media(reduced_motion="reduce")
    # What began to move before may go on to its end.
    await page.evaluate("document.getAnimations().forEach((each) => each instanceof CSSTransition && each.finish())")
    for scheme in ("light", "dark"):
        for device, width, height in DEVICES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            await page.set_viewport_size({"width": width, "height": height})
            await page.screenshot(path=PICTURES / f"{name}-{device}-{scheme}.png", full_page=True)
            where = f"{name}, {device}, {scheme}"
            problems += [f"{where}: {line}" for line in await axe.violations(page, script, without)] if script else []
            if await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                problems.append(f"{where}: wider than the window")
            moving = await page.evaluate("document.getAnimations().map(({ effect }) => effect.target.outerHTML)")
            problems += [f"{where}: moves, though nothing should: {what[:200]}" for what in moving]
    return problems


async def look_without_scripts(page: Page, plain_page: Page, name: str, script: str) -> list[str]:
    """The same for a page that is shown to browsers without scripts, in ``plain_page``.

    axe is a script: it reads the page in ``page``, which is on another one of the same service.
    """
    # Before what a picture leaves behind in the page.
    shown = re.sub(r"(?s)<script\b.*?</script>|</?noscript>", "", await plain_page.content())
    problems = await look(plain_page, name)
    await page.set_content(shown, wait_until="load")
    return problems + await look(page, f"{name}-read", script)


async def first_visit(
    page: Page,
    url: str,
    go: Callable[[], Awaitable[object]] | None = None,
    settled: Callable[[], Awaitable[object]] | None = None,
) -> list[str]:
    """Load a page for the first time, on a desktop and then on a phone; gives what of it was loaded.

    ``go`` is another way to the page than its address; ``settled`` waits for what it loads by itself.
    """
    origin = url[: url.index("/", len("https://"))]
    sizes: dict[str, int] = {}
    finished: list[Request] = []
    await watch_shifts(page)
    # A page whose requests are looked at has no cache.
    await page.route("**/*", _let_pass)
    page.on("requestfinished", lambda request: finished.append(request))  # noqa: PLW0108 - playwright marks it
    for _, width, height in DEVICES:
        await page.set_viewport_size({"width": width, "height": height})
        await (go() if go else page.goto(url, wait_until="load"))
        await page.wait_for_load_state("load")
        await painted(page)
        if settled:
            await settled()
        moved = await shifts(page)
        assert not moved, f"at a width of {width}: {moved}"
    await page.unroute("**/*", _let_pass)
    for request in finished:
        if request.url.startswith(f"{origin}/") and not _goes_on(request.url):
            sizes[request.url] = (await request.sizes())["responseBodySize"]
    assert 0 < sum(sizes.values()) < BUDGET, sizes
    return list(sizes)


async def _let_pass(route: Route) -> None:
    await route.fallback()


async def watch_shifts(page: Page) -> None:
    """Let each page that is loaded from now on take note of what moves in it by itself."""
    await page.add_init_script(
        """window.shifts = [];
        window.shiftsSeen = new PerformanceObserver((list) => window.shifts.push(...list.getEntries()));
        window.shiftsSeen.observe({ type: "layout-shift", buffered: true });"""
    )


async def shifts(page: Page) -> list[str]:
    """What has moved (https://web.dev/articles/cls), unless it is next to nothing."""
    found: list[tuple[float, list[str]]] = await page.evaluate(
        """async () => {
          const frame = () => new Promise((shown) => requestAnimationFrame(shown));
          await frame();
          await frame();
          window.shifts.push(...window.shiftsSeen.takeRecords());
          const name = ({ node }) => node?.id || node?.className || node?.textContent || "";
          return window.shifts.map(({ value, sources }) => [value, sources.map(name)]);
        }"""
    )
    return [f"{value:.4f}: {what}" for value, what in found] if sum(value for value, _ in found) >= 0.01 else []


async def first_paint_without_scripts(page: Page, url: str) -> None:
    """See that a page is painted before any of its scripts has arrived."""
    held: list[Route] = []
    await page.route(re.compile(r"\.js"), lambda route: held.append(route))  # noqa: PLW0108 - playwright marks it
    await page.goto(url, wait_until="commit")
    await painted(page)
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert held, "and there were scripts to wait for"
    # What is held for ever leaves a task behind.
    for route in held:
        await route.abort()


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
