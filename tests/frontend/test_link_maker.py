"""The home page's form: what it makes of a link, and how it opens."""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from frontend.links import Link, LinkError, opening, parse_link
from frontend.middlewares import install
from frontend.routes import add_routes
from frontend.site import Site
from frontend.viewers import shown_address
from providers.registry import Providers
from providers.settings import ProvidersSettings

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        providers = Providers(ProvidersSettings(), session)
        site = Site("Test", "http://127.0.0.1:1/base/", "s" * 32, "1")
        app = web.Application()
        install(app, site)
        add_routes(app, site, providers)
        async with TestClient(TestServer(app)) as client:
            yield client
        await providers.close()


@pytest.mark.parametrize(
    ("text", "link"),
    [
        ("https://nbviewer.org/github/o/r/blob/main/a/b.ipynb", Link("gh", "o/r/main", "a/b.ipynb")),
        ("https://nbviewer.jupyter.org/github/o/r/tree/v1/a", Link("gh", "o/r/v1", "a", True)),
        ("https://nbviewer.org/github/o/r/", Link("gh", "o/r/HEAD")),
        ("https://nbviewer.org/gist/user/0af9e8/", Link("gist", "user/0af9e8")),
        ("https://nbviewer.org/urls/raw.githubusercontent.com/o/r/main/b.ipynb", Link("gh", "o/r/main", "b.ipynb")),
        ("https://raw.githubusercontent.com/o/r/refs/heads/dev/b.ipynb", Link("gh", "o/r/dev", "b.ipynb")),
        ("https://colab.research.google.com/github/o/r/blob/main/b.ipynb", Link("gh", "o/r/main", "b.ipynb")),
        ("https://github.dev/o/r/blob/main/b.ipynb", Link("gh", "o/r/main", "b.ipynb")),
        ("https://github.dev/o/r/pull/12", Link("gh", "o/r/refs/pull/12/head")),
        ("https://vscode.dev/github/o/r/tree/dev", Link("gh", "o/r/dev")),
        ("https://gist.github.com/user/0af9e8", Link("gist", "user/0af9e8")),
        ("https://gist.github.com/user/0af9e8.git", Link("gist", "user/0af9e8")),
        (
            "https://hub.example/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr"
            "&branch=main&urlpath=lab%2Ftree%2Fr%2Fa.ipynb",
            Link("gh", "o/r/main", "a.ipynb"),
        ),
        (
            "https://hub.example/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr",
            Link("gh", "o/r/HEAD"),
        ),
    ],
)
def test_viewers_lead_to_what_they_show(text: str, link: Link) -> None:
    assert parse_link(text) == link


def test_a_ref_that_is_given_goes_before() -> None:
    assert parse_link("https://gist.github.com/user/0af9e8", "abc") == Link("gist", "user/0af9e8/abc")


@given(st.text(max_size=200))
def test_viewers_take_any_address(rest: str) -> None:
    for host in ("nbviewer.org", "gist.github.com", "raw.githubusercontent.com", "hub.example/git-pull"):
        with contextlib.suppress(LinkError):
            assert parse_link(f"https://{host}/{rest}").spec


def test_viewers_that_show_viewers_end() -> None:
    shown = "nbviewer.org/github/o/r/blob/main/a.ipynb"
    assert shown_address(f"https://nbviewer.org/urls/{shown}") == "https://github.com/o/r/blob/main/a.ipynb"
    assert shown_address("https://" + "nbviewer.org/urls/" * 5000 + shown)


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("", {"labpath": "a b.ipynb"}),
        ("lab", {"labpath": "a b.ipynb"}),
        ("notebook", {"filepath": "a b.ipynb"}),
        ("url", {"urlpath": "a b.ipynb"}),
    ],
)
def test_ways_to_open(kind: str, query: dict[str, str]) -> None:
    assert opening(Link("gh", "o/r/HEAD", "a b.ipynb"), kind).query == query


def test_contents_of_another_repository() -> None:
    link = opening(Link("gh", "o/env/HEAD", "week 1/a.ipynb"), "", "https://github.com/o/course.git", "2026")
    pulled = urlsplit(link.query["urlpath"])
    assert pulled.path == "git-pull"
    assert parse_qs(pulled.query) == {
        "repo": ["https://github.com/o/course.git"],
        "branch": ["2026"],
        "urlpath": ["lab/tree/course/week 1/a.ipynb"],
    }
    plain = opening(Link("gh", "o/env/HEAD"), "notebook", "https://h.example/course")
    assert parse_qs(urlsplit(plain.query["urlpath"]).query)["urlpath"] == ["tree/course"]


