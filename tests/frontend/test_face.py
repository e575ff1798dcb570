"""The face that an operator gives a service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import ValidationError

from frontend.face import BACKGROUNDS, LEAST_CONTRAST, FaceSettings, contrast, face_style
from frontend.middlewares import install
from frontend.page_config import parse_page_config
from frontend.routes import add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings

STYLE = Path(__file__).parents[2] / "frontend" / "static" / "style.css"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><circle r="2"/></svg>'

Client = TestClient[web.Request, web.Application]
Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    clients: list[Client] = []
    session = aiohttp.ClientSession()
    providers = Providers(ProvidersSettings(), session)

    async def start(**face: Any) -> Client:
        site = Site("Test", "http://127.0.0.1:1/", "s" * 32, "1", face=FaceSettings.model_validate(face))
        app = web.Application()
        install(app, site)
        add_routes(app, site, providers)
        client: Client = TestClient(TestServer(app))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()
    await providers.close()
    await session.close()


async def test_logo_colours_links_and_html(start: Start, tmp_path: Path) -> None:
    (tmp_path / "own.svg").write_bytes(SVG)
    client = await start(
        logo=tmp_path / "own.svg",
        accent="#7a1f5c",
        links=[{"text": "Help & more", "url": "https://help.example/"}],
        head_html='<meta name="own" content="yes">',
        footer_html="<p>Imprint</p>",
    )
    html = await (await client.get("/")).text()
    assert '<a href="https://help.example/">Help &amp; more</a>' in html
    assert html.index('<meta name="own" content="yes">') < html.index("</head>")
    assert html.index("<p>Imprint</p>") > html.index("<footer>")
    logo = parse_page_config(html)["logoUrl"]
    response = await client.get(logo)
    assert (response.content_type, await response.read()) == ("image/svg+xml", SVG)
    assert await (await client.get("/favicon.ico")).read() == SVG
    assert "/static/face.css?v=" in html
    assert "--accent: #7a1f5c; --on-accent: #ffffff" in await (await client.get("/static/face.css")).text()


async def test_a_plain_face_asks_for_nothing_more(start: Start) -> None:
    client = await start()
    html = await (await client.get("/")).text()
    assert "face.css" not in html
    assert (await client.get("/static/face.css")).status == 404


async def test_the_policy_is_strict_and_extended_by_setting(start: Start) -> None:
    client = await start()
    policy = (await client.get("/")).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self' 'nonce-")
    assert "http" not in policy
    client = await start(csp={"script-src": ["https://stats.example"], "font-src": ["fonts.example"]})
    parts = dict(part.split(" ", 1) for part in (await client.get("/")).headers["Content-Security-Policy"].split("; "))
    assert parts["script-src"].startswith("'self' 'nonce-")
    assert parts["script-src"].endswith(" https://stats.example")
    assert parts["font-src"] == "fonts.example"
    assert parts["default-src"] == "'none'"


async def test_templates_and_files_are_overridden(start: Start, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "static").mkdir()
    (tmp_path / "templates" / "about.html").write_text(
        '{% extends "original/about.html" %}{% block main %}<b>ours</b>{{ super() }}{% endblock %}'
    )
    (tmp_path / "templates" / "page.html").write_text(
        '{% extends "original/page.html" %}{% block title %}Ours{% endblock %}'
    )
    (tmp_path / "static" / "badge.svg").write_bytes(SVG)
    (tmp_path / "catalogues").mkdir()
    (tmp_path / "catalogues" / "de.po").write_text('msgid "About"\nmsgstr "Wir"\n')
    client = await start(directory=tmp_path)
    html = await (await client.get("/about")).text()
    assert "<b>ours</b>" in html
    assert "speaks BinderHub" in html
    assert "<title>Ours" in await (await client.get("/")).text()
    assert await (await client.get("/badge.svg")).read() == SVG
    assert (await client.get("/static/style.css")).status == 200
    german = await (await client.get("/about", headers={"Accept-Language": "de"})).text()
    assert '<a href="/about">Wir</a>' in german


@pytest.mark.parametrize(
    ("face", "message"),
    [
        ({"accent": "red"}, "accent"),
        ({"accent": "#ffff00"}, "contrast of 1"),
        ({"accent_dark": "#101010"}, "contrast of 1"),
        ({"logo": "/nowhere/logo.svg"}, "does not exist"),
        ({"directory": "/nowhere"}, "does not exist"),
        ({"links": [{"text": "x", "url": "javascript:alert(1)"}]}, "not of the form"),
        ({"report_url": "nowhere"}, "not of the form"),
        ({"csp": {"default-src": ["*"]}}, "none of"),
        ({"csp": {"script-src": ["'unsafe-inline'"]}}, "no source"),
        ({"csp": {"script-src": ["https://a.example; object-src *"]}}, "no source"),
        ({"colour": "x"}, "colour"),
    ],
)
def test_what_cannot_be_a_face(face: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FaceSettings.model_validate(face)


def test_contrasts() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#777777") == 1
    style = STYLE.read_text()
    for backgrounds in BACKGROUNDS.values():
        for background in backgrounds:
            assert background in style, "the backgrounds are those of the style sheet"
    for accent in ("#7a1f5c", "#1f5f94"):
        assert contrast(accent, _on_accent(FaceSettings(accent=accent))) >= LEAST_CONTRAST
    assert contrast("#8dc3ee", _on_accent(FaceSettings(accent_dark="#8dc3ee"))) >= LEAST_CONTRAST


def _on_accent(face: FaceSettings) -> str:
    return face_style(face).rpartition("--on-accent: ")[2][:7]
