"""What pages say in other languages."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from contract.sentences import said
from frontend.catalogues import choose_language, read_catalogues
from frontend.middlewares import install
from frontend.page_config import parse_page_config
from frontend.routes import NavLink, add_routes
from frontend.site import Site
from providers.registry import Providers
from providers.settings import ProvidersSettings

SOURCES = Path(__file__).parents[2]
#: What has catalogues, and where the texts in them are.
PACKAGES = {"frontend": ("frontend", "providers"), "gateway/web": ("gateway/web", "gateway/core")}
METHODS = [("**/templates/**.html", "jinja2"), ("**/static/**.js", "javascript"), ("**.py", "python")]
ONE = ("_", "gettext", "text", "NavLink", "LinkError", "said")
KEYWORDS = {**dict.fromkeys(ONE), "ngettext": (1, 2)}
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
    """Of the texts that are marked; ``tests/gateway/test_every_text.py`` finds those that are not."""
    options = {name: {"trimmed": "true"} for name, method in METHODS if method == "jinja2"}
    wanted = {
        message if isinstance(message, str) else tuple(message)
        for directory in PACKAGES[package]
        for _, _, message, *_ in extract_from_dir(SOURCES / directory, METHODS, options, KEYWORDS)
    }
    with (SOURCES / package / "catalogues" / "de.po").open("rb") as file:
        messages = [message for message in read_po(file, locale="de") if message.id]
    known = {message.id if isinstance(message.id, str) else tuple(message.id) for message in messages}
    assert wanted, "texts were found"
    assert wanted - known == set(), "make catalogues adds them"
    assert known - wanted == set(), "make catalogues takes them out"
    for message in messages:
        assert faults(message) == [], message.id


def faults(message: Message) -> list[str]:
    """What is wrong with a text's translation: one that is missing, not looked at, or does not name what it should."""
    forms = [message.id] if isinstance(message.id, str) else list(message.id)
    strings = [message.string] if isinstance(message.string, str) else list(message.string)
    found = ["fuzzy"] if message.fuzzy else []
    if len(strings) != len(forms) or not all(strings):
        return [*found, "missing"]
    # German has as many forms as English, and for the same numbers.
    named = zip(forms, strings, strict=True)
    return found + ["names" for form, string in named if sorted(NAME.findall(form)) != sorted(NAME.findall(string))]


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (Message("One", "Eins"), []),
        (Message("One", ""), ["missing"]),
        (Message("One", "Eins", flags=["fuzzy"]), ["fuzzy"]),
        (Message("%(a)s <b>", "%(a)s <b>"), []),
        (Message("%(a)s <b>", "%(a)s"), ["names"]),
        (Message(("%(n)s launch", "%(n)s launches"), ("%(n)s Start", "%(n)s Starts")), []),
        (Message(("%(n)s launch", "%(n)s launches"), ("", "")), ["missing"]),
        (Message(("%(n)s launch", "%(n)s launches"), ("%(n)s Start", "")), ["missing"]),
        (Message(("%(n)s launch", "%(n)s launches"), ("%(n)s Start", "Starts")), ["names"]),
    ],
)
def test_a_translation_that_is_wrong_is_found(message: Message, found: list[str]) -> None:
    assert faults(message) == found


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


def test_numbers_are_written_as_in_their_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The machine's own language counts for nothing.
    monkeypatch.setattr("babel.numbers.LC_NUMERIC", "fr_FR")
    for name in ("de", "xx"):
        (tmp_path / f"{name}.po").write_text('msgid "%(number)s %%"\nmsgstr "%(number)s %%"\n')
    found = read_catalogues([tmp_path])
    for value, english, german in ((99.44, "99.44", "99,44"), (0.0005, "0.0005", "0,0005"), (12e3, "12000", "12000")):
        # How a language that is not known writes them, nobody knows.
        for name, number in (("en", english), ("de", german), ("xx", english)):
            assert found[name].say(value) == number
            assert found[name].say(said("%(number)s %%", number=value)) == f"{number} %"


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


async def test_kinds_of_repositories_are_named_in_german(client: Client) -> None:
    headers, repo = {"Accept-Language": "de"}, "https://git.example/o/r"
    told = await (await client.get("/api/v1/link", params={"repo": repo}, headers=headers)).json()
    assert told["provider_name"] == "Git-Repository"
    assert ">Git-Repository</option>" in await (await client.get("/", headers=headers)).text()
    page = await (await client.get(told["launch_path"], headers=headers)).text()
    assert '<p class="kicker">Git-Repository</p>' in page
    # A name is the same in every language; and what scripts ask for is English.
    told = await (await client.get("/api/v1/link", params={"repo": "o/r"}, headers=headers)).json()
    assert told["provider_name"] == "GitHub"
    listed = await (await client.get("/api/repoproviders", headers=headers)).json()
    assert "Git repository" in [item["displayName"] for item in listed]


async def test_what_is_wrong_with_a_link_is_said_in_german(client: Client) -> None:
    headers = {"Accept-Language": "de"}
    answer = await (await client.get("/api/v1/link", params={"repo": "x y"}, headers=headers)).json()
    assert answer["detail"] == "Die Adresse eines Repositorys enthält keine Leerzeichen."
    html = await (await client.get("/launch", params={"repo": "nonsense"}, headers=headers)).text()
    assert "ist nicht die Adresse eines Repositorys" in html