@pytest.mark.parametrize(
    ("kind", "content"), [("sideways", ""), ("", "git@github.com:o/r"), ("", "https://h"), ("", "x")]
)
def test_ways_that_are_none(kind: str, content: str) -> None:
    with pytest.raises(LinkError):
        opening(Link("gh", "o/r/HEAD"), kind, content)


async def test_a_link_is_understood(client: Client) -> None:
    params = {"repo": "https://github.com/o/r/blob/main/a.ipynb", "ref": "", "open": "notebook"}
    response = await client.get("/base/api/v1/link", params=params)
    assert response.status == 200
    assert await response.json() == {
        "provider": "gh",
        "provider_name": "GitHub",
        "label": "o/r",
        "repo_url": "https://github.com/o/r",
        "ref": "main",
        "path": "a.ipynb",
        "opens": "a.ipynb",
        "launch_url": "http://127.0.0.1:1/base/v2/gh/o/r/main?filepath=a.ipynb",
        "launch_path": "/base/v2/gh/o/r/main?filepath=a.ipynb",
        "spec": "gh/o/r/main",
    }


async def test_what_has_no_refs_is_at_none(client: Client) -> None:
    told = await (await client.get("/base/api/v1/link", params={"repo": "10.5281/zenodo.3242074"})).json()
    assert (told["label"], told["ref"]) == ("10.5281/zenodo.3242074", "")
    record = await (await client.get(told["launch_path"])).text()
    repository = await (await client.get("/base/v2/gh/o/r/main")).text()
    assert "<code>HEAD</code>" not in record
    assert "<code>main</code>" in repository


async def test_a_link_with_contents_of_another_repository(client: Client) -> None:
    params = {"repo": "o/env", "path": "a.ipynb", "content": "https://github.com/o/course", "branch": "2026"}
    response = await client.get("/base/api/v1/link", params=params)
    assert response.status == 200
    told = await response.json()
    assert told["spec"] == "gh/o/env/HEAD"
    launch = urlsplit(told["launch_url"])
    assert launch.path == "/base/v2/gh/o/env/HEAD"
    (urlpath,) = parse_qs(launch.query)["urlpath"]
    assert urlpath == told["opens"]
    assert urlsplit(urlpath).path == "git-pull"
    assert parse_qs(urlsplit(urlpath).query) == {
        "repo": ["https://github.com/o/course"],
        "branch": ["2026"],
        "urlpath": ["lab/tree/course/a.ipynb"],
    }


@pytest.mark.parametrize(
    ("params", "words", "lang"),
    [
        ({}, "address of a repository", None),
        ({"repo": "x y"}, "no spaces", None),
        ({"repo": "o/r", "provider": "nope"}, "No provider found", None),
        ({"repo": "o/r", "open": "sideways"}, "no way to open", None),
        ({"repo": "ftp://h.example/r"}, "ftp", "en"),
    ],
)
async def test_a_link_that_leads_nowhere(client: Client, params: dict[str, str], words: str, lang: str | None) -> None:
    response = await client.get("/base/api/v1/link", params=params)
    assert (response.status, response.content_type) == (400, "application/problem+json")
    problem = await response.json()
    assert words in problem["detail"]
    # A provider's words, which are English in every language.
    assert problem.get("lang") == lang


async def test_the_form_sends_to_the_launch_page(client: Client) -> None:
    params = {"repo": "o/r", "path": "a.ipynb", "open": "notebook"}
    response = await client.get("/base/launch", params=params, allow_redirects=False)
    assert response.headers["Location"] == "/base/v2/gh/o/r/HEAD?filepath=a.ipynb"


async def test_a_link_may_be_brought_along(client: Client) -> None:
    html = await (await client.get("/base/", params={"repo": "https://x.example/v2/gh/o/r/main"})).text()
    assert 'value="https://x.example/v2/gh/o/r/main"' in html


LAUNCH = "https://b.example/v2/gh/o/r/main?labpath=a(1).ipynb"


@pytest.mark.parametrize(
    ("badge", "status"),
    [
        (f"[![Binder](https://b.example/badge_logo.svg)]({LAUNCH})", 200),
        (f".. image:: https://b.example/badge_logo.svg\n   :target: {LAUNCH}", 200),
        (f'<a href="{LAUNCH}"><img src="https://b.example/badge_logo.svg"></a>', 200),
        (f"[a]({LAUNCH}) [b](https://b.example/v2/gh/o/other/main)", 400),
    ],
)
async def test_a_badge_is_its_launch_link(client: Client, badge: str, status: int) -> None:
    response = await client.get("/base/api/v1/link", params={"repo": badge})
    assert response.status == status
    if status == 200:
        told = await response.json()
        assert (told["spec"], told["path"]) == ("gh/o/r/main", "a(1).ipynb")
