"""The frontend in a real server: pages and headers."""

import gzip
import re
import struct
import zlib
from dataclasses import replace
from typing import Any
from urllib.parse import quote
from urllib.robotparser import RobotFileParser

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from frontend.middlewares import host_is_allowed
from frontend.page_config import parse_page_config
from frontend.pages import PAGES
from frontend.routes import add_routes
from frontend.settings import SecuritySettings, make_site
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings
from tests.frontend.frontendkit import Start, start

__all__ = ["start"]

SSE = {"Accept": "text/event-stream"}
BROWSER = {"User-Agent": "Mozilla/5.0", "Accept": "text/html"}
PROVIDERS = ["gh", "gist", "gl", "git", "zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh"]


async def body(response: aiohttp.ClientResponse) -> str:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return await response.text()


# Pages


@pytest.mark.parametrize("base", ["/", "/some/where/"])
async def test_pages_say_what_scripts_need(start: Start, base: str) -> None:
    frontend = await start(public_url=f"http://127.0.0.1:1{base}", about="<b>about</b>", banner="<i>banner</i>")
    for route in ("", "about"):
        response = await frontend.client.get(base + route)
        html = await body(response)
        assert response.status == 200
        head, _, script = html.partition("<script")
        assert "Test &lt;Hub&gt;" not in head, "the configuration is the first script of the head"
        config = parse_page_config(html)
        assert config["baseUrl"] == base
        assert config["badgeBaseUrl"] == f"http://127.0.0.1:1{base}"
        assert [provider["id"] for provider in config["repoProviders"]] == PROVIDERS
        assert (config["aboutMessage"], config["bannerHtml"]) == ("<b>about</b>", "<i>banner</i>")
        assert {"logoUrl", "logoWidth", "binderVersion"} <= set(config)
        assert "buildToken" not in config
        assert "<i>banner</i>" in html
        assert f'<a href="{base}status">Status</a>' in html
        nonce = script.partition('nonce="')[2].partition('"')[0]
        policy = response.headers["Content-Security-Policy"]
        assert f"script-src 'self' 'nonce-{nonce}'" in policy
        assert "unsafe" not in policy


async def test_what_pages_name_is_there(start: Start) -> None:
    frontend = await start()
    for page in ("/", "/v2/gh/org/repo/main"):
        html = await body(await frontend.client.get(page))
        files = [part.partition('"')[0] for part in html.split('src="')[1:] + html.split('href="')[1:]]
        files = [file for file in files if file.startswith("/static/")]
        assert len(files) >= 3
        for file in files:
            response = await frontend.client.get(file)
            assert response.status == 200, file
            assert "immutable" in response.headers["Cache-Control"]
            again = await frontend.client.get(file, headers={"If-None-Match": response.headers["ETag"]})
            assert again.status == 304
    for module in ("notebook-url.js", "launch-log.js"):
        response = await frontend.client.get(f"/static/{module}")
        assert response.content_type == "text/javascript"
        assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("spec", "title", "command"),
    [
        ("gl/group%2Fproject/main", "GitLab: group%2Fproject/main", "https://gitlab.com/group/project.git --ref main"),
        ("gist/user/0af9", "GitHub Gist: user/0af9", "https://gist.github.com/user/0af9.git --ref HEAD"),
        ("zenodo/10.5281/zenodo.1", "Zenodo DOI: 10.5281/zenodo.1", "http://127.0.0.1/v2/zenodo/10.5281/zenodo.1"),
        (
            "ckan/https%3A%2F%2Fx.org%2Fdataset%2Fyy",
            "CKAN dataset: https%3A%2F%2Fx.org%2Fdataset%2Fyy",
            "http://127.0.0.1/v2/ckan/https%3A%2F%2Fx.org%2Fdataset%2Fyy",
        ),
        (
            f"swh/swh:1:rev:{'e' * 40}",
            f"Software Heritage: swh:1:rev:{'e' * 40}",
            f"http://127.0.0.1/v2/swh/swh:1:rev:{'e' * 40}",
        ),
    ],
)
async def test_the_launch_page_of_every_kind_of_provider(start: Start, spec: str, title: str, command: str) -> None:
    frontend = await start(public_url="http://127.0.0.1/")
    response = await frontend.client.get(URL(f"/v2/{spec}", encoded=True))
    html = await body(response)
    assert response.status == 200
    assert f'og:title" content="{title}">' in html
    assert f"manybinder launch {command} --gateway http://127.0.0.1/" in html.replace("&#39;", "'").replace("'", "")


