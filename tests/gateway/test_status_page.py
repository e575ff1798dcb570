"""The status page, its stream, its feed and its badges: what routing believes, as it changes."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract import sse
from contract.reports import Builds, Sessions
from gateway.core import history
from gateway.core.fleet import Member
from gateway.core.headline import Level, headline
from gateway.core.history import Launches
from gateway.core.incidents import Happened, Incident, incident_change
from gateway.core.records import Book, Change
from gateway.core.settings import FederationSettings
from gateway.core.transitions import ProbeResult
from gateway.engines.fleet import Fleet
from gateway.engines.prober import Prober
from gateway.web.feeds import LASTS
from gateway.web.live import Live
from gateway.web.status import RENDERED_EVERY
from servicekit.tasks import Tasks
from tests.gateway.harness import Gateway, Starter, gateway_settings, until
from tests.gateway.test_operators import ADMIN, BOSS, OWNER, VIEWER, ask

ATOM = "{http://www.w3.org/2005/Atom}"


LANG = "{http://www.w3.org/XML/1998/namespace}lang"


async def text(gateway: Gateway, path: str, status: int = 200, language: str = "en") -> str:
    """What an address answers who asks for a language, and that it depends on that."""
    async with gateway.http.get(gateway.url + path, headers={"Accept-Language": language}) as response:
        assert response.status == status
        if not path.startswith("api/"):
            assert response.headers["Content-Language"] == language
            assert "Accept-Language" in response.headers["Vary"]
        return await response.text()


async def entries(gateway: Gateway, language: str = "en") -> dict[str, tuple[str, str]]:
    """Title and text of each entry of the feed, by its id."""
    feed = ET.fromstring(await text(gateway, "status.atom", language=language))  # noqa: S314 - our own
    assert feed.attrib[LANG] == language
    told = [
        [item.findtext(ATOM + name) or "" for name in ("id", "title", "content")] for item in feed.iter(f"{ATOM}entry")
    ]
    return {key: (title, content) for key, title, content in told}


async def federations(gateway: Gateway) -> AsyncIterator[dict[str, Any]]:
    """What the stream tells."""
    async with gateway.http.get(f"{gateway.url}api/v1/federation/events") as response:
        assert response.content_type == sse.CONTENT_TYPE
        parser = sse.Parser()
        async for chunk in response.content.iter_any():
            for item in parser.feed(chunk):
                assert item.event == "federation"
                yield json.loads(item.data)


async def test_the_page_tells_state_reason_facts_and_history_and_groups_by_region(start: Starter) -> None:
    gateway = await start.gateway(2, member_changes={"labels": {"region": "eu"}})
    _first, second = gateway.members
    await gateway.launch()
    await second.stop()
    await gateway.until_state(second.name, "unreachable")
    await until(lambda: '"m' in json.dumps([*gateway.parts.records.book.of("incident")]))
    page = await text(gateway, "status")
    assert '<h3 class="region">eu</h3>' in page
    assert "Members taking launches: 1 of 2; member-2 is unreachable." in page
    card = page.split('id="member-member-2"')[1].split("</article>")[0]
    assert 'bad">unreachable<' in card
    assert "It could not be reached: connection refused." in card
    for name in ("Sessions", "Launches under way", "Launches in 24 h", "Versions"):
        assert f"<dt>{name}</dt>" in card
    assert card.count('role="img"') == 2
    assert "<dt>Sitzungen</dt>" in await text(gateway, "status", language="de")
    # It happened just now, and stands in the page, the history and the feed.
    assert "member-2 is unreachable" in page.split('id="standing"')[1]
    kept = json.loads(await text(gateway, "api/v1/federation/history"))
    (incident,) = kept["incidents"]
    assert (incident["subject"], incident["closed_at"]) == ("member-2", None)
    assert len(kept["members"]["member-1"]["quarter"]["bars"]) == 90
    feed = ET.fromstring(await text(gateway, "status.atom"))  # noqa: S314 - our own
    assert [item.findtext(f"{ATOM}title") for item in feed.iter(f"{ATOM}entry")] == ["member-2 is unreachable"]
    assert feed.find(f"{ATOM}updated") is not None


def figures(page: str, member: str) -> dict[str, str]:
    """What a member's card tells, by its names."""
    card = page.split(f'id="member-{member}"')[1].split("</article>")[0]
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", card))


