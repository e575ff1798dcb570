"""What is the URL of a Git server, and which addresses may be reached."""

import asyncio
import ipaddress
import socket
import threading
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from providers.addresses import public_addresses
from providers.base import RepoSpec, SpecError
from providers.git import GitProvider
from providers.git_url import parse_git_url
from providers.internet import is_public
from providers.settings import GitSettings

PROTOCOLS = frozenset({"http", "https", "git", "ssh"})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://h.example/r", "https://h.example/r"),
        ("HTTPS://H.Example./R.git", "https://h.example/R.git"),
        ("http://h:8080/a b", "http://h:8080/a%20b"),
        ("git@h.example:o/r.git", "ssh://git@h.example/o/r.git"),
        ("ssh://git@h:22/r", "ssh://git@h:22/r"),
        ("https://bücher.example/r", "https://xn--bcher-kva.example/r"),
        ("http://[::1]:8000/r", "http://[::1]:8000/r"),
        ("git://h/r", "git://h/r"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert str(parse_git_url(text, PROTOCOLS)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "repo",
        "/etc/passwd",
        "file:///etc",
        "ext::sh -c id",
        "ftp://h/r",
        "http:h/r",
        "http:/h/r",
        "http://",
        "https://h",
        "https://h/",
        "https://u:p@h/r",
        "https://token@h/r",
        "https://h/r?x",
        "https://h/r#x",
        "https://-h/r",
        "ssh://-oX/r",
        "ssh://-oX@h/r",
        "-u@h:r",
        "http://h\\@e/r",
        "http://h%2e/r",
        "http://h /r",
        "http://h\n/r",
        "http://h:0/r",
        "http://h:x/r",
        "http://[::1%25eth0]/r",
        "http://[x]/r",
        "http://h..e/r",
        "javascript://h/r",
        "http://h\t/r",
    ],
)
def test_urls_that_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_git_url(text, PROTOCOLS)


def test_the_text_for_a_protocol_is_binderhubs() -> None:
    with pytest.raises(SpecError) as caught:
        parse_git_url("file:///r", frozenset({"https", "http"}))
    assert str(caught.value) == "Unsupported git url file:///r, protocol file not in http, https"


@pytest.mark.parametrize(
    "spec",
    ["", "x", "https%3A%2F%2Fh%2Fr", "https%3A%2F%2Fh%2Fr/", "/main", "https://h/r/main", "%ff/main"]
    + [
        f"https%3A%2F%2Fh%2Fr/{ref}"
        for ref in ("-x", "--upload-pack=x", "a*", "a%00", "a%0Ab", ".hidden", "a..b", "x@%7B1%7D")
    ],
)
def test_specs_that_are_none(spec: str) -> None:
    with pytest.raises(SpecError):
        GitProvider(GitSettings()).parse(spec)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:a00:1::1", False),
        ("::ffff:10.0.0.1", False),
        ("::8.8.8.8", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("168.63.129.16", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("ff02::1", False),
        ("255.255.255.255", False),
        ("fec0::1", False),
        ("192.88.99.1", False),
        ("192.0.0.8", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@given(st.ip_addresses(v=4))
def test_wrapping_makes_no_address_public(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for wrapped in ((0xFFFF << 32) | number, (0x0064FF9B << 96) | number, (0x2002 << 112) | (number << 80)):
        assert is_public(ipaddress.IPv6Address(wrapped)) is is_public(address)


async def test_addresses_are_looked_up_once_and_all_checked() -> None:
    assert await public_addresses("8.8.8.8", 443) == ["8.8.8.8"]
    with pytest.raises(SpecError):
        await public_addresses("localhost", 443)


async def test_names_that_nobody_answers_for_hold_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def late(*_: object, **__: object) -> list[object]:
        answered.wait(120)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", late)
    look_ups = [asyncio.ensure_future(public_addresses(f"h{n}.invalid", 443, timeout_s=240)) for n in range(60)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(30):
            await asyncio.to_thread(answered.is_set)
    finally:
        answered.set()
        assert await asyncio.gather(*look_ups) == [[]] * len(look_ups)


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
REFS = st.from_regex(r"[a-z0-9][a-z0-9_/-]{0,6}[a-z]", fullmatch=True).filter(lambda ref: "//" not in ref)


@given(
    st.sampled_from(["http", "https", "git"]),
    NAMES,
    st.none() | st.integers(1, 65535),
    st.lists(NAMES, min_size=1),
    REFS,
)
def test_good_specs_round_trip(scheme: str, host: str, port: int | None, path: list[str], ref: str) -> None:
    assume(not host.isdigit())
    url = f"{scheme}://{host}.example{'' if port is None else f':{port}'}/{'/'.join(path)}"
    spec = GitProvider(GitSettings()).parse(f"{quote(url, safe='')}/{quote(ref, safe='')}")
    assert (spec.repo_url, spec.ref) == (url, ref)


@given(st.text() | st.text(alphabet="http:/@[]%\\?# -.0a"))
def test_any_text_is_a_url_that_reads_the_same_again_or_refused(text: str) -> None:
    try:
        url = parse_git_url(text, PROTOCOLS)
    except SpecError:
        return
    assert parse_git_url(str(url), PROTOCOLS) == url
    assert str(url).isascii()


@given(st.text())
def test_any_spec_is_parsed_or_refused(text: str) -> None:
    try:
        spec = GitProvider(GitSettings()).parse(quote(text, safe="/%"))
    except SpecError:
        return
    assert isinstance(spec, RepoSpec)
    assert not spec.ref.startswith("-")
