"""BinderHub's documented clients at a member that stands alone: they work as they are, from other origins too."""

import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright
from thebe import served
from upstreamclients import curl, event_source, install_npm_client, npm_client
from yarl import URL

from frontend.tokens import make_build_token
from tests.member.test_member_app import DIRECT, Member, member_of

#: One launch for each visitor who brings no token, this machine's too.
RATE: dict[str, Any] = {"launches": 1, "per": "100h", "exempt": []}

FRESH = ["waiting", "fetching", "building", "building", "built", "launching", "launching", "ready"]
READY = {"phase", "message", "image", "repo_url", "token", "url", "binder_ref_url", "binder_launch_host"}
READY |= {"binder_request", "binder_persistent_request"}


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with member_of(tmp_path, federated=False, required=False, cors_allow_origin="*", rate=RATE) as made:
        yield made


def token(member: Member) -> str:
    """What the member's launch page bears."""
    return make_build_token(member.secret, DIRECT, URL(member.url).authority, time.time())


def phases(events: list[dict[str, Any]]) -> list[str]:
    return [event["phase"] for event in events]


async def test_curl_without_a_token_launches_and_is_counted(member: Member) -> None:
    events, headers = await curl(f"{member.url}build/{DIRECT}")
    assert [phase for phase in phases(events) if phase != "launching"] == [n for n in FRESH if n != "launching"]
    assert events[-1].keys() >= READY
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-remaining"]) == ("1", "0")
    assert "x-ratelimit-reset" in headers
    (refused,), _ = await curl(f"{member.url}build/{DIRECT}")
    assert (refused["phase"], refused["status_code"]) == ("failed", 429)
    assert refused["message"].startswith("Rate limit exceeded. Try again in ")


async def test_curl_with_the_token_of_a_page_is_not_counted(member: Member) -> None:
    for _ in range(3):
        events, headers = await curl(f"{member.url}build/{DIRECT}?build_token={token(member)}")
        assert phases(events)[-1] == "ready"
        assert "x-ratelimit-limit" not in headers
    (refused,), _ = await curl(f"{member.url}build/{DIRECT}?build_token={token(member)[:-2]}xx")
    assert (refused["status_code"], refused["message"]) == (403, "Invalid build token\n")
    # The token was made for pages of this host.
    (refused,), _ = await curl(
        f"{member.url}build/{DIRECT}?build_token={token(member)}", "-H", "Origin: https://other.example"
    )
    assert refused["status_code"] == 403


async def test_a_script_of_another_origin_reads_the_answer(member: Member) -> None:
    events, headers = await curl(f"{member.url}build/{DIRECT}", "-H", "Origin: https://other.example")
    assert phases(events)[-1] == "ready"
    assert headers["access-control-allow-origin"] == "*"


@pytest.mark.slow
async def test_the_npm_client_launches_with_and_without_a_token(
    member: Member, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = install_npm_client(tmp_path_factory.mktemp("npm"))
    for given in ("", token(member)):
        events = await npm_client(directory, member.url, DIRECT, given)
        assert phases(events)[-1] == "ready"
        assert "failed" not in phases(events)
        assert events[-1].keys() >= READY
    assert len(member.engines.hub.users) == 2


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium on PATH")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=arguments)
        made = await browser.new_page()
        made.set_default_timeout(120_000)
        yield made
        await browser.close()


@pytest.mark.browser
async def test_a_plain_event_source_of_another_origin_launches_once(member: Member, page: Page, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<!doctype html><title>A page of somebody else's</title>")
    with served(tmp_path / "site") as origin:
        await page.goto(f"{origin}/index.html")
        events, opened = await event_source(page, f"{member.url}build/{DIRECT}")
    assert phases(events)[-1] == "ready"
    assert phases(events).count("ready") == 1
    # It asked again after the end, as each one does, and was told to stop: nothing was launched for that.
    assert opened == 1
    assert len(member.engines.hub.users) == 1