async def test_a_card_has_every_figure_and_stands_with_its_region(start: Starter) -> None:
    key, fakes = Ed25519PrivateKey.generate(), [await start.member(f"member-{n}") for n in (1, 2, 3)]
    settings = gateway_settings(start.data_dir, key, fakes)
    about: tuple[dict[str, Any], ...] = (
        {"labels": {"region": "eu"}, "weight": 0.5},
        {"labels": {"region": "asia"}},
        {},
    )
    members = [member.model_copy(update=given) for member, given in zip(settings.members, about, strict=True)]
    gateway = await start.gateway_with(settings.model_copy(update={"members": tuple(members)}), key, fakes)
    for fake in fakes:
        await gateway.until_state(fake.name, "available")
    report = fakes[0].report(
        time.time(), sessions=Sessions(running=3, limit=10, free=7), builds=Builds(running=1, limit=4)
    )
    async with gateway.http.post(f"{gateway.url}api/v1/reports", data=fakes[0].signed(report)) as response:
        assert response.status == 204
    hour = history.start_of(gateway.parts.fleet.now(), history.HOUR)
    past = Launches(ready=7, failed=1, times=dict.fromkeys(history.launched(11).times, 7))
    slot = history.slot_value(history.Slot(hour, {0: history.Seconds(200, 100, 0)}, past))
    await gateway.parts.records.write(Change(history.HISTORY, history.slot_key("member-1", hour, history.HOUR), slot))
    page = await text(gateway, "status")
    found = figures(page, "member-1")
    assert re.fullmatch(r"\d+ s ago", found.pop("Last report"))
    assert found == {
        "Sessions": "7 of 10 free, 3 running",
        "Builds": "1 of 4 running",
        "Launches under way": "0",
        "Launches in 24 h": "8",
        "Success rate": "87.5 %",
        "Median time to ready": "11 s",
        "Weight": "0.5",
        "Versions": "binderhub fake 1.0, builder process, repo2docker 2026.4",
    }
    # Of one that has told nothing and launched nothing there is less to tell.
    assert figures(page, "member-3") == {
        "Sessions": "not known",
        "Launches under way": "0",
        "Launches in 24 h": "0",
        "Versions": "binderhub fake 1.0, builder process, repo2docker 2026.4",
    }
    marks = re.findall(r'<h3 class="region">(.*?)</h3>|<h4><a href="[^"]*" id="link-(.*?)"', page)
    assert ["".join(mark) for mark in marks] == ["asia", "member-2", "eu", "member-1", "Elsewhere", "member-3"]
    german = await text(gateway, "status", language="de")
    found = figures(german, "member-1")
    assert (found["Sitzungen"], found["Builds"]) == ("7 von 10 frei, 3 aktiv", "1 von 4 aktiv")
    assert re.fullmatch(r"vor \d+ s", found["Letzte Meldung"])
    assert (found["Erfolgsquote"], found["Gewicht"]) == ("87,5 %", "0,5")
    # Beside the bars, and in what is said of them to who does not see them.
    shares = re.findall(r"available (\d+)\.(\d+) %", page)
    assert shares
    assert shares == re.findall(r"verfügbar (\d+),(\d+) %", german)
    for whole, part in shares:
        assert f"in rotation {whole}.{part} % of the time" in page
        assert f"dabei in {whole},{part} % der bekannten Zeit" in german


async def test_whoever_asks_at_the_same_time_gets_the_same_page_under_a_nonce_of_their_own(start: Starter) -> None:
    gateway = await start.gateway(2)
    move = gateway.stop_clock()

    async def page() -> tuple[str, str]:
        async with gateway.http.get(f"{gateway.url}status") as response:
            nonce = response.headers["Content-Security-Policy"].split("'nonce-")[1].split("'")[0]
            text = await response.text()
            assert f'<script nonce="{nonce}">' in text
            return nonce, text.replace(nonce, "")

    nonce, first = await page()
    move(RENDERED_EVERY / 2)
    other, again = await page()
    assert nonce != other
    assert first == again
    # Ages and counts are told anew soon, and a change at once, though no time has passed.
    move(RENDERED_EVERY)
    assert (await page())[1] != first
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    assert "Members taking launches: 1 of 2; member-2 is unreachable." in (await page())[1]


async def test_the_history_is_made_anew_as_seldom_as_it_says_but_for_news(start: Starter) -> None:
    gateway = await start.gateway(1, admin=ADMIN)
    move = gateway.stop_clock()
    made_at = (await gateway.json("api/v1/federation/history"))["at"]
    move(LASTS - 1)
    assert (await gateway.json("api/v1/federation/history"))["at"] == made_at
    assert "house" not in await text(gateway, "status.atom")
    assert (await ask(gateway, BOSS, "POST", "notes", {"text": "We move house."}))[0] == 201
    assert "We move house." in await text(gateway, "status.atom")
    (note,) = (await gateway.json("api/v1/federation/history"))["notes"]
    assert note["text"] == "We move house."
    move(LASTS)
    assert (await gateway.json("api/v1/federation/history"))["at"] == made_at + 2 * LASTS - 1