@pytest.mark.parametrize(
    ("path", "headers", "title", "address", "about"),
    [
        ("", {}, "Test &lt;Hub&gt;", "", "Reproducible, sharable, open, interactive computing environments."),
        (
            "v2/gh/org/repo/main?labpath=a.ipynb",
            {},
            "GitHub: org/repo/main",
            "v2/gh/org/repo/main?labpath=a.ipynb",
            "Opens as a live notebook in your browser, with its environment built for you.",
        ),
        (
            "v2/gh/org/repo/main",
            {"Sec-Fetch-Site": "cross-site"},
            "GitHub: org/repo/main",
            "v2/gh/org/repo/main",
            "Reproducible, sharable, open, interactive computing environments.",
        ),
    ],
    ids=["home", "launch", "confirm"],
)
async def test_what_a_preview_of_a_link_shows(
    start: Start, path: str, headers: dict[str, str], title: str, address: str, about: str
) -> None:
    frontend = await start(public_url="http://127.0.0.1:1/base/", confirm_cross_site=True)
    html = await body(await frontend.client.get(f"/base/{path}", headers=headers))
    assert ("Launch this repository?" in html) is bool(headers)
    told = dict(re.findall(r'<meta property="og:([a-z_:]+)" content="([^"]*)">', html))
    base = "http://127.0.0.1:1/base/"
    assert told["title"] == title
    assert told["url"] == base + address
    assert told["site_name"] == "Test &lt;Hub&gt;"
    assert told["type"] == "website"
    assert told["description"] == about
    assert f'<meta name="description" content="{about}">' in html
    assert told["image"] == f"{base}logo_social.png"
    picture = await frontend.client.get("/base/logo_social.png")
    assert picture.content_type == "image/png"
    width, height = struct.unpack(">II", (await picture.read())[16:24])
    assert (told["image:width"], told["image:height"]) == (str(width), str(height))
    assert told["image:alt"]
    assert '<meta name="twitter:card" content="summary_large_image">' in html


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP; q=0.5", True),
        ("gzip;q=0, identity", False),
        ("identity", False),
        ("", False),
    ],
)
async def test_files_are_sent_compressed_to_who_takes_that(start: Start, accepted: str, compressed: bool) -> None:
    frontend = await start()
    url = frontend.client.make_url("/static/style.css")
    # As they are sent.
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        async with session.get(url, headers={"Accept-Encoding": accepted}) as response:
            sent = await response.read()
        assert response.headers["Vary"] == "Accept-Encoding"
        assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)
        whole = await (await frontend.client.get("/static/style.css")).read()
        assert (gzip.decompress(sent) if compressed else sent) == whole
        assert not compressed or len(sent) < len(whole) / 2
        again = await frontend.client.get("/static/style.css", headers={"If-None-Match": response.headers["ETag"]})
        assert again.status == 304


async def test_the_launch_page(start: Start) -> None:
    frontend = await start()
    spec = "git/https%3A%2F%2Fgit.example%2Fa'b%20c/feature/x"
    response = await frontend.client.get(URL(f"/v2/{spec}?urlpath=lab", encoded=True))
    html = await body(response)
    config = parse_page_config(html)
    assert config["buildPath"] == f"/build/{spec}"
    assert 'og:title" content="Git repository: https%3A%2F%2Fgit.example%2Fa&#39;b%20c/feature/x">' in html
    url = f"{frontend.site.public_url}v2/{spec}?urlpath=lab".replace("'", "&#39;")
    assert f'og:url" content="{url}">' in html
    assert response.headers["Cache-Control"] == "no-store"
    assert "<noscript>" in html
    admitted = await frontend.client.get(
        URL(f"{config['buildPath']}?build_token={quote(config['buildToken'])}", encoded=True), headers=SSE
    )
    assert await admitted.text() == "admitted"
    assert frontend.admitted[0].with_token
    assert frontend.admitted[0].spec.repo_url == "https://git.example/a'b%20c"
    assert frontend.admitted[0].client_ip == "127.0.0.1"


@pytest.mark.parametrize(
    ("spec", "status", "message"),
    [
        ("nope/a/b", 404, "No provider found for prefix nope"),
        ("gh/org/repo", 400, "Did you mean"),
        ("git/https%3A%2F%2Fh%2Fr/-x", 400, "cannot be the name"),
        ("gh/%3Cscript%3E/repo/main", 400, "&lt;script&gt;"),
    ],
)
async def test_launch_pages_of_bad_specs(start: Start, spec: str, status: int, message: str) -> None:
    frontend = await start()
    response = await frontend.client.get(f"/v2/{spec}")
    assert response.status == status
    html = await body(response)
    assert message in html
    assert "buildToken" not in html
    assert "<script>" not in html


