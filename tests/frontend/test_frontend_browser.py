"""The browser's side in a real browser: what a visitor sees of a launch, and where it leads."""

import asyncio
import re
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Page, Route, expect

from contract.events import BuildEvent, Failure, Phase, event, failed
from tests.chromium import hurry, in_chromium
from tests.played import Service

pytestmark = in_chromium

BACKSLASHES = "\\\\evil.example"


async def test_from_the_form_to_the_session(service: Service, page: Page) -> None:
    await page.goto(service.url)
    await page.get_by_label("Repository", exact=True).fill("  binder-examples/requirements ")
    await page.get_by_label("File to open").fill("index.ipynb")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/v2/gh/binder-examples/requirements/HEAD?labpath=index.ipynb")
    await service.tell(event(Phase.WAITING, "Waiting\n", member="member-1"))
    await expect(page.get_by_role("status")).to_have_text("Waiting for the build to start")
    await expect(page.get_by_text("on member-1")).to_be_visible()
    await service.tell(event(Phase.BUILDING, "\x1b[32mStep 1\x1b[0m <b>\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.get_by_text("Log", exact=True).click()
    await expect(page.get_by_label("Log of the build")).to_contain_text("Step 1 <b>")
    await service.tell(event(Phase.LAUNCHING, "Launching\n"))
    await expect(page.locator("#elapsed")).to_contain_text(" s")
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    assert service.visits == ["/user/visitor/doc/tree/index.ipynb?token=secret"]
    assert service.builds == 1


@pytest.mark.parametrize(
    "path", ["https://evil.example/", "//evil.example", BACKSLASHES, "/\\evil", "../../x", "javascript:1"]
)
async def test_no_link_leaves_the_session(service: Service, page: Page, path: str) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main?urlpath={quote(path, safe='')}")
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    assert urlsplit(page.url).netloc == urlsplit(service.url).netloc
    assert [visit.startswith("/user/visitor/") for visit in service.visits] == [True]


async def test_a_failure_is_told_with_its_log_and_not_repeated(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "it hurts\n"), failed(Failure.USER, "postBuild failed: status 3\n"))
    await expect(page.get_by_role("alert")).to_contain_text("postBuild failed: status 3")
    await expect(page.get_by_label("Log of the build")).to_be_visible()
    await expect(page.get_by_role("link", name="Try again")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    assert service.builds == 1


async def test_a_build_that_is_held_back_links_its_log_and_can_be_forced(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main?labpath=index.ipynb")
    log = "https://member.example/api/v1/builds/abc/log"
    said = (
        "This commit of the repository failed to build 1 s ago:\n"
        "binder/requirements.txt could not be installed: No solution found when resolving dependencies: Because nunpy"
        " was not found in the package registry and you require nunpy==9.9, we can conclude that your requirements are"
        " unsatisfiable.\nIt is tried again in 60 s.\n"
    )
    await service.tell(failed(Failure.USER, said, reason="held", retry_after_s=59.2, log_url=log))
    await expect(page.get_by_role("alert")).to_contain_text("Try again in 1 min.")
    await expect(page.get_by_role("alert")).to_contain_text("check the spelling and the version")
    await expect(page.locator("#fault-where")).to_contain_text("requirements.txt")
    await expect(page.locator("#fault-line")).to_have_text("nunpy==9.9")
    await expect(page.get_by_role("link", name="Change the link")).to_be_visible()
    await expect(page.get_by_role("link", name="The whole log of the build")).to_have_attribute("href", log)
    report = await page.get_by_role("link", name="Report this").get_attribute("href")
    assert report is not None
    assert report.startswith("https://github.com/org/repo/issues/new?title=")
    assert quote(log, safe="") in report
    force = page.get_by_role("link", name="Build it again now")
    await expect(force).to_be_visible()
    assert "force" not in service.asked[0]
    await force.click()
    async with asyncio.timeout(60):
        while len(service.asked) < 2:
            await asyncio.sleep(0.05)
    assert "force=true" in service.asked[1]
    assert "build_token=" in service.asked[1]
    assert "labpath=index.ipynb" in page.url


async def test_no_address_but_one_of_the_web_is_linked_as_a_log(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(failed(Failure.USER, "no\n", log_url="javascript:alert(1)"))
    await expect(page.get_by_role("alert")).to_contain_text("no")
    await expect(page.get_by_text("The whole log of the build")).to_be_hidden()
    await expect(page.get_by_role("link", name="Build it again now")).to_be_hidden()


async def test_the_place_in_each_queue_is_shown(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Waiting\n", position=3, eta_s=80.0))
    await expect(page.get_by_role("status")).to_have_text("Waiting in the queue: place 3")
    await expect(page.locator("#estimate")).to_contain_text("About 1 min 20 s until it is your turn")
    await service.tell(event(Phase.LAUNCHING, "Waiting\n", position=2))
    await expect(page.get_by_role("status")).to_have_text("Waiting in the queue: place 2")
    await service.tell(event(Phase.LAUNCHING, "Starting\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session")
    await expect(page.locator("#estimate")).to_have_text("")


async def test_trying_again_begins_again_whatever_the_address_ends_with(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main?urlpath=lab#top")
    await service.tell(failed(Failure.MEMBER, "no\n"))
    service.journals.clear()
    await page.get_by_role("link", name="Try again").click()
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/lab?token=secret")
    assert service.builds == 2


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://h/", "", None, 7])
async def test_a_session_that_is_none(service: Service, page: Page, url: object) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.READY, url=url, token="t"))
    await expect(page.get_by_role("alert")).to_contain_text("no session that could be opened")


async def test_cancelling(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Waiting\n"))
    await expect(page.get_by_role("status")).to_have_text("Waiting for the build to start")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("cancelled")
    assert service.cancelled == list(service.journals)


@pytest.mark.slow  # five seconds, after which the page waits no longer
async def test_cancelling_where_the_service_hangs(service: Service, page: Page) -> None:
    await page.route("**/api/v1/launches/*", lambda _: None)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Waiting\n"))
    await expect(page.get_by_role("status")).to_have_text("Waiting for the build to start")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("You cancelled this launch")
    assert not service.cancelled


async def test_a_connection_that_breaks_goes_on_where_it_was(service: Service, page: Page) -> None:
    await hurry(page)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "first\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    service.cut.set()
    await expect(page.get_by_role("status")).to_contain_text("connection was lost")
    service.cut.clear()
    await service.tell(event(Phase.LAUNCHING, "second\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session")
    await page.get_by_text("Log", exact=True).click()
    await expect(page.locator("#log")).to_have_text("first\nsecond\n")
    assert len(service.journals) == 1


NOON = 1_700_000_000
SHOW = """visible => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => visible ? "visible" : "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def _launching(service: Service, page: Page) -> str:
    """A page with a launch, under a clock that a test moves; gives the launch's last event."""
    await page.clock.install(time=NOON)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Waiting\n"), event(Phase.BUILDING, "Step 1\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    (launch,) = service.journals
    return f"{launch}.1"


async def _goes_on(service: Service, page: Page, last: str) -> None:
    await service.tell(event(Phase.LAUNCHING, "Launching\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session")
    assert service.resumed == ["", last]
    assert len(service.journals) == 1


async def test_a_connection_that_has_died_in_silence_is_made_again(service: Service, page: Page) -> None:
    last = await _launching(service, page)
    await page.clock.fast_forward(80_000)
    assert service.builds == 1
    await page.clock.fast_forward(20_000)
    await service.asked_again(2)
    await _goes_on(service, page, last)


async def test_a_connection_that_says_that_it_lives_is_kept(service: Service, page: Page) -> None:
    service.keepalive_s = 0.05
    await page.add_init_script(
        """window.chunks = 0;
        const read = ReadableStreamDefaultReader.prototype.read;
        ReadableStreamDefaultReader.prototype.read = async function () {
          const got = await read.call(this);
          window.chunks += 1;
          return got;
        };"""
    )
    await _launching(service, page)
    for _ in range(3):
        await page.clock.fast_forward(80_000)
        chunks = await page.evaluate("window.chunks")
        async with asyncio.timeout(60):
            while await page.evaluate("window.chunks") < chunks + 2:
                await asyncio.sleep(0.01)
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    assert service.builds == 1


@pytest.mark.parametrize("woken_by", ["shown", "online", "pageshow"])
async def test_a_page_that_has_slept_looks_at_once(service: Service, page: Page, woken_by: str) -> None:
    last = await _launching(service, page)
    await page.clock.pause_at(NOON + 60)
    if woken_by == "shown":
        await page.evaluate(SHOW, False)
    # No timer comes, as on a machine that sleeps.
    await page.clock.set_system_time(NOON + 3600)
    assert service.builds == 1
    if woken_by == "shown":
        await page.evaluate(SHOW, True)
    elif woken_by == "online":
        await page.evaluate("window.dispatchEvent(new Event('online'))")
    else:
        await page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await service.asked_again(2)
    await _goes_on(service, page, last)


async def test_a_page_that_is_shown_again_keeps_a_connection_that_lives(service: Service, page: Page) -> None:
    await _launching(service, page)
    await page.evaluate(SHOW, False)
    await page.clock.fast_forward(60_000)
    await page.evaluate(SHOW, True)
    await service.tell(event(Phase.LAUNCHING, "Launching\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session")
    assert service.builds == 1


async def test_a_page_left_and_come_back_to_goes_on_by_one_connection(service: Service, page: Page) -> None:
    last = await _launching(service, page)
    await page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    await page.clock.fast_forward(3_600_000)
    assert service.builds == 1, "nobody looks"
    await page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await service.asked_again(2)
    await _goes_on(service, page, last)


async def test_a_link_on_another_site_asks_first(service: Service, page: Page) -> None:
    elsewhere = service.url.replace("127.0.0.1", "localhost")
    await page.goto(f"{elsewhere}user/page")
    await page.evaluate("url => { location.href = url }", f"{service.url}v2/gh/org/repo/main?urlpath=lab")
    await page.get_by_role("link", name="Launch", exact=True).click()
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/lab?token=secret")
    assert service.builds == 1


async def test_a_plain_event_source_is_refused_once(service: Service, page: Page) -> None:
    await page.goto(service.url)
    seen = await page.evaluate(
        """() => new Promise((done) => {
          const messages = [];
          const source = new EventSource("/build/gh/org/repo/main");
          source.onmessage = (message) => messages.push(JSON.parse(message.data).message);
          source.onerror = () => { if (source.readyState === EventSource.CLOSED) done(messages); };
        })"""
    )
    assert seen == ["Invalid build token\n"]
    assert service.builds == 2, "the refusal, and the reconnect that is told not to come back"


FAILURES = [
    (failed(Failure.USER, "no\n", reason="not_found"), "The repository was not found", "private repository"),
    (failed(Failure.USER, "no\n", reason="abandoned"), "The launch was given up", "keep this page open"),
    (failed(Failure.USER, "no\n"), "The launch failed", "The link or the repository"),
    (failed(Failure.MEMBER, "no\n"), "The launch failed", "not your fault"),
    (failed(Failure.GATEWAY, "no\n"), "The launch failed", "not your fault"),
    (failed(Failure.REFUSED, "no\n", reason="full", retry_after_s=30), "There is no room", "Try again in 30 s."),
    (failed(Failure.REFUSED, "no\n", status_code=403), "not launched here", "operators"),
    (failed(Failure.REFUSED, "no\n", status_code=429), "Too many launches", "Wait a while"),
]


@pytest.mark.parametrize(("final", "title", "advice"), FAILURES)
async def test_each_failure_says_what_to_do(
    service: Service, page: Page, final: BuildEvent, title: str, advice: str
) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(final)
    await expect(page.get_by_role("alert")).to_contain_text(title)
    await expect(page.get_by_role("alert")).to_contain_text(advice)
    await expect(page).to_have_title(re.compile(title))


async def test_a_tab_tells_the_state_by_its_title_and_icon(service: Service, page: Page) -> None:
    await page.route("**/user/**", lambda route: route.fulfill(status=204))
    icon = page.locator("#icon")
    icons: list[str | None] = []
    title = "org/repo · Test"
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await expect(page).to_have_title(f"Launching · {title}")
    icons.append(await icon.get_attribute("href"))
    await service.tell(event(Phase.BUILDING, "Step 1\n"))
    await expect(page).to_have_title(f"Building the environment · {title}")
    icons.append(await icon.get_attribute("href"))
    await service.tell(service.ready())
    await expect(page).to_have_title(f"Ready · {title}")
    icons.append(await icon.get_attribute("href"))
    service.journals.clear()
    await page.goto(f"{service.url}v2/gh/org/repo/other")
    await service.tell(failed(Failure.USER, "no\n"))
    await expect(page).to_have_title(f"The launch failed · {title}")
    icons.append(await icon.get_attribute("href"))
    assert all(str(address).startswith("data:image/svg+xml,") for address in icons)
    asking, working, ready, over = icons
    assert asking == working
    assert len({working, ready, over}) == 3


@pytest.mark.parametrize(
    ("log", "file", "line"),
    [
        (
            "ERROR: No matching distribution found for nunpy==9 (from -r requirements.txt (line 3))\n",
            "line 3",
            "nunpy==9",
        ),
        ("  ╰─▶ Because nunpy was not found in the package registry\n", "requirements", "nunpy"),
        ("E: Unable to locate package texlive-nope\n", "apt.txt", "texlive-nope"),
        ("nothing provides requested nunpy ==9\n", "environment.yml", "nunpy ==9"),
    ],
)
async def test_the_line_at_fault_is_shown(service: Service, page: Page, log: str, file: str, line: str) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, log), failed(Failure.USER, "The build failed.\n"))
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text(file)
    await expect(page.locator("#fault-line")).to_have_text(line)
    report = await page.get_by_role("link", name="Report this").get_attribute("href")
    assert report is not None
    assert report.startswith("https://github.com/org/repo/issues/new?title=")
    assert "v2%2Fgh%2Forg%2Frepo%2Fmain" in report


async def test_why_and_for_how_long(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    usual = {"building": 600, "launching": 30}
    await service.tell(event(Phase.WAITING, "Waiting\n", member="member-1", attempt=1, why="cold", usual_s=usual))
    await expect(page.get_by_text("on member-1: it has room to build the environment")).to_be_visible()
    await expect(page.get_by_text("usually 10 min")).to_be_visible()
    await expect(page.get_by_text("left, going by earlier launches of this repository")).to_be_visible()
    await service.tell(event(Phase.BUILT, "Found built image\n", member="member-1", attempt=1))
    await expect(page.get_by_text("not needed")).to_be_visible()


async def test_a_launch_that_moves_on_is_told_calmly(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    moved = "member-1 cannot be reached. The launch goes on.\n"
    await service.tell(
        event(Phase.BUILDING, "Step 1\n", member="member-1", attempt=1),
        event(Phase.WAITING, moved, member="member-1", attempt=1, reason="connect"),
        event(Phase.BUILDING, "Step 1\n", member="member-2", attempt=2, why="cold"),
    )
    await expect(page.locator("#moves")).to_have_text(moved.strip())
    await expect(page.get_by_text("on member-2")).to_be_visible()
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_page_that_is_loaded_again_goes_on_with_its_launch(service: Service, page: Page) -> None:
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Looking\n"), event(Phase.BUILDING, "Step 1\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.goto(f"{service.url}about")
    await page.go_back()
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.get_by_text("Log", exact=True).click()
    await expect(page.locator("#log")).to_have_text("Looking\nStep 1\n")
    (launch,) = service.journals
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    # Addresses are logged, and whoever knows the id could follow the launch to its session.
    assert sum("/build/" in address for address in addresses) == 3
    assert not any(launch in address for address in addresses)


async def test_a_launch_that_fails_while_its_page_is_loaded_again_is_not_begun_anew(
    service: Service, page: Page
) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.FETCHING, "Looking\n"))
    await expect(page.get_by_role("status")).to_have_text("Fetching the repository")
    await page.goto(f"{service.url}about")
    await service.tell(failed(Failure.USER, "There is no such branch.\n", reason="not_found"))
    await page.go_back()
    await expect(page.get_by_role("alert")).to_contain_text("There is no such branch.")
    assert service.builds == 2
    assert len(service.journals) == 1


async def test_a_launch_that_is_forgotten_begins_anew(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "Step 1\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.goto(f"{service.url}about")
    service.forget()
    await page.go_back()
    await expect(page.get_by_role("status")).to_have_text("Asking for a session")
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    assert service.builds == 3, "the first, the one that asks for it again, and a new one"


async def test_an_answer_that_is_no_stream_does_not_end_a_launch(service: Service, page: Page) -> None:
    await hurry(page)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "Step 1\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    await page.route("**/build/**", lambda route: route.fulfill(status=502, body="bad gateway"))
    service.cut.set()
    await expect(page.get_by_role("status")).to_contain_text("connection was lost")
    service.cut.clear()
    await page.unroute("**/build/**")
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    assert len(service.journals) == 1


async def test_answers_that_say_nothing_are_not_asked_for_without_end(service: Service, page: Page) -> None:
    await page.clock.install(time=NOON)
    asked = 0

    async def empty(route: Route) -> None:
        nonlocal asked
        asked += 1
        await route.fulfill(status=200, content_type="text/event-stream", body="")

    await page.route("**/build/**", empty)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    # Each try may begin a launch: after ten seconds it is enough.
    for _ in range(30):
        await page.clock.run_for(1000)
    await expect(page.get_by_role("alert")).to_contain_text("The service stopped answering.")
    told = asked
    await page.clock.run_for(60_000)
    assert asked == told
    assert 2 <= asked <= 6


async def test_an_open_log_shows_little_more_than_is_kept(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    kept, shown, last = await page.evaluate("""async () => {
        const { LaunchLog } = await import(`${window.pageConfig.baseUrl}static/launch-log.js`);
        const log = new LaunchLog(document.getElementById("log-box"));
        const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        let told = 0;
        const tell = (lines) => { for (const end = told + lines; told < end; told += 1) log.add(`line ${told}\\n`); };
        tell(15_000);
        log.open();
        await log.loading;
        for (let burst = 0; burst < 8; burst += 1) { tell(3_000); await painted(); }
        return [log.text, document.getElementById("log").textContent, `line ${told - 1}\\n`];
    }""")
    assert kept.count("\n") == 20_000
    assert shown.endswith(kept)
    assert kept.endswith(last)
    assert shown.count("\n") <= 25_000


async def test_a_log_whose_viewer_cannot_be_had_is_plain_text(service: Service, page: Page) -> None:
    await page.route("**/log-viewer.js*", lambda route: route.abort())
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "first\n"))
    await page.get_by_text("Log", exact=True).click()
    await expect(page.locator("#log")).to_have_text("first\n")
    await service.tell(event(Phase.BUILDING, "second\n"))
    await expect(page.locator("#log")).to_have_text("first\nsecond\n")


async def test_the_log_is_searched_copied_and_saved(service: Service, page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(*(event(Phase.BUILDING, f"line {n}: Collecting package\n") for n in range(40)))
    await page.get_by_text("Log", exact=True).click()
    await page.get_by_label("Search the log").fill("line 1")
    await expect(page.locator("#log-found")).to_have_text("1 of 11")
    await page.keyboard.press("Enter")
    await expect(page.locator("#log-found")).to_have_text("2 of 11")
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "line 39: Collecting" in await page.evaluate("navigator.clipboard.readText()")
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="Download").click()
    download = await saving.value
    assert (await download.path()).read_text().startswith("line 0: Collecting package\n")


async def test_what_is_searched_for_is_found_in_what_comes_later(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(*(event(Phase.BUILDING, f"line {n}: Collecting package\n") for n in range(60)))
    await page.get_by_text("Log", exact=True).click()
    found, log = page.locator("#log-found"), page.locator("#log")
    await page.get_by_label("Search the log").fill("wheel")
    await expect(found).to_have_text("not found")
    await service.tell(event(Phase.BUILDING, "Building wh"), event(Phase.BUILDING, "eel\n"))
    await expect(found).to_have_text("1 of 1")
    await page.get_by_label("Search the log").fill("line 1")
    await expect(found).to_have_text("1 of 11")
    await page.keyboard.press("Enter")
    await expect(found).to_have_text("2 of 11")
    place = await log.evaluate("(log) => log.scrollTop")
    await service.tell(event(Phase.BUILDING, "a Line 1 and li"))
    await expect(found).to_have_text("2 of 12")
    await service.tell(event(Phase.BUILDING, "ne 1 again\n" + "more\n" * 50))
    await expect(found).to_have_text("2 of 13")
    await expect(log.locator("mark")).to_have_text(["line 1"] * 11 + ["Line 1", "line 1"])
    assert await log.evaluate("(log) => [...log.querySelectorAll('mark')].findIndex((m) => m.matches('.here'))") == 1
    assert await log.evaluate("(log) => log.scrollTop") == place
    assert (await log.inner_text()).count("a Line 1 and line 1 again\nmore\n") == 1


async def test_a_place_found_is_kept_where_the_log_lets_go_of_its_beginning(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    before, after, found, counts, shown = await page.evaluate("""async () => {
        const { LaunchLog } = await import(`${window.pageConfig.baseUrl}static/launch-log.js`);
        // The page's own log must not open with this one.
        const own = document.getElementById("log-box");
        own.replaceWith(own.cloneNode(true));
        const log = new LaunchLog(document.getElementById("log-box"));
        const painted = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        const [search, output] = [document.getElementById("log-search"), document.getElementById("log")];
        let told = 0;
        const tell = (lines) => { for (const end = told + lines; told < end; told += 1) log.add(`line ${told};\n`); };
        tell(20_000);
        log.open();
        await log.loading;
        search.value = "000;";
        search.dispatchEvent(new Event("input"));
        for (let n = 0; n < 9; n += 1) search.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
        const count = () => document.getElementById("log-found").textContent;
        const mark = () => output.querySelector(".here").previousSibling.data.split("\\n").at(-1);
        const top = () => Math.round(output.querySelector(".here").getBoundingClientRect().top);
        const counts = [count()];
        const before = [mark(), top()];
        for (let burst = 0; burst < 2; burst += 1) { tell(3_000); await painted(); counts.push(count()); }
        const found = output.querySelectorAll("mark").length;
        return [before, [mark(), top()], found, counts, output.textContent.split("\\n").length];
    }""")
    assert before[0] == "line 10"
    assert after == before
    assert (found, shown) == (20, 20_001)
    assert counts == ["10 of 19", "10 of 22", "5 of 20"]
