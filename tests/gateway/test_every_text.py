"""No page says a text that is in no catalogue: in a language that puts each in brackets, nothing stands outside.

What a text is given to say stands outside of its brackets, for it has to be a text itself, or in no language.
"""

import re
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from contract.sentences import is_said
from gateway.core.admission import PROPOSAL
from gateway.core.fleet import CapacityState, Health, Policy
from gateway.core.operators import Operator, Role
from gateway.core.records import Change
from gateway.core.registration import Stage
from gateway.core.words import state_word
from gateway.web.admin.routes import PREFIX
from tests.gateway.harness import SPEC, Starter, until
from tests.gateway.joining import OPEN, join, join_token
from tests.gateway.test_operators import ADMIN, BOSS, ask
from tests.gateway.test_operators_login import Browser, admin

SOURCES = Path(__file__).parents[2]

#: A language that is known to have two forms, and that no page speaks.
LANGUAGE = "eo"

#: Attributes that people read or hear.
TOLD = ("aria-label", "title", "alt", "placeholder", "data-live", "data-lost")

#: Elements without an end, and those whose content is not for reading or in no language.
VOID = frozenset({"meta", "link", "img", "input", "br", "wbr", "hr"})
UNREAD = frozenset({"script", "style", "code", "pre"})

#: What is the same in every language: addresses, spans, times, names.
SAME = re.compile(
    r"""\S+[./:@]\S+ | \d+\ (?:d|h|min|s)\b | \d+h\b | UTC | HEAD | (?:member|newcomer)-\d+
    | GitHub(?:\ Gist)? | GitLab | Software\ Heritage | (?:Zenodo|FigShare|Dataverse)\ DOI
    | manybinder | urlpath | JupyterLab | Markdown | reStructuredText | HTML""",
    re.VERBOSE,
)


