"""The home page in a real browser: a link is understood while it is typed, shared, and remembered."""

from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page, expect

from contract.events import Failure, Phase, event, failed
from tests.chromium import in_chromium
from tests.played import Service

pytestmark = in_chromium

LINK = "https://github.com/org/repo/blob/main/notebooks/index.ipynb"


async def test_a_link_is_understood_while_it_is_typed(service: Service, page: Page) -> None:
    await page.goto(service.url)
    repository, understood = page.get_by_label("Repository", exact=True), page.locator("#understood")
    await repository.fill(LINK)
    await expect(understood).to_have_text("GitHub: org/repo at main, opens notebooks/index.ipynb")
    await page.get_by_label("Branch, tag or commit").fill("v1.0")
    await expect(understood).to_have_text("GitHub: org/repo at v1.0, opens notebooks/index.ipynb")
    await page.get_by_label("Branch, tag or commit").fill("")
    await page.get_by_label("File to open").fill("other.ipynb")
    await expect(understood).to_have_text("GitHub: org/repo at main, opens other.ipynb")
    await repository.fill("/home/me/notebooks")
    await expect(understood).to_contain_text("cannot be launched")
    await expect(repository).to_have_attribute("aria-invalid", "true")
    await repository.fill("org/repo")
    await expect(understood).to_contain_text("org/repo at HEAD")
    await expect(repository).not_to_have_attribute("aria-invalid", "true")


async def test_a_badge_is_copied(service: Service, page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(service.url)
    await page.get_by_label("Repository", exact=True).fill(LINK)
    await page.get_by_text("Share it").click()
    url = "http://127.0.0.1:1/v2/gh/org/repo/main?labpath=notebooks%2Findex.ipynb"
    badge = "http://127.0.0.1:1/badge_logo.svg"
    for name, text in (
        ("Link", url),
        ("Markdown", f"[![Binder]({badge})]({url})"),
        ("reStructuredText", f".. image:: {badge}\n   :target: {url}"),
        ("HTML", f'<a href="{url}"><img src="{badge}" alt="Launch Binder"></a>'),
    ):
        button = page.get_by_role("button", name=f"Copy: {name}")
        await button.click()
        await expect(button).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == text
    await expect(page.locator("#badge-link img")).to_be_visible()


async def test_a_link_is_copied_where_there_is_no_clipboard(service: Service, page: Page) -> None:
    await page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined });")
    await page.goto(service.url)
    repository = page.get_by_label("Repository", exact=True)
    await repository.fill("org/repo")
    await page.get_by_text("Share it").click()
    button = page.get_by_role("button", name="Copy: Link")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_text("Copied")
    await expect(button).to_be_focused()
    await repository.fill("")
    await page.keyboard.press("Control+V")
    await expect(repository).to_have_value("http://127.0.0.1:1/v2/gh/org/repo/HEAD")


async def test_launches_are_remembered_here_and_forgotten_on_wish(service: Service, page: Page) -> None:
    await page.goto(service.url)
    await expect(page.get_by_role("heading", name="You launched lately")).to_be_hidden()
    await page.goto(f"{service.url}v2/gh/org/repo/main?labpath=a.ipynb")
    await service.tell(event(Phase.LAUNCHING, "Launching\n"), service.ready())
    await page.wait_for_url("**/user/visitor/**")
    await page.goto(service.url)
    link = page.get_by_role("link", name="org/repo", exact=True)
    await expect(link).to_have_attribute("href", "/v2/gh/org/repo/main?labpath=a.ipynb")
    await page.get_by_role("button", name="Forget these").click()
    await expect(link).to_be_hidden()
    await page.reload()
    await expect(page.get_by_role("heading", name="You launched lately")).to_be_hidden()
    # Come back to as it was left, the page tells of what was launched meanwhile.
    kept = [{"href": "/v2/gh/o/r/main", "label": "o/r", "ref": "main"}]
    await page.evaluate("kept => localStorage.setItem('manybinder:recent', JSON.stringify(kept))", kept)
    await page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    await expect(page.locator("#recent-list li")).to_have_text(["o/r main"])


async def test_what_is_no_launch_hides_none_that_is_remembered(service: Service, page: Page) -> None:
    await page.goto(service.url)
    for kept, shown in (
        ([None, 7, {"label": "a"}, {"href": 7, "label": "b"}, {"href": "/v2/gh/o/r/main", "label": "o/r"}], ["o/r"]),
        ([{"href": "https://evil.example/", "label": "o/r", "ref": "main"}], ["o/r main"]),
        ({"href": "/v2/gh/o/r/main", "label": "o/r"}, []),
        (None, []),
    ):
        await page.evaluate("kept => localStorage.setItem('manybinder:recent', JSON.stringify(kept))", kept)
        await page.reload()
        await expect(page.locator("#recent-list li")).to_have_text(shown)
        for link in await page.locator("#recent-list a").all():
            assert str(await link.get_attribute("href")).startswith("/")


async def test_the_whole_form_by_keyboard(service: Service, page: Page) -> None:
    await page.goto(service.url)
    await expect(page.get_by_label("Repository", exact=True)).to_be_focused()
    await page.keyboard.type("org/repo")
    await page.keyboard.press("Tab")
    await page.keyboard.type("main")
    await page.keyboard.press("Tab")
    await page.keyboard.type("a.ipynb")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")  # opens "More choices"
    await page.get_by_label("Open it in").select_option("notebook")
    await page.get_by_role("button", name="Launch").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/v2/gh/org/repo/main?filepath=a.ipynb")


