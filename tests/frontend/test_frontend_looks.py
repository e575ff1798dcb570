"""How pages look, weigh and read: every state in light and dark, on a desktop and a phone.

Pictures are written to ``screenshots/``, for people to look through.
"""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, expect

from contract.events import BuildEvent, Failure, Phase, event, failed
from tests.chromium import in_chromium
from tests.looks import (
    DEVICES,
    first_paint_without_scripts,
    first_visit,
    look,
    look_without_scripts,
    shifts,
    watch_shifts,
)
from tests.played import Service

pytestmark = in_chromium

LAUNCH = "v2/gh/binder-examples/requirements/HEAD?labpath=notebooks%2Findex.ipynb"
USUAL = {"building": 95.0, "launching": 7.0}
BEGUN = event(Phase.WAITING, "Looking for the repository...\n", launch_id="0123456789ab")
TAKEN = event(Phase.WAITING, "Waiting for build to start...\n", member="alps", attempt=1, why="cold", usual_s=USUAL)
BUILDS = event(Phase.BUILDING, "".join(f"Step {n}/20: RUN something\n" for n in range(30)), member="alps", attempt=1)
PIP = "ERROR: No matching distribution found for nunpy==1.0 (from -r requirements.txt (line 3))\n"

STATES: dict[str, list[BuildEvent]] = {
    "asking": [],
    "queue": [BEGUN, event(Phase.WAITING, "Waiting\n", reason="waiting", position=3, eta_s=80.0)],
    "waiting": [BEGUN, TAKEN],
    "building": [BEGUN, TAKEN, BUILDS],
    "first-build": [
        BEGUN,
        event(Phase.WAITING, "Waiting for build to start...\n", member="alps", attempt=1, why="cold"),
        event(Phase.BUILDING, "Step 1/20: FROM something\n", member="alps", attempt=1),
    ],
    "starting": [BEGUN, TAKEN, BUILDS, event(Phase.LAUNCHING, "Launching server...\n", member="alps", attempt=1)],
    "starting-warm": [
        BEGUN,
        event(Phase.BUILT, "Found\n", member="alps", attempt=1, why="warm", usual_s={"launching": 7.0}),
    ],
    "moved": [
        BEGUN,
        TAKEN,
        event(
            Phase.WAITING, "alps cannot be reached. The launch goes on.\n", member="alps", attempt=1, reason="connect"
        ),
        event(Phase.BUILDING, "Step 1\n", member="fjord", attempt=2, why="pull"),
    ],
    "failed-fault": [
        BEGUN,
        TAKEN,
        event(Phase.BUILDING, PIP),
        failed(Failure.USER, "The build failed: exit code 1.\n"),
    ],
    "failed-build": [BEGUN, TAKEN, BUILDS, failed(Failure.USER, "postBuild ended with status 3\n")],
    "failed-not-found": [
        BEGUN,
        failed(Failure.USER, "Could not resolve ref for gh:binder-examples/requirments/HEAD.\n", reason="not_found"),
    ],
    "failed-full": [BEGUN, failed(Failure.REFUSED, "No member can take it now.\n", reason="full", retry_after_s=30)],
    "failed-held": [
        BEGUN,
        failed(
            Failure.USER, "It is tried again in 60 s.\n", reason="held", retry_after_s=60, log_url="https://m.example/l"
        ),
    ],
    "failed-ours": [BEGUN, TAKEN, BUILDS, failed(Failure.MEMBER, "The launch has failed 3 times.\n", member="alps")],
    "failed-forbidden": [failed(Failure.REFUSED, "This repository is not launched here.\n", status_code=403)],
    "failed-limited": [failed(Failure.REFUSED, "Too many.\n", status_code=429, retry_after_s=12)],
    "failed-abandoned": [BEGUN, failed(Failure.USER, "Nobody followed it any more.\n", reason="abandoned")],
    "cancelled": [BEGUN, failed(Failure.USER, "The launch was cancelled.\n", reason="cancelled")],
}

#: Other states show all of their parts: their pictures may wait for the slow tests.
ALIKE = {
    *("first-build", "waiting", "starting", "starting-warm", "failed-build", "failed-not-found", "failed-held"),
    *("failed-ours", "failed-forbidden", "failed-limited", "failed-abandoned"),
}
assert STATES.keys() > ALIKE


async def _home_filled(page: Page, understood: str = "org/repo at main") -> None:
    await page.locator("#repo").fill("https://github.com/org/repo/blob/main/notebooks/index.ipynb")
    await expect(page.locator("#understood")).to_contain_text(understood)
    await page.locator(".more summary").click()
    await page.locator("#share summary").click()


async def _home_wrong(page: Page) -> None:
    await page.get_by_label("Repository", exact=True).fill("/home/me/notebooks")
    await expect(page.locator("#understood")).to_contain_text("computer")


PAST = """localStorage.setItem("manybinder:recent", JSON.stringify([
  { label: "org/course", ref: "HEAD", href: "/v2/gh/org/course/HEAD" },
  { label: "an-organisation-with-a-long-name/its-materials", ref: "8f3c2b1", href: "/v2/gh/a/b/8f3c2b1" },
]))"""


async def _home_with_past(page: Page) -> None:
    await page.evaluate(PAST)
    await page.reload()
    await expect(page.get_by_role("link", name="org/course")).to_be_visible()
    await expect(page.locator("#members-list li")).to_have_count(4)


async def _sent_by_another_site(page: Page) -> None:
    here = page.url
    await page.goto(here.replace("127.0.0.1", "localhost") + "user/page")
    await page.evaluate("url => { location.href = url }", here + LAUNCH)
    await expect(page.get_by_role("link", name="Launch", exact=True)).to_be_visible()