@pytest.mark.parametrize(
    ("headers", "asks"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "something-new"}, True),
        ({"User-Agent": "Mozilla/5.0"}, True),
        ({"User-Agent": "Mozilla/5.0", "Referer": "http://evil.example/"}, True),
        ({"User-Agent": "Mozilla/5.0", "Referer": "http://["}, True),
        ({"User-Agent": "Mozilla/5.0", "Referer": "SELF"}, False),
    ],
)
async def test_a_link_on_another_site_asks_first(start: Start, headers: dict[str, str], asks: bool) -> None:
    frontend = await start(confirm_cross_site=True)
    if headers.get("Referer") == "SELF":
        headers = {**headers, "Referer": str(frontend.client.make_url("/"))}
    page = URL("/v2/gh/org/repo/main?urlpath=lab%2F", encoded=True)
    response = await frontend.client.get(page, headers=headers)
    html = await body(response)
    assert ("buildToken" not in html) is asks
    assert ('href="/v2/gh/org/repo/main?urlpath=lab%2F">Launch</a>' in html) is asks
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert "build_token" not in html or not asks
    without = await start()
    assert "buildToken" in await body(await without.client.get("/v2/gh/org/repo/main", headers=headers))


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/repo/user/name", "/v2/gh/user/name/master"),
        ("/repo/user/name/", "/v2/gh/user/name/master"),
        ("/repo/user/name/a/b.ipynb", "/v2/gh/user/name/master?urlpath=%2Fa%2Fb.ipynb"),
        ("/launch?repo=o/r", "/v2/gh/o/r/HEAD"),
        ("/launch?repo=https%3A%2F%2Fgithub.com%2Fo%2Fr&ref=v1&path=a.ipynb", "/v2/gh/o/r/v1?labpath=a.ipynb"),
        ("/launch?provider=gh&repo=https%3A%2F%2Fgithub.com%2Fo%2Fr", "/v2/gh/o/r/HEAD"),
        ("/launch?provider=git&repo=http%3A%2F%2Fh%2Fr&ref=a%2Fb", "/v2/git/http%3A%2F%2Fh%2Fr/a/b"),
        ("/launch?provider=git&repo=o%2Fr", "/v2/git/o%2Fr/HEAD"),
        ("/launch?repo=%2F%2Fevil.example%2Fx", None),
        ("/launch?repo=", None),
        ("/launch", None),
        ("/launch?provider=nope&repo=o/r", None),
    ],
)
async def test_redirections(start: Start, path: str, location: str | None) -> None:
    frontend = await start()
    response = await frontend.client.get(path, allow_redirects=False)
    assert response.headers.get("Location") == location
    assert response.status == (302 if location else 400)
    if location is None:
        assert 'role="alert"' in await body(response)


async def test_what_was_typed_is_not_lost_by_an_error(start: Start) -> None:
    frontend = await start()
    html = await body(await frontend.client.get('/launch?repo="><script>x y&ref=v1&provider=git'))
    assert "&#34;&gt;&lt;script&gt;" in html or 'value="v1"' in html
    assert "<script>x" not in html


@pytest.mark.parametrize("path", ["/badge.svg", "/badge_logo.svg", "/assets/images/badge.svg", "/logo_social.png"])
async def test_badges(start: Start, path: str) -> None:
    frontend = await start()
    response = await frontend.client.get(path)
    assert response.status == 200
    assert response.content_type == ("image/png" if path.endswith(".png") else "image/svg+xml")
    again = await frontend.client.get(path, headers={"If-None-Match": response.headers["ETag"]})
    assert again.status == 304
    assert (await frontend.client.head(path)).status == 200


async def test_crawlers_read_pages_and_begin_nothing(start: Start) -> None:
    frontend = await start(public_url="http://127.0.0.1:1/base/")
    response = await frontend.client.get("/base/robots.txt")
    rules = RobotFileParser()
    rules.parse((await body(response)).splitlines())
    for page in ("", "about", "v2/gh/org/repo/main", "logo_social.png"):
        assert rules.can_fetch("Crawler", f"/base/{page}")
    for address in ("build/gh/org/repo/main", "plain/gh/org/repo/main?build_token=t", "plain-launch/x"):
        assert not rules.can_fetch("Crawler", f"/base/{address}")


async def test_the_picture_is_one(start: Start) -> None:
    frontend = await start()
    png = await (await frontend.client.get("/logo_social.png")).read()
    assert struct.unpack(">II", png[16:24]) == (1334, 700)
    chunks, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == 700 * 1335
    assert set(rows) == {0, 1, 2, 3}