async def test_badges_tell_the_states_and_a_name_can_hold_anything(start: Starter) -> None:
    gateway = await start.gateway(2, name='Föderation <"&>')
    await gateway.members[1].stop()
    await gateway.until_state("member-2", "unreachable")
    whole, svg = 'Föderation <"&>', "{http://www.w3.org/2000/svg}"
    for path, status, name, told in (
        ("status/badge.svg", 200, whole, {"en": "1 of 2 members", "de": "1 von 2 Mitgliedern"}),
        ("status/member-1/badge.svg", 200, "member-1", {"en": "available", "de": "verfügbar"}),
        ("status/member-2/badge.svg", 200, "member-2", {"en": "unreachable", "de": "nicht erreichbar"}),
        ("status/nobody/badge.svg", 404, "nobody", {"en": "no such member", "de": "kein solches Mitglied"}),
    ):
        for language, word in told.items():
            badge = ET.fromstring(await text(gateway, path, status, language))  # noqa: S314 - our own
            assert badge.attrib[LANG] == language
            assert badge.attrib["aria-label"] == badge.findtext(f"{svg}title") == f"{name}: {word}"
            assert [item.text for item in badge.iter(f"{svg}text")] == [name, word]
    # A browser that has kept the one of another state or language asks again.
    for language, query in (("en", "1%20of%202%20members"), ("de", "1%20von%202%20Mitgliedern")):
        assert f'src="/status/badge.svg?{query}"' in await text(gateway, "status", language=language)


async def test_the_stream_tells_each_change_and_ends_with_the_gateway(start: Starter) -> None:
    gateway = await start.gateway(2)
    told: list[str] = []

    async def follow() -> None:
        async for item in federations(gateway):
            told.append(item["status"]["text"])  # noqa: PERF401 - each as it comes

    following = asyncio.create_task(follow())
    await until(lambda: told)
    assert told[0].startswith("Members taking launches: 2 of 2")
    await gateway.members[0].stop()
    await until(lambda: told[-1].startswith("Members taking launches: 1 of 2; member-1 is unreachable"))
    # Draining, it waits for no status page; browsers come back to another replica.
    cast("Any", gateway.parts.replicas).draining = True
    await asyncio.wait_for(following, 60)


class Client:
    """Probes a member that answers at once until it is killed."""

    killed = False

    async def probe(self, *_: object, **__: object) -> ProbeResult:
        return ProbeResult(False, False, "refused") if self.killed else ProbeResult(True, True)


@pytest.mark.looptime
@pytest.mark.parametrize("draw", [0.0, 1.0])
@pytest.mark.parametrize("lived_s", [10.0, 10.4, 10.9])
async def test_who_watches_hears_of_a_members_death_within_two_seconds(draw: float, lived_s: float) -> None:
    clock = asyncio.get_running_loop().time
    client, tasks = Client(), Tasks()
    fleet = Fleet([Member("m", "http://m/"), Member("n", "http://n/")], FederationSettings(), clock)
    Prober(fleet, cast("Any", client), tasks, lambda: draw).start()
    parts = SimpleNamespace(
        fleet=fleet,
        replicas=SimpleNamespace(draining=False, away_since=None, known={}),
        records=SimpleNamespace(book=Book()),
        site=SimpleNamespace(name="", public_url="", version="1"),
        mode="proxy",
        launches=SimpleNamespace(running=0, waiting=0),
    )
    live = Live(cast("Any", parts))
    tasks.spawn("look", live.run())
    live.streams += 1
    await asyncio.sleep(lived_s)
    client.killed, killed_at = True, clock()
    async for event in live.events():
        if b"unreachable" in event:
            break
    assert clock() - killed_at < 2
    await tasks.close()


