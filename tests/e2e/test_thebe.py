"""A page of another site that runs its cells in a federation, by way of thebe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from federation import Federation
from gitrepos import make_repo
from gitserver import GitServer
from playwright.async_api import Browser, Page
from thebe import Thebe, install, served

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a site with a page that embeds thebe."""
    directory = tmp_path_factory.mktemp("site")
    install(directory)
    with served(directory) as origin:
        yield origin


@pytest.fixture(scope="module")
def open_federation(tmp_path_factory: pytest.TempPathFactory, member_config: Path, site: str) -> Iterator[Federation]:
    """A federation that lets the pages of that site launch, and speak to its notebooks."""
    config = tmp_path_factory.mktemp("open")
    member = yaml.safe_load(member_config.read_text())
    security = {"cors_allow_origin": site}
    gateway = {"security": {**security, "require_build_token": False}}
    (config / "gateway.yaml").write_text(yaml.safe_dump(gateway))
    (config / "members.yaml").write_text(yaml.safe_dump({**member, "security": security}))
    federation = Federation.start(
        tmp_path_factory.mktemp("open-up") / "up",
        *("--members", "1"),
        *("--gateway-config", str(config / "gateway.yaml"), "--member-config", str(config / "members.yaml")),
    )
    yield federation
    federation.stop()


@pytest.fixture
async def page(browser: Browser) -> Page:
    """A page of real Chromium."""
    return await browser.new_page()


@pytest.fixture(scope="module")
def repo(git_server: GitServer) -> str:
    """A repository whose code tells where it runs."""
    make_repo(git_server.root, "embedded", {"requirements.txt": "six\n", "where.py": "name = 'the repository'\n"})
    return git_server.url("embedded")


async def test_a_page_of_another_site_runs_a_cell(
    open_federation: Federation, site: str, page: Page, repo: str
) -> None:
    thebe = Thebe(page, site)
    assert await thebe.launch(open_federation.url, repo) == "ready"
    assert await thebe.run("import where; print('in', where.name, 6 * 7)") == "in the repository 42"
    told = await thebe.told()
    assert not [event for event in told if event["kind"] == "error"]
    assert any(event["message"].startswith("Binder is: launching - ") for event in told)


async def test_a_federation_that_was_not_opened_to_the_site_launches_nothing_for_it(
    federation: Federation, site: str, page: Page, repo: str
) -> None:
    thebe = Thebe(page, site)
    assert (await thebe.launch(federation.url, repo)).startswith("failed: Lost connection to binder")
    assert [event["status"] for event in await thebe.told() if event["kind"] == "error"] == ["error"]
