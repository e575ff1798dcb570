"""``/build``: a launch as a stream of events.

The launch itself runs elsewhere and writes a journal; a stream reads it, from wherever its visitor has got to.
"""

import time
from dataclasses import replace

from aiohttp import web

from contract import sse
from contract.events import Failure, failed
from contract.launches import parse_event_id, short
from frontend.admission import admit, resumed, unknown_launch
from frontend.login import check_intent
from frontend.refusals import Refused, refusal
from gateway.core.launch import Launch
from gateway.core.ports import LaunchAwayError, LaunchLimitError
from gateway.web.parts import PARTS, Parts
from gateway.web.visitors import admitted_to, client_of, person_of, visitor_of, wants_build_only
from servicekit.problems import Problem
from servicekit.streams import STREAM_HEADERS, stream_entries

#: Milliseconds after which a client whose launch cannot be found just now connects again.
COME_BACK_MS = 1500


async def build(request: web.Request) -> web.StreamResponse:
    """Begin a launch, or go on with the one that Last-Event-ID names."""
    parts = request.app[PARTS]
    with parts.launches.streaming():
        return await _stream(request, parts)


async def _stream(request: web.Request, parts: Parts) -> web.StreamResponse:
    try:
        launch, seen, headers = await _launch(request, parts)
    except Refused as refused:
        return refused.response()
    except LaunchAwayError:
        return _come_back()
    except LaunchLimitError as error:
        return refusal(failed(Failure.REFUSED, f"{error}\n", status_code=429, retry_after_s=error.retry_after_s))
    if launch.journal.final is not None and seen >= launch.journal.next_n - 1:
        # The client has seen the end; anything but 204 would make an EventSource ask for ever.
        return web.Response(status=204)
    with parts.launches.watching(launch):
        return await stream_entries(request, launch.journal.follow(seen), launch.id, headers)


async def _launch(request: web.Request, parts: Parts) -> tuple[Launch, int, dict[str, str]]:
    """The launch to follow, the number of its last event that the client has seen, and headers for the answer."""
    client = client_of(request, parts)
    # Who goes on with a launch knows its id, which is the authority over it.
    begins = resumed(request) is None
    person = await person_of(request, parts, "build") if begins else None
    admitted = admit(request, parts.site, parts.providers, time.time())
    if admitted.resume is None:
        if person is not None:
            check_intent(request, person, with_token=admitted.with_token)
        build_only = wants_build_only(request, parts)
        visitor = visitor_of(request, parts, client)
        headers = await admitted_to(parts, admitted.spec, client, counted=not (admitted.with_token or person))
        # Only for who comes from a page: a script might ask for it each time.
        force = admitted.with_token and request.query.get("force", "").lower() == "true"
        user = person.name if person else ""
        visitor = replace(visitor, build_token=admitted.with_token, force=force, build_only=build_only, user=user)
        begun = parts.launches.start(admitted.spec, visitor)
        await parts.launches.keep(begun)
        return begun, -1, headers
    launch_id, seen = admitted.resume
    launch = await parts.launches.find(launch_id)
    if launch is None:
        raise Refused(unknown_launch(Failure.GATEWAY))
    return launch, seen, {}


async def show_launch(request: web.Request) -> web.Response:
    """Where a launch stands; knowing its id is the authority."""
    launch = await _find(request)
    fleet = request.app[PARTS].fleet
    answer = {
        "launch_id": launch.short,
        "spec": launch.spec.raw,
        "phase": launch.phase.value,
        "outcome": launch.outcome.value if launch.outcome else None,
        "member": launch.member,
        "attempt": launch.attempt,
        "resolved_ref": launch.commit,
        "age_s": round(fleet.now() - launch.created_at, 1),
        "events": launch.journal.next_n,
    }
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


async def cancel_launch(request: web.Request) -> web.Response:
    """End a launch; one that has ended stays as it is."""
    launch = await _find(request)
    try:
        await request.app[PARTS].launches.cancel(launch)
    except LaunchAwayError as error:
        raise _away() from error
    return web.Response(status=204)


async def _find(request: web.Request) -> Launch:
    text = request.match_info["launch_id"]
    # An event's id will do too: it is what a client has at hand.
    parsed = parse_event_id(text)
    try:
        launch = await request.app[PARTS].launches.find(parsed[0] if parsed else text)
    except LaunchAwayError as error:
        raise _away() from error
    if launch is None:
        raise Problem(404, "Not Found", "No launch of this id is known here.", launch_id=short(text))
    return launch


def _away() -> Problem:
    detail = "The replicas of this gateway cannot ask each other just now. Please try again in a moment."
    return Problem(503, "Not Known Now", detail, headers={"Retry-After": "2"})


def _come_back() -> web.Response:
    """A stream without an event, at whose end a client connects again: perhaps to the replica that has its launch."""
    body = sse.encode_retry(COME_BACK_MS)
    return web.Response(body=body, content_type=sse.CONTENT_TYPE, charset="utf-8", headers=STREAM_HEADERS)
