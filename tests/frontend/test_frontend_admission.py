"""The frontend in a real server: who is let through to a build."""

import json
import time
from typing import Any

import aiohttp
import pytest

from contract.sse import Parser
from frontend.admission import accepts_event_stream
from frontend.refusals import FINAL_N
from frontend.tokens import make_build_token
from tests.frontend.frontendkit import Start, start

__all__ = ["start"]

LAUNCH = "ab" * 16
SSE = {"Accept": "text/event-stream"}


async def failure(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The one event of a stream that refuses."""
    assert (response.status, response.content_type) == (200, "text/event-stream")
    (event,) = Parser().feed(await response.read())
    found = json.loads(event.data)
    assert found["phase"] == "failed"
    assert event.id.endswith(f".{FINAL_N}")
    return dict(found)


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        (["text/event-stream"], True),
        (["text/event-stream, */*"], True),
        (["Text/Event-Stream;q=0.9"], True),
        (["text/html", "text/event-stream"], True),
        (["text/html,text/event-stream ; charset=utf-8"], True),
        (["text/event-stream;q=0"], False),
        (["text/event-stream;q=0.000"], False),
        (["*/*"], False),
        (["text/*"], False),
        ([], False),
        ([""], False),
    ],
)
async def test_accept(start: Start, accept: list[str], accepted: bool) -> None:
    assert accepts_event_stream(accept) is accepted
    frontend = await start()
    response = await frontend.client.get("/build/gh/o/r/main", headers=[("Accept", value) for value in accept or ["x"]])
    if accepted:
        assert await response.text() == "admitted"
    else:
        event = await failure(response)
        assert (event["message"], event["status_code"]) == ("Missing Accept header: text/event-stream\n", 400)


@pytest.mark.parametrize(
    ("spec", "message"),
    [("nope/x/y", "No provider found for prefix nope\n"), ("gh/x/y", 'Spec is not of the form "user/repo/ref"')],
)
async def test_bad_specs(start: Start, spec: str, message: str) -> None:
    event = await failure(await (await start()).client.get(f"/build/{spec}", headers=SSE))
    assert event["message"].startswith(message)
    assert event["failure"] == "user"


async def test_tokens(start: Start) -> None:
    for required in (False, True):
        frontend = await start(require_build_token=required)
        origin = f"127.0.0.1:{frontend.client.port}"
        spec, now = "gh/o/r/main", time.time()
        good = make_build_token(frontend.site.build_token_secret, spec, origin, now)
        cases: list[tuple[str, dict[str, str], bool]] = [
            ("", {}, not required),
            (good, {}, True),
            (good, {"Sec-Fetch-Site": "same-origin"}, True),
            (good, {"Origin": f"http://{origin}"}, True),
            (good, {"Origin": "http://evil.example"}, False),
            (good, {"Origin": "null"}, False),
            (good, {"Sec-Fetch-Site": "cross-site"}, not required),
            (good, {"Sec-Fetch-Site": "same-site"}, not required),
            ("x", {}, False),
            (make_build_token("x" * 32, spec, origin, now), {}, False),
            (make_build_token(frontend.site.build_token_secret, spec, origin, now - 400), {}, False),
            (make_build_token(frontend.site.build_token_secret, "gh/o/r/dev", origin, now), {}, False),
        ]
        for token, headers, accepted in cases:
            response = await frontend.client.get(
                f"/build/{spec}", params={"build_token": token} if token else {}, headers={**SSE, **headers}
            )
            if accepted:
                assert await response.text() == "admitted", (token, headers)
                assert frontend.admitted[-1].with_token is bool(token)
            else:
                event = await failure(response)
                assert (event["message"], event["status_code"]) == ("Invalid build token\n", 403), (token, headers)


async def test_a_client_that_reconnects(start: Start) -> None:
    frontend = await start(require_build_token=True)
    url = "/build/gh/o/r/main?build_token=long-expired"
    response = await frontend.client.get(url, headers={**SSE, "Last-Event-ID": f"{LAUNCH}.7"})
    event = await failure(response)
    assert frontend.admitted[-1].resume == (LAUNCH, 7)
    assert not frontend.admitted[-1].with_token
    assert event["failure"] == "gateway"
    await failure(await frontend.client.get(url, headers={**SSE, "Last-Event-ID": LAUNCH}))
    assert frontend.admitted[-1].resume == (LAUNCH, -1)
    for other in ("7", "x.y", f"{LAUNCH}.-1", f"{LAUNCH}.", f"{LAUNCH}0"):
        response = await frontend.client.get(url, headers={**SSE, "Last-Event-ID": other})
        assert (await failure(response))["status_code"] == 403


async def test_a_refusal_ends_an_event_source(start: Start) -> None:
    frontend = await start()
    response = await frontend.client.get("/build/nope/x", headers=SSE)
    (event,) = Parser().feed(await response.read())
    again = await frontend.client.get("/build/nope/x", headers={**SSE, "Last-Event-ID": event.id})
    assert again.status == 204