async def test_operators_say_something_to_visitors_and_take_it_back(start: Starter) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    status, note = await ask(gateway, BOSS, "POST", "notes", {"text": "We move house on <Friday>.\x07\ufffe\ud800"})
    assert status == 201
    assert (await ask(gateway, OWNER, "POST", "notes", {"text": "New disks.", "member": "member-1"}))[0] == 201
    page = await text(gateway, "status")
    assert "We move house on &lt;Friday&gt;." in page
    assert "About member-1" in page
    feed = ET.fromstring(await text(gateway, "status.atom"))  # noqa: S314 - our own
    told = [(item.findtext(f"{ATOM}content") or "").split("<Friday>.")[0] for item in feed.iter(f"{ATOM}entry")]
    assert sorted(told) == ["New disks.", "We move house on "]
    # Of the federation speaks who decides for it, of a member its own operator.
    for token, body, answer in (
        (VIEWER, {"text": "x"}, 403),
        (OWNER, {"text": "x"}, 403),
        (OWNER, {"text": "x", "member": "member-2"}, 403),
        (BOSS, {"text": " "}, 422),
        (BOSS, {"text": "x" * 2001}, 422),
        (BOSS, {"text": "x", "member": "nobody"}, 404),
    ):
        assert (await ask(gateway, token, "POST", "notes", body))[0] == answer, (token, body)
    assert (await ask(gateway, OWNER, "DELETE", f"notes?id={note['id']}"))[0] == 403
    assert (await ask(gateway, BOSS, "DELETE", f"notes?id={note['id']}"))[0] == 204
    assert (await ask(gateway, BOSS, "DELETE", "notes?id=nothing"))[0] == 404
    assert "move house" not in await text(gateway, "status")
    assert len((await ask(gateway, VIEWER, "GET", "notes"))[1]["notes"]) == 1


@pytest.mark.slow  # a Redis, frozen
async def test_a_gateway_whose_redis_is_away_says_so_on_its_page(start: Starter) -> None:
    server = await start.redis()
    (gateway,) = await start.replicas(1, server)
    await server.stop()
    await until(lambda: gateway.parts.replicas.away_since is not None)
    page = await text(gateway, "status")
    assert "The gateway itself is degraded" in page
    assert "This gateway is degraded" in page
    await until(lambda: gateway.parts.records.book.of("incident"))
    assert "The gateway is degraded" in await text(gateway, "status.atom")


async def test_the_feed_tells_states_in_the_words_of_its_readers_language_and_keeps_what_was_written(
    start: Starter,
) -> None:
    gateway = await start.gateway(1, admin=ADMIN)
    now = gateway.parts.fleet.now()
    back, over = Happened(now - 300, "half_open", "3 launches failed."), Happened(now, "over", "It is well again.")
    down = Happened(now, "unavailable", "member-1 is half_open.")
    for incident in (
        Incident("member-1", 0, back.at, now, (back, over)),
        Incident(history.WHOLE, 0, now, None, (down,)),
    ):
        await gateway.parts.records.write(incident_change(incident))
    for note in ({"text": "Wir ziehen um."}, {"text": "New disks.", "member": "member-1"}):
        assert (await ask(gateway, BOSS, "POST", "notes", note))[0] == 201
    english, german = await entries(gateway), await entries(gateway, "de")
    assert german.keys() == english.keys()
    told = {title: (german[key], content) for key, (title, content) in english.items()}
    assert told.keys() == {
        "member-1 is half-open (over, after 5 min)",
        "No member takes launches",
        "A note from the operators",
        "A note about member-1",
    }
    assert told["A note from the operators"] == (("Ein Hinweis der Betreibenden", "Wir ziehen um."), "Wir ziehen um.")
    assert told["A note about member-1"] == (("Ein Hinweis zu member-1", "New disks."), "New disks.")
    (title, content), in_english = told["No member takes launches"]
    assert title == "Kein Mitglied nimmt Starts an"
    assert content == in_english
    (title, content), in_english = told["member-1 is half-open (over, after 5 min)"]
    assert title == "member-1: kommt zurück (vorbei, nach 5 min)"
    assert [line.partition(" ")[2] for line in content.splitlines()] == [
        "kommt zurück: 3 launches failed.",
        "It is well again.",
    ]
    assert content.replace("kommt zurück", "half-open") == in_english
    # Each is kept for a while in its own language.
    assert (await entries(gateway), await entries(gateway, "de")) == (english, german)


def test_the_headline_says_what_matters_most() -> None:
    now = time.time()
    fleet = Fleet([Member(name, f"http://{name}/") for name in "ab"], FederationSettings(), lambda: now)
    starting = headline(fleet.snapshot, now, degraded=False)
    told = "No member takes launches yet: not every one has been looked at."
    assert (starting.word, starting.text) == ("starting", told)
    fleet.probed("a", ProbeResult(True, True))
    fleet.probed("b", ProbeResult(False, False, "Gone."))
    found = headline(fleet.snapshot, now, degraded=True)
    assert (found.level, found.word) == (Level.PARTLY, "1 of 2 members")
    assert found.text == "Members taking launches: 1 of 2; b is unreachable. The gateway itself is degraded."
    fleet.probed("b", ProbeResult(True, True))
    assert headline(fleet.snapshot, now, degraded=False).level == Level.GOOD
    for name in "ab":
        fleet.refused(name)
    assert headline(fleet.snapshot, now, degraded=False).word == "full"
    empty = Fleet([], FederationSettings(), lambda: now)
    assert headline(empty.snapshot, now, degraded=False).level == Level.BAD
