"""What a web page of another origin, or a hostile link, can do to a federation on the visitor's own machine."""

import re

import aiohttp
import pytest
from federation import Federation, git_spec
from yarl import URL


async def _build(
    federation: Federation, http: aiohttp.ClientSession, headers: dict[str, str], query: str = ""
) -> tuple[int, str, dict[str, str]]:
    url = URL(f"{federation.url}/build/{git_spec('https://example.invalid/r')}{query}", encoded=True)
    async with http.get(url, headers={"Accept": "text/event-stream", **headers}) as response:
        return response.status, await response.text(), dict(response.headers)


async def test_no_launch_without_a_token_from_our_own_page(federation: Federation, http: aiohttp.ClientSession) -> None:
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        _, body, answered = await _build(federation, http, headers)
        assert '"phase":"failed"' in body
        assert "403" in body
        assert "Access-Control-Allow-Origin" not in answered


async def test_a_token_is_of_no_use_to_another_origin(federation: Federation, http: aiohttp.ClientSession) -> None:
    token = await federation.build_token(http, git_spec("https://example.invalid/r"))
    _, body, _ = await _build(federation, http, {"Origin": "https://evil.example"}, f"?build_token={token}")
    assert "403" in body


async def test_a_name_that_was_rebound_to_this_machine_is_refused(
    federation: Federation, http: aiohttp.ClientSession
) -> None:
    for path in ("/", "/v2/gh/a/b/HEAD", "/api/v1/federation", "/build/gh/a/b/HEAD"):
        async with http.get(federation.url + path, headers={"Host": "evil.example"}) as response:
            assert response.status in (400, 403, 421)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_link_from_another_site_asks_before_it_launches(
    federation: Federation, http: aiohttp.ClientSession, site: str
) -> None:
    async with http.get(f"{federation.url}/v2/gh/a/b/HEAD", headers={"Sec-Fetch-Site": site}) as response:
        page = await response.text()
        assert response.status == 200
        assert "buildToken" not in page
        assert re.search(r"<(button|a|input)\b[^>]*>[^<]*Launch", page)
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


async def test_no_page_of_another_origin_can_read_an_answer(
    federation: Federation, http: aiohttp.ClientSession
) -> None:
    for path in ("/v2/gh/a/b/HEAD", "/api/v1/federation", "/"):
        async with http.get(federation.url + path, headers={"Origin": "https://evil.example"}) as response:
            assert response.headers.get("Access-Control-Allow-Origin") not in ("*", "https://evil.example")
