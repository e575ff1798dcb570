"""Servers that a visitor names, or that a redirect leads to: only what was checked is connected to."""

import ipaddress
import socket
from typing import Any

import aiohttp
import pytest

from providers import internet
from providers.base import ProviderUnavailableError, RefNotFoundError, SpecError
from providers.http import MAX_REDIRECTS, Web, refused_for
from tests.fakes.archives import FakeCKAN
from tests.providers.conftest import World

PATH = "/data/api/3/action/package_show?id=work"


@pytest.fixture
def one_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address of this machine is public; one of them is declared so."""
    monkeypatch.setattr(internet, "is_public", lambda address: address == ipaddress.ip_address("127.0.0.1"))


def names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """A name server that gives these addresses, one at a time, the last for ever; returns the names it was asked."""
    asked: list[str] = []
    genuine = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if not str(host).endswith(".test"):
            return genuine(host, port, *args, **options)
        asked.append(host)
        address = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.fixture
def asks(http: aiohttp.ClientSession) -> Web:
    return Web("The server", http, timeout_s=30)


@pytest.fixture
def filled(world: World) -> FakeCKAN:
    world.ckan.datasets = {"work": {}}
    return world.ckan


def named(server: FakeCKAN, host: str) -> str:
    return server.url.replace("127.0.0.1", host)


@pytest.mark.usefixtures("one_is_public")
async def test_a_name_that_changes_its_mind_gains_nothing(
    asks: Web, filled: FakeCKAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = names(monkeypatch, "127.0.0.1", "127.0.0.2")
    answer = await asks.get(named(filled, "rebinds.test") + PATH)
    assert answer.json()["success"]
    assert asked == ["rebinds.test"], "the address that was checked is the one that is connected to"
    assert filled.requests[-1].host.startswith("rebinds.test:")
    with pytest.raises(SpecError, match=r"rebinds\.test is an internal address"):
        await asks.get(named(filled, "rebinds.test") + PATH)


@pytest.mark.usefixtures("one_is_public")
@pytest.mark.parametrize(
    ("location", "error", "why"),
    [
        ("http://127.0.0.2/", SpecError, "internal address"),
        ("//127.0.0.2/", SpecError, "internal address"),
        ("http://[::1]/", SpecError, "internal address"),
        ("http://[::ffff:10.0.0.1]/", SpecError, "internal address"),
        ("http://[64:ff9b::a00:1]/", SpecError, "internal address"),
        ("http://[2002:a00:1::]/", SpecError, "internal address"),
        ("http://169.254.169.254/latest/meta-data/", SpecError, "internal address"),
        ("http://0x7f.0.0.2/", SpecError, "internal address"),
        ("http://2130706434/", SpecError, "internal address"),
        ("http://me:word@127.0.0.1/", SpecError, "an address with a password"),
        ("ftp://example.org/", ProviderUnavailableError, "does not say where to"),
        ("http://[::1/", ProviderUnavailableError, "does not say where to"),
        ("http://x:99999/", ProviderUnavailableError, "does not say where to"),
    ],
)
async def test_a_redirect_is_checked_as_the_first_address_was(
    asks: Web, filled: FakeCKAN, location: str, error: type[Exception], why: str
) -> None:
    filled.redirect = location
    with pytest.raises(error, match=why):
        await asks.get(filled.url + PATH)
    assert len(filled.requests) == 1


@pytest.mark.usefixtures("one_is_public")
async def test_redirects_have_an_end(asks: Web, filled: FakeCKAN) -> None:
    filled.loop = True
    with pytest.raises(ProviderUnavailableError, match="redirects too often"):
        await asks.get(filled.url + PATH)
    assert len(filled.requests) == MAX_REDIRECTS + 1


@pytest.mark.usefixtures("one_is_public")
@pytest.mark.parametrize("tail", ["", "\u00e9", "%zz", "%", "[", "a b", "#top"])
async def test_a_redirect_in_any_spelling_is_followed(asks: Web, filled: FakeCKAN, tail: str) -> None:
    filled.redirect = f"{filled.url}/data/{tail}"
    with pytest.raises(ProviderUnavailableError, match="redirects too often"):
        await asks.get(filled.url + PATH)


async def test_a_host_that_does_not_exist(asks: Web) -> None:
    with pytest.raises((RefNotFoundError, ProviderUnavailableError), match=r"none\.invalid"):
        await asks.get("http://none.invalid/")


@pytest.mark.parametrize(
    ("status", "headers", "wait_s"),
    [
        (200, {"X-RateLimit-Remaining": "0"}, None),
        (403, {}, None),
        (403, {"X-RateLimit-Remaining": "5"}, None),
        (403, {"X-RateLimit-Remaining": "0"}, 60.0),
        (403, {"RateLimit-Remaining": "0", "RateLimit-Reset": "1100"}, 100.0),
        (403, {"Retry-After": "7"}, 7.0),
        (429, {}, 60.0),
        (429, {"Retry-After": "0"}, 1.0),
        (429, {"Retry-After": "-5"}, 1.0),
        (429, {"Retry-After": "soon"}, 60.0),
        (429, {"Retry-After": "nan"}, 60.0),
        (429, {"Retry-After": "1e9"}, 3600.0),
        (429, {"Retry-After": "Thu, 01 Jan 1970 00:17:40 GMT"}, 60.0),
        (503, {}, None),
        (503, {"Retry-After": "9"}, 9.0),
    ],
)
def test_how_long_a_server_refuses(status: int, headers: dict[str, str], wait_s: float | None) -> None:
    assert refused_for(status, headers, 1000.0) == wait_s