async def test_the_providers(start: Start) -> None:
    frontend = await start()
    response = await frontend.client.get("/api/repoproviders")
    assert [provider["id"] for provider in await response.json()] == PROVIDERS


@pytest.mark.parametrize("path", ["/nothing", "/v2", "/v2/gh", "/static/../settings.py", "/static/nothing", "/repo/x"])
async def test_unknown_addresses(start: Start, path: str) -> None:
    frontend = await start()
    for headers, content_type in ((BROWSER, "text/html"), ({}, "application/problem+json")):
        response = await frontend.client.get(path, headers=headers)
        assert (response.status, response.content_type) == (404, content_type)
    assert (await frontend.client.post("/", headers=BROWSER)).status == 405


# Headers


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8585", True),
        ("LOCALHOST:8585", True),
        ("named.example", True),
        ("named.example:1234", True),
        ("[::1]:8585", True),
        ("localhost", False),
        ("localhost:1", False),
        ("evil.example", False),
        ("named.example.evil.example", False),
        ("", False),
    ],
)
async def test_hosts(start: Start, host: str, allowed: bool) -> None:
    fields = {
        "public_url": "http://127.0.0.1:8585/",
        "allowed_hosts": ("localhost:8585", "named.example", "[::1]:8585"),
    }
    frontend = await start(**fields)
    assert host_is_allowed(host, frontend.site) is allowed
    assert host_is_allowed(host, replace(frontend.site, allowed_hosts=()))
    if not host:
        return
    for path in ("/", "/v2/gh/o/r/main", "/static/style.css", "/nothing"):
        response = await frontend.client.get(path, headers={"Host": host})
        assert (response.status != 421) is allowed
    assert (await frontend.client.get("/livez", headers={"Host": host})).status == 200


async def test_cors(start: Start) -> None:
    asked = {"Origin": "https://pages.example", "Access-Control-Request-Method": "GET"}
    for origin in ("", "*", "https://pages.example"):
        frontend = await start(cors_allow_origin=origin)
        response = await frontend.client.options("/build/gh/o/r/main", headers=asked)
        assert response.status == 204
        assert response.headers.get("Access-Control-Allow-Origin", "") == origin
        allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"authorization", "cache-control", "last-event-id"} == set(allowed)
        for path in ("/build/gh/o/r/main", "/nothing", "/api/repoproviders"):
            response = await frontend.client.get(path, headers={"Origin": "https://pages.example"})
            assert response.headers.get("Access-Control-Allow-Origin", "") == origin


async def test_extra_templates_are_in_the_frame(start: Start, tmp_path: Any) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "own.js").write_text("1")
    (tmp_path / "templates" / "own.html").write_text(
        '{% extends "page.html" %}{% block main %}{{ what }} {{ static_url("own.js") }}{% endblock %}'
    )
    async with aiohttp.ClientSession() as session:
        app = web.Application()
        site = Site("x", "http://h/", "s", "1")
        add_routes(app, site, Providers(ProvidersSettings(), session), extra=[tmp_path])
        html = app[PAGES].response("own.html", what="<hello>").text
    assert html is not None
    assert "&lt;hello&gt; /static/own.js?v=" in html


def test_site_and_settings() -> None:
    site = make_site(
        SecuritySettings(allowed_hosts=("LocalHost:1",)), name="n", public_url="https://h.example/a/b", version="1"
    )
    assert (site.public_url, site.base_path, site.host) == ("https://h.example/a/b/", "/a/b/", "h.example")
    assert site.allowed_hosts == ("localhost:1",)
    assert len(site.build_token_secret) == 64
    assert site.route_of("/a/b/build/x") == "build/x"
    assert site.route_of("/a/bc") is None
    for bad in ("h.example", "ftp://h/", "http://", "http://h/?x"):
        with pytest.raises(ValueError, match="public_url"):
            make_site(SecuritySettings(), name="n", public_url=bad, version="1")
    for hosts in (("a/b",), ("",), ("a b",)):
        with pytest.raises(ValueError, match="host"):
            SecuritySettings(allowed_hosts=hosts)


@pytest.mark.parametrize("html", ["", "<html>", "window.pageConfig = {};;", "window.pageConfig = {x};"])
def test_pages_without_configuration(html: str) -> None:
    if html.endswith("{};;"):
        assert parse_page_config(html) == {}
    else:
        with pytest.raises(ValueError, match=r"pageConfig|Expecting"):
            parse_page_config(html)
