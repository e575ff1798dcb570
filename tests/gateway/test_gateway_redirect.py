"""Redirect mode: the visitor goes to a member, pages stay, and a failure just had outranks stickiness."""

import time
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from yarl import URL

from frontend.page_config import parse_page_config
from gateway.core import sticky
from tests.gateway.harness import SPEC, Gateway, Starter, spec_of

SSE = {"Accept": "text/event-stream"}


async def asked(gateway: Gateway, spec: str = SPEC, query: str = "", **headers: str) -> aiohttp.ClientResponse:
    """The answer to a visitor who follows no redirects."""
    url = URL(f"{gateway.url}build/{spec}{query}", encoded=True)
    return await gateway.http.get(url, headers={**SSE, **headers}, allow_redirects=False)


def cookie(response: aiohttp.ClientResponse) -> str:
    """What the visitor is told to remember."""
    return response.cookies["manybinder-member"].value


async def test_a_launch_is_sent_to_a_member_with_what_the_visitor_asked(start: Starter) -> None:
    gateway = await start.gateway(mode="redirect")
    first, _ = gateway.first_choice()
    response = await asked(gateway, query="?build_token=&token=x%20y")
    assert response.status == 307
    assert response.headers["Location"] == f"{first.url}build/{SPEC}?token=x+y"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Access-Control-Allow-Headers"]
    assert (await asked(gateway, query="?build_token=forged")).status == 200
    federation = await gateway.json("api/v1/federation")
    assert federation["mode"] == "redirect"
    async with gateway.http.get(f"{gateway.url}status") as page:
        assert "not moved to another" in await page.text()
    async with gateway.http.get(f"{gateway.url}v2/{SPEC}") as page:
        (connect,) = [
            item for item in page.headers["Content-Security-Policy"].split("; ") if item.startswith("connect-src")
        ]
        assert set(connect.split()[1:]) == {"'self'", *(member.origin for member in gateway.members)}
        assert '"memberCookie": "manybinder-member"' in (await page.text()).replace('":"', '": "')


async def test_who_follows_the_redirect_gets_the_members_own_stream(start: Starter) -> None:
    gateway = await start.gateway(mode="redirect")
    first, _ = gateway.first_choice()
    first.knobs.first = {"phase": "failed", "message": "straight from the member\n"}
    async with gateway.http.get(URL(f"{gateway.url}build/{SPEC}", encoded=True), headers=SSE) as response:
        assert "straight from the member" in await response.text()


async def test_a_failure_that_a_visitor_has_just_had_outranks_stickiness(start: Starter) -> None:
    """A four-hour cookie pinned visitors to a broken member: each refresh failed again."""
    gateway = await start.gateway(3, mode="redirect")
    response = await asked(gateway)
    last = sticky.parse(cookie(response))
    assert last is not None
    # Nothing has said that the launch there went well: a refresh goes elsewhere.
    again = await asked(gateway, Cookie=f"manybinder-member={cookie(response)}")
    other = sticky.parse(cookie(again))
    assert other is not None
    assert other.member != last.member
    # Once one went well, the visitor returns there, for any repository.
    for repo in ("one", "two", "three"):
        good = f"manybinder-member={cookie(again).replace('~sent~', '~ready~')}"
        back = await asked(gateway, spec_of(repo), Cookie=good)
        assert cookie(back).startswith(f"{other.member}~sent~")
    for nonsense in ("", "x", "a~b~c", "member-9~ready~00000000", "~ready~"):
        assert (await asked(gateway, Cookie=f"manybinder-member={nonsense}")).status == 307


async def test_a_member_that_is_down_gets_nobody_and_with_none_left_a_clear_event_says_so(start: Starter) -> None:
    gateway = await start.gateway(mode="redirect")
    first, second = gateway.first_choice()
    await first.stop()
    await gateway.until_state(first.name, "unreachable")
    good = f"manybinder-member={first.name}~ready~00000000"
    assert (await asked(gateway, Cookie=good)).headers["Location"].startswith(second.url)
    await second.stop()
    await gateway.until_state(second.name, "unreachable")
    response = await asked(gateway)
    assert response.status == 200
    text = await response.text()
    assert "No member of this federation can take the launch now" in text
    assert '"retry_after_s": 30' in text.replace('":30', '": 30')


async def test_launches_sent_to_a_member_count_against_its_room(start: Starter) -> None:
    gateway = await start.gateway(mode="redirect")
    first, second = gateway.first_choice()
    for member in gateway.members:
        report = member.signed(member.report(time.time(), images=()))
        async with gateway.http.post(f"{gateway.url}api/v1/reports", data=report) as response:
            assert response.status == 204
    counts = {first.name: 0, second.name: 0}
    for _ in range(14):
        last = sticky.parse(cookie(await asked(gateway)))
        assert last is not None
        counts[last.member] += 1
    assert counts == {first.name: 7, second.name: 7}
    view = gateway.parts.fleet.snapshot.get(first.name)
    assert view is not None
    assert len(view.reservations) == 7


@pytest.mark.parametrize("kind", ["manybinder", "binderhub"])
async def test_a_visitor_with_a_token_gets_one_of_the_members_and_nobody_else_does(start: Starter, kind: str) -> None:
    secret = "5f" * 32
    # BinderHub reads its secret as hexadecimal, a member of manybinder as it stands.
    key = bytes.fromhex(secret) if kind == "binderhub" else secret
    changes = {"kind": kind, "build_token_secret": secret}
    gateway = await start.gateway(1, mode="redirect", member_changes=changes)
    (member,) = gateway.members
    async with gateway.http.get(URL(f"{gateway.url}v2/{SPEC}", encoded=True)) as response:
        page = parse_page_config(await response.text())
    for origin in ("", gateway.url.rstrip("/")):
        response = await asked(
            gateway, query=f"?build_token={page['buildToken']}", **({"Origin": origin} if origin else {})
        )
        (token,) = parse_qs(urlsplit(response.headers["Location"]).query)["build_token"]
        claims = jwt.decode(token, key, ["HS256"], audience=SPEC)
        assert claims["origin"] == (urlsplit(origin or member.url).netloc)
    response = await asked(gateway)
    assert "build_token" not in response.headers["Location"]


async def test_a_stream_that_comes_back_is_sent_nowhere(start: Starter) -> None:
    gateway = await start.gateway(
        1, mode="redirect", security={"require_build_token": True, "allowed_hosts": ["127.0.0.1"]}
    )
    for last in ("1" * 32 + ".0", "1" * 32):
        response = await asked(gateway, **{"Last-Event-ID": last})
        assert response.status == 200
        assert "not known here any more" in await response.text()


def test_over_https_no_other_host_can_set_the_cookie() -> None:
    assert sticky.cookie_name("https://binder.example/") == "__Host-manybinder-member"
    assert sticky.cookie_name("http://127.0.0.1/") == "manybinder-member"
