"""How pages look: pictures in ``screenshots/``, for people to look through, and what a machine can see is wrong."""

from pathlib import Path

from playwright.async_api import Page

from tests import axe

PICTURES = Path(__file__).parents[1] / "screenshots"

DEVICES = (("desktop", 1280, 800), ("phone", 360, 740))


async def look(page: Page, name: str, script: str = "") -> list[str]:
    """Take a page's pictures in light and dark, on a desktop and a phone; what is wrong with it, a line each.

    ``script`` is axe's; without it nobody but the eye looks ("" where pages run no scripts).
    """
    PICTURES.mkdir(exist_ok=True)
    problems = []
    for scheme in ("light", "dark"):
        for device, width, height in DEVICES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            await page.set_viewport_size({"width": width, "height": height})
            await page.screenshot(path=PICTURES / f"{name}-{device}-{scheme}.png", full_page=True)
            where = f"{name}, {device}, {scheme}"
            problems += [f"{where}: {line}" for line in await axe.violations(page, script)] if script else []
            if await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                problems.append(f"{where}: wider than the window")
    return problems
