"""Launches without JavaScript, and what the stream tells of a launch's reasons and history."""

import asyncio
import re
from html import unescape

import pytest
from yarl import URL

from contract.events import Failure, Phase
from contract.launches import short
from gateway.web.plain import COOKIE
from tests.gateway.harness import SPEC, Gateway, Starter


async def get(gateway: Gateway, path: str, **more: str) -> tuple[int, str, str]:
    """A page's status, its text and where it leads, without following it."""
    url = URL(gateway.url.rstrip("/") + path, encoded=True)
    headers = {"Accept": "text/html", "User-Agent": "test", **more}
    async with gateway.http.get(url, headers=headers, allow_redirects=False) as response:
        return response.status, await response.text(), response.headers.get("Location", "")


async def begun(gateway: Gateway, address: str) -> tuple[str, dict[str, str]]:
    """Where the page is that follows a launch that begins now, and what a browser sends with it."""
    url = URL(gateway.url.rstrip("/") + address, encoded=True)
    async with gateway.http.get(url, allow_redirects=False) as response:
        assert response.status == 303
        follow = response.headers["Location"]
        cookie = response.cookies[COOKIE]
        assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == (follow.partition("?")[0], True, "Lax")
        return follow, {"Cookie": f"{COOKIE}={cookie.value}"}


async def plain_address(gateway: Gateway, query: str = "") -> str:
    """Where a launch page sends a browser without JavaScript."""
    _, html, _ = await get(gateway, f"/v2/{SPEC}{query}")
    found = re.search(r'<noscript><meta http-equiv="refresh" content="0; url=([^"]+)"', html)
    assert found is not None
    return unescape(found[1])


async def test_a_launch_without_scripts_leads_to_the_session(start: Starter) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.gate_at = 2
    first.line = "\x1b[32m in green\x1b[0m"
    follow, cookie = await begun(gateway, await plain_address(gateway, "?labpath=a%20b.ipynb"))
    assert follow.endswith("?labpath=a+b.ipynb")
    async with asyncio.timeout(90):
        while "line 0" not in (page := (await get(gateway, follow, **cookie))[1]):
            await asyncio.sleep(0.05)
    assert '<meta http-equiv="refresh" content="3">' in page
    assert "Building the environment" in page
    assert "line 0 in green" in page
    assert "\x1b" not in page
    assert "[0m" not in page
    assert first.name in page
    first.gate.set()
    async with asyncio.timeout(90):
        while (answer := await get(gateway, follow, **cookie))[0] == 200:
            await asyncio.sleep(0.05)
    assert answer[0] == 303
    assert answer[2].startswith(f"{first.origin}/user/")
    assert answer[2].endswith("/doc/tree/a%20b.ipynb?token=notebook-token")
    assert len(first.builds) == 1


@pytest.mark.parametrize(
    ("message", "told", "in_german"),
    [
        ("No such <file>.\n", ">No such &lt;file&gt;.", ' lang="en">No such &lt;file&gt;.'),
        ("\n", ">No reason was given.", 'message">Ein Grund wurde nicht genannt.'),
    ],
)
async def test_a_failure_is_told_without_scripts(start: Starter, message: str, told: str, in_german: str) -> None:
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.first = {"phase": "failed", "message": message, "failure": "user"}
    follow, cookie = await begun(gateway, await plain_address(gateway))
    async with asyncio.timeout(90):
        while "The launch failed" not in (page := (await get(gateway, follow, **cookie))[1]):
            await asyncio.sleep(0.05)
    assert told in page
    assert in_german in (await get(gateway, follow, **cookie, **{"Accept-Language": "de"}))[1]
    assert "http-equiv" not in page
    assert f'href="/v2/{SPEC}"' in page


async def test_no_other_site_begins_a_launch(start: Starter) -> None:
    gateway = await start.gateway()
    for query in ("", "?build_token=x", "?build_token="):
        status, page, location = await get(gateway, f"/plain/{SPEC}{query}")
        assert (status, location) == (200, "")
        assert "Invalid build token" in page
    assert not any(member.builds for member in gateway.members)


async def test_a_token_that_another_site_has_fetched_begins_nothing_where_links_are_confirmed(start: Starter) -> None:
    gateway = await start.gateway(1, security={"confirm_cross_site": True})
    address = await plain_address(gateway)
    status, page, _ = await get(gateway, address, **{"Sec-Fetch-Site": "cross-site"})
    assert (status, "Launch this repository?" in page) == (200, True)
    assert unescape(page).count(address) == 1
    assert not gateway.members[0].builds
    status, _, follow = await get(gateway, address, **{"Sec-Fetch-Site": "same-origin"})
    assert (status, "/plain-launch/" in follow) == (303, True)


@pytest.mark.parametrize("launch", ["0" * 32, "x"])
async def test_a_launch_that_is_unknown(start: Starter, launch: str) -> None:
    gateway = await start.gateway(1)
    _, page, _ = await get(gateway, f"/plain-launch/{short(launch)}", Cookie=f"{COOKIE}={launch}")
    assert "not known here any more" in page


async def test_who_reads_an_address_somewhere_gets_neither_the_launch_nor_its_session(start: Starter) -> None:
    gateway = await start.gateway(1)
    follow, cookie = await begun(gateway, await plain_address(gateway))
    other, others = await begun(gateway, await plain_address(gateway))
    async with asyncio.timeout(90):
        while (await get(gateway, follow, **cookie))[0] == 200 or (await get(gateway, other, **others))[0] == 200:
            await asyncio.sleep(0.05)
    for launch in gateway.members[0].launches:
        assert launch not in f"{follow} {other}"
    named = {"Cookie": f"{COOKIE}={follow.rpartition('/')[2]}"}
    for headers in ({}, named, others):
        status, page, location = await get(gateway, follow, **headers)
        assert (status, location) == (200, "")
        assert "not known here any more" in page


async def test_in_redirect_mode_there_is_no_such_page(start: Starter) -> None:
    gateway = await start.gateway(1, mode="redirect")
    _, html, _ = await get(gateway, f"/v2/{SPEC}")
    assert "<noscript><meta" not in html
    assert "manybinder launch" in html
    assert (await get(gateway, f"/plain/{SPEC}"))[0] == 404


async def test_the_stream_says_why_and_how_long_it_usually_takes(start: Starter) -> None:
    gateway = await start.gateway(1)
    first = await gateway.launch()
    assert [item.fields["why"] for item in first if "why" in item.fields] == ["cold"]
    assert not any("usual_s" in item.fields for item in first)
    second = await gateway.launch()
    (usual,) = [item.fields["usual_s"] for item in second if "usual_s" in item.fields]
    assert set(usual) <= {"building", "launching"}
    assert all(seconds >= 0 for seconds in usual.values())
    assert second[1].fields["usual_s"] == usual


async def test_failures_have_their_kinds(start: Starter) -> None:
    gateway = await start.gateway(0)
    final = (await gateway.launch())[-1]
    assert (final.phase, final.failure, final.fields["reason"]) == (Phase.FAILED, Failure.REFUSED, "full")
