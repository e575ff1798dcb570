"""A person with a browser: real Chromium, the launch page, JupyterLab."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote, urlsplit

import pytest
from federation import Federation, git_spec
from gitrepos import make_repo
from gitserver import GitServer
from playwright.async_api import Page, expect

from tests.chromium import in_chromium

pytestmark = [*in_chromium, pytest.mark.slow]


@pytest.fixture(scope="session")
def repo(git_server: GitServer) -> str:
    notebook = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    make_repo(git_server.root, "for-people", {"requirements.txt": "six\n", "index.ipynb": notebook})
    return git_server.url("for-people")


async def test_a_launch_link_opens_the_file_it_names(federation: Federation, page: Page, repo: str) -> None:
    await page.goto(f"{federation.url}/v2/{git_spec(repo)}?labpath=index.ipynb")
    await page.wait_for_url("**/index.ipynb**", timeout=170_000)
    await expect(page.locator(".jp-NotebookPanel").first).to_be_visible(timeout=60_000)


@pytest.mark.parametrize(
    "path", ["https://evil.example/", "//evil.example/", "\\\\evil.example", "/\\evil.example", "../../../hub/"]
)
async def test_no_link_leaves_the_session(federation: Federation, page: Page, repo: str, path: str) -> None:
    visited: list[str] = []
    page.on("request", lambda request: visited.append(request.url) if request.is_navigation_request() else None)
    await page.goto(f"{federation.url}/v2/{git_spec(repo)}?urlpath={quote(path, safe='')}")
    await page.wait_for_url("**/user/**", timeout=170_000)
    member = urlsplit(page.url).netloc
    for url in visited:
        assert urlsplit(url).netloc in (urlsplit(federation.url).netloc, member), url
    assert urlsplit(page.url).path.startswith("/user/")


async def test_a_failed_launch_says_why_and_shows_the_log(
    federation: Federation, page: Page, git_server: GitServer
) -> None:
    make_repo(git_server.root, "hurt", {"requirements.txt": "", "postBuild": "#!/bin/sh\necho it hurts; exit 3\n"})
    await page.goto(f"{federation.url}/v2/{git_spec(git_server.url('hurt'))}")
    await expect(page.get_by_text("postBuild", exact=False).first).to_be_visible(timeout=120_000)
    await expect(page.get_by_text("it hurts", exact=False).first).to_be_visible()


class _Evil(BaseHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent."""


@pytest.fixture
def evil_site() -> Iterator[str]:
    """A web server of another site (a name, where the federation goes by its address)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_page_of_another_origin_cannot_start_a_launch(
    federation: Federation, page: Page, repo: str, evil_site: str
) -> None:
    build = f"{federation.url}/build/{git_spec(repo)}"
    launch = f"{federation.url}/v2/{git_spec(repo)}"
    _Evil.page = f"""<!doctype html><title>evil</title><iframe src="{launch}"></iframe><script>
      window.results = [];
      new EventSource("{build}").onmessage = (message) => results.push("event: " + message.data);
      fetch("{launch}").then((r) => r.text()).then((t) => results.push("read: " + t), () => results.push("blocked"));
      fetch("{build}", {{mode: "no-cors", headers: {{Accept: "text/event-stream"}}}}).then(() => results.push("sent"));
    </script><a id="go" href="{launch}">go</a>""".encode()
    before = await _launches(federation, page)
    await page.goto(evil_site)
    await page.wait_for_function("results.includes('blocked')")
    await page.wait_for_timeout(2000)
    results = await page.evaluate("results")
    assert not [line for line in results if line.startswith(("event", "read"))], results
    # Following a link is the visitor's own act, and still asks.
    await page.click("#go")
    await expect(
        page.get_by_role("button", name="Launch").or_(page.get_by_role("link", name="Launch")).first
    ).to_be_visible()
    await page.wait_for_timeout(2000)
    assert await _launches(federation, page) == before


async def _launches(federation: Federation, page: Page) -> str:
    """The gateway's count of launches begun, as its metrics tell it."""
    response = await page.request.get(f"{federation.url}/metrics")
    lines = (await response.text()).splitlines()
    return "\n".join(line for line in lines if "launch" in line and "_created" not in line and not line.startswith("#"))


@pytest.fixture
def short_lived(tmp_path: Path, member_config: Path) -> Iterator[Federation]:
    """A federation of one member whose sessions end within a quarter of an hour."""
    config = tmp_path / "members.yaml"
    config.write_text(member_config.read_text() + "  max_age: 10m\n")
    federation = Federation.start(tmp_path / "up", "--members", "1", "--member-config", str(config))
    yield federation
    federation.stop()


async def test_jupyterlab_warns_before_the_session_ends(short_lived: Federation, page: Page, repo: str) -> None:
    await page.goto(f"{short_lived.url}/v2/{git_spec(repo)}")
    await page.wait_for_url("**/user/**/lab**", timeout=170_000)
    warning = page.get_by_text("This session ends in about", exact=False).first
    await expect(warning).to_be_visible(timeout=90_000)
    text = await warning.inner_text()
    assert any(f"{minutes} minutes" in text for minutes in (6, 7, 8, 9, 10)), text
    assert "Download what you want to keep" in text
