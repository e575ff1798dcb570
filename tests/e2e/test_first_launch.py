"""The main job: from a link to a running notebook."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import thebe
from federation import Federation, gateway_beside, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook
from playwright.async_api import Page, expect
from thebe import Thebe
from yarl import URL

from contract.events import Phase

pytestmark = pytest.mark.timeout(600)


def _cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "manybinder", *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="session")
def cowsay(git_server: GitServer) -> str:
    """A repository that asks for one small package, with a notebook that needs it."""
    code = {"cell_type": "code", "id": "one", "source": "import humanize; print(humanize.intcomma(1234567))"}
    notebook = {
        "cells": [{**code, "metadata": {}, "outputs": [], "execution_count": None}],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    files = {"requirements.txt": "humanize==4.12.3\n", "index.ipynb": json.dumps(notebook)}
    make_repo(git_server.root, "cowsay", files)
    return git_server.url("cowsay")


async def test_a_link_becomes_a_running_notebook_and_the_second_launch_skips_the_build(
    federation: Federation, http: aiohttp.ClientSession, cowsay: str
) -> None:
    first = await asyncio.to_thread(_cli, "launch", cowsay, "--gateway", federation.url, "--json")
    assert first.returncode == 0, first.stderr
    events = [json.loads(line) for line in first.stdout.splitlines()]
    phases = [event["phase"] for event in events]
    assert phases[-1] == "ready"
    assert "building" in phases
    assert phases.index("built") < phases.index("launching")

    notebook = Notebook(http, events[-1]["url"], events[-1]["token"])
    output = await notebook.run("import humanize; print(humanize.intcomma(1234567))")
    assert output == "1,234,567\n"

    second = await asyncio.to_thread(_cli, "launch", cowsay, "--gateway", federation.url)
    assert second.returncode == 0, second.stderr
    (url,) = second.stdout.split()
    assert "Found built image" in second.stderr or "building" not in second.stderr.lower()
    assert await Notebook.at(http, url).run("import humanize, sys; print(sys.prefix != sys.base_prefix)") == "True\n"


@pytest.mark.asyncio(loop_scope="session")
async def test_a_visitor_goes_from_the_home_page_to_a_notebook_and_runs_its_code(
    federation: Federation, page: Page, cowsay: str
) -> None:
    await page.goto(federation.url)
    await page.get_by_label("Repository", exact=True).fill(cowsay)
    await page.get_by_label("File to open").fill("index.ipynb")
    await page.get_by_role("button", name="Launch", exact=True).click()
    await page.wait_for_url("**/user/**/index.ipynb**", timeout=170_000)
    # JupyterLab shows a notebook before its kernel is there, and runs nothing until then, without a word.
    await expect(page.get_by_role("button", name="| Idle")).to_be_visible(timeout=60_000)
    await page.locator(".jp-CodeCell .cm-content").first.click()
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".jp-OutputArea-output").first).to_have_text("1,234,567")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, site_port: int) -> Iterator[str]:
    """The origin of a site with a page that embeds thebe."""
    directory = tmp_path_factory.mktemp("site")
    thebe.install(directory)
    with thebe.served(directory, site_port) as origin:
        yield origin


@pytest.mark.parametrize("origin", ["its own", pytest.param("*", marks=pytest.mark.slow)])
@pytest.mark.asyncio(loop_scope="session")
async def test_a_page_of_another_site_runs_a_cell_where_it_may_and_nowhere_else(
    federation: Federation, site: str, page: Page, cowsay: str, tmp_path: Path, origin: str
) -> None:
    closed = Thebe(page, site)
    assert (await closed.launch(federation.url, cowsay)).startswith("failed: Lost connection to binder")
    assert [event["status"] for event in await closed.told() if event["kind"] == "error"] == ["error"]

    # For the members' "*", see tests/member/test_upstream_stories.py: they are the federation's, and let in this site.
    security = {"require_build_token": False, "cors_allow_origin": site if origin == "its own" else origin}
    with gateway_beside(federation, tmp_path, {"security": security}) as gateway:
        embedded = Thebe(page, site)
        assert await embedded.launch(gateway, cowsay) == "ready"
        assert await embedded.run("import humanize; print('in', humanize.intcomma(6 * 7000))") == "in 42,000"
        told = await embedded.told()
    assert not [event for event in told if event["kind"] == "error"]
    assert any(event["message"].startswith("Binder is: launching - ") for event in told)


async def test_every_event_says_which_member_and_bears_an_id(
    federation: Federation, http: aiohttp.ClientSession, cowsay: str
) -> None:
    seen = [(event_id, event) async for event_id, event in federation.events(http, git_spec(cowsay))]
    launch_ids = {event_id.split(".")[0] for event_id, _ in seen}
    assert len(launch_ids) == 1
    assert [int(event_id.split(".")[1]) for event_id, _ in seen] == list(range(len(seen)))
    fields = ready([event for _, event in seen])
    assert fields["member"] in ("member-1", "member-2")
    assert fields["binder_launch_host"].rstrip("/") == federation.url
    assert fields["binder_request"] == f"v2/{git_spec(cowsay)}"
    assert fields["repo_url"] == cowsay
    # The id is the authority over the launch; what is shown of it gives none.
    assert not any(next(iter(launch_ids)) in event.to_json() for _, event in seen)


async def test_a_finished_launch_is_not_started_again_by_a_reconnecting_client(
    federation: Federation, http: aiohttp.ClientSession, cowsay: str
) -> None:
    seen = [(event_id, event) async for event_id, event in federation.events(http, git_spec(cowsay))]
    ready([event for _, event in seen])
    last = seen[-1][0]
    url = f"{federation.url}/build/{git_spec(cowsay)}"
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    async with http.get(URL(url, encoded=True), headers=headers) as response:
        assert response.status == 204


async def test_sessions_can_install_packages_and_do_not_see_each_others(
    federation: Federation, http: aiohttp.ClientSession, cowsay: str
) -> None:
    one = ready(await federation.launch(http, git_spec(cowsay)))
    two = ready(await federation.launch(http, git_spec(cowsay)))
    first, second = Notebook(http, one["url"], one["token"]), Notebook(http, two["url"], two["token"])
    installed = await first.run(
        "import subprocess, sys\n"
        "r = subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', 'six==1.17.0'], "
        "capture_output=True, text=True)\n"
        "r2 = subprocess.run([sys.executable, '-c', 'import six, humanize; print(six.__version__)'], "
        "capture_output=True, text=True)\n"
        "open('mine.txt', 'w').write('x')\n"
        "print(r.returncode, r2.stdout or r2.stderr, r.stderr if r.returncode else '')"
    )
    assert installed.startswith("0 1.17.0"), installed
    absent = "import os, humanize; print(os.path.exists('mine.txt'))"
    assert await second.run(absent) == "False\n"


async def test_status_and_explain_tell_the_operator_and_the_visitor(federation: Federation, cowsay: str) -> None:
    async with asyncio.timeout(150):
        healthy = False
        # A member on a machine that is too busy may count as unreachable for a moment.
        while not healthy:
            status = await asyncio.to_thread(_cli, "status", "--gateway", federation.url, "--json")
            assert status.returncode == 0, status.stderr
            members = [json.loads(line) for line in status.stdout.splitlines()]
            assert {member["name"] for member in members} == {"member-1", "member-2"}
            healthy = all(member["health"] == "healthy" for member in members)

    table = await asyncio.to_thread(_cli, "status", "--gateway", federation.url)
    assert "member-1" in table.stdout

    explained = await asyncio.to_thread(_cli, "explain", cowsay, "--gateway", federation.url)
    assert explained.returncode == 0, explained.stderr
    assert "member-" in explained.stdout.splitlines()[0]


async def test_the_notebook_token_is_in_no_log_and_no_argv(
    federation: Federation, http: aiohttp.ClientSession, cowsay: str
) -> None:
    fields = ready(await federation.launch(http, git_spec(cowsay)))
    token = fields["token"]
    await Notebook(http, fields["url"], token).get("api/status")
    assert not [process for process, command in federation.commands() if token in " ".join(command)]
    for path in federation.data_dir.rglob("*.log"):
        assert token not in path.read_text(errors="replace"), path


async def test_a_visitor_can_cancel_a_launch(
    federation: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(
        git_server.root, "sleepy", {"postBuild": "#!/bin/sh\necho sleeping; sleep 600\n", "requirements.txt": "six\n"}
    )
    finals = []
    async with asyncio.timeout(170):
        async for event_id, event in federation.events(http, git_spec(git_server.url("sleepy"))):
            if "sleeping" in event.message:
                launch = event_id.split(".")[0]
                async with http.delete(f"{federation.url}/api/v1/launches/{launch}") as response:
                    assert response.status == 204
            if event.is_final:
                finals.append(event)
    assert [event.phase for event in finals] == [Phase.FAILED]
    assert "cancel" in finals[0].message.lower()