async def test_a_page_in_german_speaks_it_throughout(service: Service, page: Page) -> None:
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await page.goto(f"{service.url}v2/gh/org/repo/main")
    await service.tell(event(Phase.BUILDING, "Step 1\n", member="alps", why="cold"))
    await expect(page.get_by_role("status")).to_have_text("Die Umgebung wird gebaut")
    await expect(page.locator("#member")).to_have_text("auf alps: dort ist Platz, die Umgebung zu bauen.")
    await expect(page.get_by_role("button", name="Abbrechen")).to_be_visible()
    await service.tell(failed(Failure.USER, "E: Unable to locate package gti\n"))
    await expect(page.get_by_role("heading", name="Die Umgebung ließ sich nicht bauen")).to_be_visible()
    await expect(page).to_have_title("Die Umgebung ließ sich nicht bauen · org/repo · Test")
    # Whoever reads the report may not speak the language of who sends it.
    report = await page.get_by_role("link", name="Melden").get_attribute("href")
    assert parse_qs(urlsplit(report or "").query)["title"] == ["The environment could not be built: org/repo"]
    # What others have said is not, and says so.
    await expect(page.locator("#failure-message[lang=en]")).to_have_text("E: Unable to locate package gti")
    await expect(page.locator("#fault-line[lang=en]")).to_have_text("gti")
    await expect(page.get_by_label("Protokoll von Bau und Start").locator("> [lang=en]")).to_contain_text("Step 1")


async def test_a_form_in_german_says_which_of_its_words_are_english(service: Service, page: Page) -> None:
    await page.set_extra_http_headers({"Accept-Language": "de"})
    await page.goto(service.url)
    repository, understood = page.get_by_label("Repository", exact=True), page.locator("#understood")
    await repository.fill("ftp://h.example/r")
    await expect(understood).to_contain_text("ftp")
    await expect(understood).to_have_attribute("lang", "en")
    await repository.fill("x y")
    await expect(understood).to_have_text("Die Adresse eines Repositorys enthält keine Leerzeichen.")
    await expect(understood).not_to_have_attribute("lang", "en")
    await repository.fill("https://git.example/r")
    await expect(understood).to_contain_text("Stand HEAD")
    await expect(understood).not_to_have_attribute("lang", "en")


async def test_where_launches_go_now(service: Service, page: Page) -> None:
    await page.goto(service.url)
    members = page.locator("#members-list li")
    await expect(members).to_have_text(["alps 12 free", "fjord open", "mesa full", "delta draining"])
    await expect(page.locator("#members-count")).to_have_text("Taking launches: 2 of 4.")
    # Who comes back to the page sees what has changed meanwhile.
    service.members[0] |= {"state": "unreachable", "available": False}
    service.members[1]["believed_free"] = 5
    del service.members[2]
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect(members).to_have_text(["alps not reachable", "fjord 5 free", "delta draining"])
    await expect(page.locator("#members-count")).to_have_text("Taking launches: 1 of 3.")


async def test_where_launches_go_is_looked_at_again_and_again(service: Service, page: Page) -> None:
    await page.clock.install()
    await page.goto(service.url)
    members = page.locator("#members-list li")
    await expect(members).to_have_text(["alps 12 free", "fjord open", "mesa full", "delta draining"])
    service.members[0]["believed_free"] = 11
    await page.clock.fast_forward(15_000)
    await expect(members.first).to_have_text("alps 11 free")


async def test_contents_of_another_repository_by_the_form(service: Service, page: Page) -> None:
    await page.goto(service.url)
    await page.get_by_label("Repository", exact=True).fill("o/env")
    await page.get_by_label("File to open").fill("week 1/a.ipynb")
    await page.get_by_text("More choices").click()
    await page.get_by_label("Contents from another repository").fill("https://github.com/o/course")
    await page.get_by_label("Branch of the contents").fill("2026")
    await expect(page.locator("#understood")).to_contain_text("o/env at HEAD, opens git-pull?repo=")
    await page.get_by_role("button", name="Launch", exact=True).click()
    await page.wait_for_url("**/v2/gh/o/env/HEAD?urlpath=git-pull*")
    await service.tell(service.ready())
    await page.wait_for_url("**/user/visitor/**")
    (visit,) = service.visits
    assert visit.startswith("/user/visitor/git-pull?")
    pulled = parse_qs(urlsplit(visit).query)
    assert pulled == {
        "repo": ["https://github.com/o/course"],
        "branch": ["2026"],
        "urlpath": ["lab/tree/course/week 1/a.ipynb"],
        "token": ["secret"],
    }


async def test_a_full_federation_names_others_and_a_failure_of_ours_is_reported_here(
    service: Service, page: Page
) -> None:
    await page.goto(f"{service.url}v2/gh/org/repo/main?force=true&labpath=a%20%26%20b.ipynb&member=alps&build_token=x")
    await service.tell(failed(Failure.REFUSED, "No member can take it.\n", reason="full", retry_after_s=30))
    other = page.get_by_role("link", name="Try at mybinder.org")
    await expect(other).to_have_attribute("href", "https://mybinder.org/v2/gh/org/repo/main?labpath=a+%26+b.ipynb")
    report = await page.get_by_role("link", name="Report this").get_attribute("href")
    assert report is not None
    assert report.startswith("https://tracker.example/new?project=binder&title=")
