"""The browser's side in a real browser: what a visitor sees of a launch, and where it leads."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, async_playwright, expect

from contract.events import BuildEvent, Failure, Phase, event, failed
from contract.journal import Journal
from contract.launches import launch_id
from frontend.admission import admit
from frontend.middlewares import install
from frontend.refusals import Refused
from frontend.routes import add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings
from servicekit.streams import stream_entries

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# How long a page takes says how busy the machine is.
expect.set_options(timeout=30_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
BACKSLASHES = "\\\\evil.example"


@dataclass
class Service:
    """A service with a frontend whose launches a test plays by hand."""

    url: str = ""
    journals: dict[str, Journal] = field(default_factory=dict)
    builds: int = 0
    asked: list[str] = field(default_factory=list)
    """The queries of requests for builds."""
    cancelled: list[str] = field(default_factory=list)
    visits: list[str] = field(default_factory=list)
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def begun(self) -> Journal:
        """The journal of the launch that a browser has begun."""
        async with asyncio.timeout(90):
            while not self.journals:
                await asyncio.sleep(0.01)
        return next(iter(self.journals.values()))

    async def tell(self, *events: BuildEvent) -> None:
        """Append events to it."""
        journal = await self.begun()
        for item in events:
            journal.append(item)

    def ready(self) -> BuildEvent:
        """The event that sends a visitor to a session here."""
        return event(Phase.READY, "server running\n", url=f"{self.url}user/visitor/", token="secret")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    session = aiohttp.ClientSession()
    providers = Providers(ProvidersSettings(), session)
    site = Site("Test", "http://127.0.0.1:1/", "s" * 32, "1", require_build_token=True, confirm_cross_site=True)

    async def build(request: web.Request) -> web.StreamResponse:
        service.builds += 1
        service.asked.append(request.query_string)
        try:
            admitted = admit(request, site, providers, time.time())
        except Refused as refused:
            return refused.response()
        launch, after = admitted.resume or (launch_id(os.urandom(16)), -1)
        journal = service.journals.setdefault(launch, Journal())
        if journal.final is not None and after >= journal.next_n - 1:
            return web.Response(status=204)
        stream = asyncio.ensure_future(stream_entries(request, journal.follow(after), launch))
        cutting = asyncio.ensure_future(service.cut.wait())
        await asyncio.wait({stream, cutting}, return_when=asyncio.FIRST_COMPLETED)
        cutting.cancel()
        if not stream.done() and request.transport is not None:
            request.transport.abort()
        return await stream

    async def cancel(request: web.Request) -> web.Response:
        launch = request.match_info["launch"]
        service.cancelled.append(launch)
        service.journals[launch].append(failed(Failure.USER, "The launch was cancelled.\n"))
        return web.Response(status=204)

    async def visit(request: web.Request) -> web.Response:
        service.visits.append(request.path_qs)
        return web.Response(text="<h1>session</h1>", content_type="text/html")

    app = web.Application()
    install(app, site)
    add_routes(app, site, providers)
    app.router.add_get("/build/{provider}/{spec:.+}", build)
    app.router.add_delete("/api/v1/launches/{launch}", cancel)
    app.router.add_get("/user/{rest:.*}", visit)
    server = TestServer(app)
    await server.start_server()
    service.url = str(server.make_url("/"))
    yield service
    for journal in service.journals.values():
        if journal.final is None:
            journal.append(failed(Failure.GATEWAY, "the test is over"))
    await server.close()
    await providers.close()
    await session.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium on PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page; what it complains of on its console (a policy that is broken, an error of a script) fails the test."""
    page = await browser.new_page()
    page.set_default_timeout(90_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None)
    yield page
    assert not complaints


async def test_from_the_form_to_the_session(service: Service, page: Page) -> None:
    await page.goto(service.url)
    await page.get_by_label("Repository").fill("  binder-examples/requirements ")
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
    held = failed(Failure.USER, "It is tried again in 60 s.\n", reason="held", retry_after_s=59.2, log_url=log)
    await service.tell(held)
    await expect(page.get_by_role("alert")).to_contain_text("Try again in 60 s.")
    await expect(page.get_by_role("link", name="The whole log of the build")).to_have_attribute("href", log)
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
    await expect(page.get_by_role("status")).to_have_text("Waiting in the queue: place 3, about 80 s")
    await service.tell(event(Phase.LAUNCHING, "Waiting\n", position=2))
    await expect(page.get_by_role("status")).to_have_text("Waiting in the queue: place 2")
    await service.tell(event(Phase.LAUNCHING, "Starting\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session")


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


async def test_cancelling_where_the_service_hangs(service: Service, page: Page) -> None:
    await page.route("**/api/v1/launches/*", lambda _: None)
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.WAITING, "Waiting\n"))
    await expect(page.get_by_role("status")).to_have_text("Waiting for the build to start")
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("You cancelled this launch")
    assert not service.cancelled


async def test_a_connection_that_breaks_goes_on_where_it_was(service: Service, page: Page) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "first\n"))
    await expect(page.get_by_role("status")).to_have_text("Building the environment")
    service.cut.set()
    await expect(page.get_by_role("status")).to_contain_text("connection was lost")
    service.cut.clear()
    await service.tell(event(Phase.LAUNCHING, "second\n"))
    await expect(page.get_by_role("status")).to_have_text("Starting your session", timeout=60_000)
    assert await page.locator("#log").text_content() == "first\nsecond\n"
    assert len(service.journals) == 1


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