class Outside(HTMLParser):
    """The words of a page that stand outside of brackets and in nothing that says it is English."""

    def __init__(self, page: str, names: set[str]) -> None:
        super().__init__()
        self._passed = [False]
        self._depth = 0
        self._text = ""
        self.feed(page)
        assert self._depth == 0
        for name in sorted(names, key=len, reverse=True):
            self._text = self._text.replace(name, " ")
        self.words = re.findall(r"[^\W\d_]{2,}", SAME.sub(" ", self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        passed = self._passed[-1] or tag in UNREAD or given.get("lang") == "en"
        if not passed:
            for name in TOLD:
                if text := given.get(name):
                    self._told(f"\n{text}\n")
        if tag not in VOID:
            self._passed.append(passed)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self._passed.pop()

    def handle_data(self, data: str) -> None:
        if not self._passed[-1]:
            self._told(data)

    def _told(self, text: str) -> None:
        for character in text:
            self._depth += (character == "⟦") - (character == "⟧")
            self._text += character if not self._depth and character != "⟧" else ""


def write_catalogue(face: Path) -> None:
    """A catalogue that says each text in brackets."""
    made = Catalog(locale=LANGUAGE)
    for package in ("frontend", "gateway/web"):
        with (SOURCES / package / "catalogues" / "de.po").open("rb") as file:
            for message in read_po(file, locale="de"):
                if message.id:
                    forms = [message.id] if isinstance(message.id, str) else list(message.id)
                    strings = tuple("⟦" + re.sub(r"%\(\w+\)s", r"⟧\g<0>⟦", form) + "⟧" for form in forms)
                    made.add(message.id, strings if len(strings) > 1 else strings[0], message.locations)
    (face / "catalogues").mkdir(parents=True)
    with (face / "catalogues" / f"{LANGUAGE}.po").open("wb") as file:
        write_po(file, made)


async def test_every_text_of_every_page_is_in_a_catalogue(start: Starter, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "face")
    security = {"confirm_cross_site": True}
    operators = {"tokens": [*ADMIN["tokens"], *OPEN["admin"]["tokens"]]}
    gateway = await start.gateway(
        2, admin=operators, joining=OPEN["joining"], face={"directory": str(tmp_path / "face")}, security=security
    )
    # Of the link that is none, the visitor's own.
    names = {gateway.parts.site.name, "boss", "git.example/org/repo", "nonsense"}
    # What the fake member says of its versions.
    names |= {"binderhub fake", "builder process", "repo2docker"}
    await gateway.launch()
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    await until(lambda: gateway.parts.records.book.of("incident"))
    for note in ({"text": "123"}, {"text": "123", "member": "member-1"}):
        assert (await ask(gateway, BOSS, "POST", "notes", note))[0] == 201
    for kind, value in (("owner", "github.com/org"), ("network", "192.0.2.0/24")):
        assert (await ask(gateway, BOSS, "PUT", "bans", {"kind": kind, "value": value, "for": "1h"}))[0] < 300
    assert (await ask(gateway, BOSS, "PUT", "quotas", {"name": "github.com/org/repo", "limit": 1}))[0] < 300
    assert (await ask(gateway, BOSS, "PUT", "members/member-1/policy", {"policy": "draining"}))[0] < 300
    assert (await ask(gateway, BOSS, "PUT", "members/member-1/weight", {"weight": 0.5}))[0] < 300
    newcomer = await start.member("newcomer-1")
    await join(gateway, newcomer, await join_token(gateway, newcomer.name))
    await gateway.until_state("member-1", "draining")
    await gateway.until_state(newcomer.name, "pending")
    proposed = {"kind": "owner", "value": "github.com/miner", "reason": "", "member": "member-1", "until": None}
    await gateway.parts.records.write(Change(PROPOSAL, "member-1 owner:github.com/miner", proposed))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:

        async def outside(path: str, status: int = 200, **headers: str) -> list[str]:
            given = {"Accept": "text/html", "Accept-Language": LANGUAGE, **headers}
            async with http.get(gateway.url + path, headers=given) as response:
                text = await response.text()
                assert (response.status, response.headers["Content-Language"]) == (status, LANGUAGE), path
                assert "⟦" in text
                return Outside(text, names).words

        found = {
            "home": await outside(""),
            "a link that is none": await outside("launch?repo=nonsense", 400),
            "about": await outside("about"),
            "nothing": await outside("nothing", 404),
            "launch": await outside(f"v2/{SPEC}", **{"Sec-Fetch-Site": "none"}),
            "confirm": await outside(f"v2/{SPEC}", **{"Sec-Fetch-Site": "cross-site"}),
            "a launch link that is none": await outside("v2/gh/org", 400),
            "without scripts": await outside("plain-launch/nothing"),
            "status": await outside("status"),
            "operators, a way in": await outside("admin", 401),
            "operators, refused": await outside("admin", 401, Authorization="Bearer wrong"),
            "operators": await outside("admin", Authorization=f"Bearer {BOSS}"),
        }
        form = {"token": BOSS, "csrf_token": ""}
        async with http.post(f"{gateway.url}admin/login", data=form, headers={"Origin": "http://gateway.example"}) as _:
            found["operators, with forms"] = await outside("admin?done=quotas/set")
    assert found == {name: [] for name in found}


async def test_every_text_of_an_operators_session_is_in_a_catalogue(start: Starter, tmp_path: Path) -> None:
    write_catalogue(tmp_path / "face")
    roles = [{"claim": "groups", "value": "binder-operators", "role": "member", "member": "member-1"}]
    people = admin(await start.oidc(groups=["binder-operators"]), roles=roles)
    gateway = await start.gateway(1, admin=people, face={"directory": str(tmp_path / "face")})
    gateway.parts.operators.public_url = gateway.url
    names, given = {gateway.parts.site.name}, {"Accept": "text/html", "Accept-Language": LANGUAGE}
    async with Browser(gateway) as browser:
        found = {"a way in": Outside((await browser.get(f"{gateway.url}admin", headers=given))[2], names).words}
        assert (await browser.log_in())[0] == 303
        for name, method, path in (
            ("a session", "GET", "session"),
            ("a token", "POST", "session/token"),
            ("logged out", "POST", "session/end"),
        ):
            own = {"Origin": gateway.url.rstrip("/")}
            form = {"csrf_token": (await browser.call("GET", "whoami"))[1].get("csrf_token", "")}
            url = f"{gateway.url}{PREFIX}{path}"
            async with browser.http.request(method, url, data=form, headers={**given, **own}) as response:
                text = await response.text()
            assert (response.status, "⟦" in text) == (200, True), name
            found[name] = Outside(text, names).words
    assert found == {name: [] for name in found}


def test_words_outside_of_brackets_are_found() -> None:
    page = (
        '<p title="A sign">⟦In <b>two</b> words⟧ by hand <i lang="en">in English</i> 5 min member-1<code>x y</code></p>'
    )
    assert Outside(page, set()).words == ["sign", "by", "hand"]


def test_every_role_has_a_word() -> None:
    for role in Role:
        assert is_said(Operator("alice", role, "member-1").standing), role


def test_every_state_has_a_word() -> None:
    for state in (*Health, *Policy, *Stage, CapacityState.FULL):
        assert is_said(state_word(state.value)), state