async def _nothing(page: Page) -> None:
    """As it is loaded."""


PAGES: dict[str, tuple[str, Callable[[Page], Awaitable[None]]]] = {
    "home": ("", _nothing),
    "home-filled": ("", _home_filled),
    "home-with-past": ("", _home_with_past),
    "home-wrong": ("", _home_wrong),
    "home-error": ("launch?repo=x+y", _nothing),
    "about": ("about", _nothing),
    "not-found": ("nothing", _nothing),
    "bad-link": ("v2/gh/org/repo", _nothing),
    "confirm": ("", _sent_by_another_site),
}


@pytest.mark.parametrize("name", PAGES)
async def test_pages(service: Service, page: Page, name: str, axe_script: str) -> None:
    route, prepare = PAGES[name]
    await page.set_extra_http_headers({"Accept": "text/html,*/*"})
    await page.goto(service.url + route)
    await prepare(page)
    assert await look(page, name, axe_script) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in STATES]
)
async def test_launches(service: Service, page: Page, name: str, axe_script: str) -> None:
    await page.goto(service.url + LAUNCH)
    await service.tell(*STATES[name])
    if name.startswith("failed") or name == "cancelled":
        await expect(page.get_by_role("alert")).to_be_visible()
    elif STATES[name]:
        await expect(page.locator("#log-box")).to_be_visible()
    assert await look(page, f"launch-{name}", axe_script) == []


async def test_a_launch_that_is_ready_and_goes_nowhere(service: Service, page: Page, axe_script: str) -> None:
    await page.route("**/user/**", lambda route: route.fulfill(status=204))
    await page.goto(service.url + LAUNCH)
    await service.tell(*STATES["starting"], service.ready())
    await expect(page.get_by_role("link", name="Open the session")).to_be_visible()
    assert await look(page, "launch-ready", axe_script) == []


async def test_a_launch_whose_connection_is_lost(service: Service, page: Page, axe_script: str) -> None:
    await page.goto(service.url + LAUNCH)
    await service.tell(*STATES["building"])
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.route("**/build/**", lambda route: route.fulfill(status=502, body="bad gateway"))
    service.cut.set()
    await expect(page.get_by_role("status")).to_contain_text("connection was lost")
    assert await look(page, "launch-lost", axe_script) == []


async def test_a_log_that_is_searched(service: Service, page: Page, axe_script: str) -> None:
    await page.goto(service.url + LAUNCH)
    await service.tell(*STATES["building"])
    await page.get_by_text("Log", exact=True).click()
    await page.get_by_label("Search the log").fill("step 1")
    await expect(page.locator("#log-found")).to_contain_text("1 of")
    assert await look(page, "launch-log", axe_script) == []


@pytest.mark.slow  # the same pages
async def test_other_languages_words_are_longer(service: Service, page: Page, axe_script: str) -> None:
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await page.goto(service.url)
    await _home_filled(page, "org/repo, Stand main")
    assert await look(page, "german-home", axe_script) == []
    await page.goto(service.url + LAUNCH)
    await service.tell(*STATES["failed-fault"])
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await look(page, "german-launch", axe_script) == []


async def test_without_scripts(service: Service, page: Page, plain_page: Page, axe_script: str) -> None:
    await page.goto(f"{service.url}about")
    for name, route in (("home", ""), ("launch", LAUNCH)):
        await plain_page.goto(service.url + route)
        assert await look_without_scripts(page, plain_page, f"no-scripts-{name}", axe_script) == []


@pytest.mark.parametrize("route", [LAUNCH, "about", "nothing", "v2/gh/org/repo", "launch?repo=x+y"])
async def test_what_a_first_visit_costs(service: Service, page: Page, route: str) -> None:
    loaded = await first_visit(page, service.url + route)
    assert not [url for url in loaded if "log-viewer" in url], "the viewer of logs is loaded when it is wanted"


@pytest.mark.parametrize("past", ["", PAST], ids=["new", "past"])
async def test_what_a_first_visit_of_the_home_page_costs(service: Service, page: Page, past: str) -> None:
    if past:
        await page.add_init_script(past)

    async def filled() -> None:
        await expect(page.locator("#members-list li")).to_have_count(4)
        await expect(page.get_by_role("link", name="org/course")).to_be_visible(visible=bool(past))

    await first_visit(page, service.url, settled=filled)


async def test_what_a_first_visit_sent_by_another_site_costs(service: Service, page: Page) -> None:
    async def go() -> None:
        await page.goto(service.url)
        await _sent_by_another_site(page)

    await first_visit(page, service.url, go)


@pytest.mark.parametrize(("width", "height"), [(width, height) for _, width, height in DEVICES])
async def test_nothing_moves_while_a_launch_goes_on(service: Service, page: Page, width: int, height: int) -> None:
    await watch_shifts(page)
    await page.set_viewport_size({"width": width, "height": height})
    await page.goto(service.url + LAUNCH)
    for told, words in (
        (BEGUN, "Waiting for the build to start"),
        (TAKEN, "Waiting for the build to start"),
        (BUILDS, "Building the environment"),
        (event(Phase.LAUNCHING, "Launching server...\n", member="alps", attempt=1), "Starting your session"),
    ):
        await service.tell(told)
        await expect(page.get_by_role("status")).to_have_text(words)
        assert await shifts(page) == []


@pytest.mark.parametrize("route", ["", LAUNCH])
async def test_the_first_paint_waits_for_no_script(service: Service, page: Page, route: str) -> None:
    await first_paint_without_scripts(page, service.url + route)
