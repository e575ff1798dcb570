"""What pages say in other languages."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from frontend.catalogues import choose_language, read_catalogues
from frontend.middlewares import install
from frontend.page_config import parse_page_config
from frontend.routes import NavLink, add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings

SOURCES = Path(__file__).parents[2]
PACKAGES = ("frontend", "gateway/web")
METHODS = [("**/templates/**.html", "jinja2"), ("**/static/**.js", "javascript"), ("**.py", "python")]
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "text": None, "NavLink": None, "LinkError": None}
NAME = re.compile(r"%\(\w+\)s|<[^>]+>")

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        providers = Providers(ProvidersSettings(), session)
        site = Site("Test", "http://127.0.0.1:1/", "s" * 32, "1", federation=True)
        app = web.Application()
        install(app, site)
        add_routes(app, site, providers, [NavLink("Status", "status")])
        async with TestClient(TestServer(app)) as client:
            yield client
        await providers.close()


@pytest.mark.parametrize("package", PACKAGES)
def test_german_is_complete(package: str) -> None:
    options = {name: {"trimmed": "true"} for name, method in METHODS if method == "jinja2"}
    found = extract_from_dir(SOURCES / package, METHODS, options, KEYWORDS)
    wanted = {message if isinstance(message, str) else message[0] for _, _, message, *_ in found}
    with (SOURCES / package / "catalogues" / "de.po").open("rb") as file:
        known = {message.id: message for message in read_po(file, locale="de") if message.id}
    assert wanted, "texts were found"
    missing = wanted - {message_id if isinstance(message_id, str) else message_id[0] for message_id in known}
    assert not missing, "make catalogues adds them"
    for message_id, message in known.items():
        assert message.string, message_id
        assert not message.fuzzy, message_id
        if isinstance(message_id, str):
            assert sorted(NAME.findall(message_id)) == sorted(NAME.findall(str(message.string))), message_id


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr,de;q=0.5,en;q=0.3", "de"),
        ("fr", "en"),
        ("*", "en"),
        ("de;q=0,en;q=0.1", "en"),
        ("de;q=nonsense", "en"),
        ("EN;q=0.2, DE;q=0.7", "de"),
        (";;,,=", "en"),
    ],
)
def test_the_language_is_chosen(accept: str, language: str) -> None:
    assert choose_language(accept, ["en", "de"]) == language


def test_catalogues_of_several_packages_are_joined(tmp_path: Path) -> None:
    for name, text in (("a", "One"), ("b", "Two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "de.po").write_text(f'#: x.js\nmsgid "{text}"\nmsgstr "{text} auf Deutsch"\n')
    found = read_catalogues([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    assert set(found) == {"en", "de"}
    assert found["de"].translations.gettext("One") == "One auf Deutsch"
    assert found["de"].scripts == {"One": "One auf Deutsch", "Two": "Two auf Deutsch"}
    assert found["en"].translations.gettext("One") == "One"


async def test_pages_speak_german(client: Client) -> None:
    for path in ("/", "/about", "/v2/gh/org/repo/main", "/nothing"):
        response = await client.get(path, headers={"Accept-Language": "de-DE,de;q=0.9", "Accept": "text/html"})
        html = await response.text()
        assert '<html lang="de">' in html
        assert "Zum Inhalt" in html
        assert response.headers["Content-Language"] == "de"
        assert "Accept-Language" in response.headers["Vary"]
        assert parse_page_config(html)["texts"]["Ready"] == "Bereit"
        english = await (await client.get(path, headers={"Accept": "text/html"})).text()
        assert '<html lang="en">' in english
        assert "Skip to the content" in english
        assert parse_page_config(english)["texts"] == {}


async def test_what_is_wrong_with_a_link_is_said_in_german(client: Client) -> None:
    headers = {"Accept-Language": "de"}
    answer = await (await client.get("/api/v1/link", params={"repo": "x y"}, headers=headers)).json()
    assert answer["detail"] == "Die Adresse eines Repositorys enthält keine Leerzeichen."
    html = await (await client.get("/launch", params={"repo": "nonsense"}, headers=headers)).text()
    assert "ist nicht die Adresse eines Repositorys" in html
