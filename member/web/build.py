"""``/build``: a launch as a stream of events, and what may be done to a launch by whoever knows its id."""

from dataclasses import replace

from aiohttp import web

from contract.events import Failure, failed
from contract.launches import parse_event_id, short
from frontend.admission import unknown_launch
from frontend.refusals import FINAL_N, Refused
from member.core.launching import Launch
from member.web.orders import gateway_token, is_true, read_order
from member.web.parts import PARTS, Parts
from servicekit.problems import Problem
from servicekit.streams import stream_entries

_BUILD_ONLY = (
    "Building but not launching is not permitted when the API only mode was not enabled "
    "by setting `enable_api_only_mode` to True. "
)


async def build(request: web.Request) -> web.StreamResponse:
    """Begin a launch, or go on with the one that Last-Event-ID or a gateway's token names."""
    parts = request.app[PARTS]
    try:
        launch, seen, headers = _resumed(request, parts) or await _started(request, parts)
    except Refused as refused:
        return refused.response()
    if launch.journal.final is not None and seen >= launch.journal.next_n - 1:
        # The client has seen the end; anything but 204 would make an EventSource ask for ever.
        return web.Response(status=204)
    with parts.launches.watching(launch):
        return await stream_entries(request, launch.journal.follow(seen), launch.order.launch_id, headers)


def _resumed(request: web.Request, parts: Parts) -> tuple[Launch, int, dict[str, str]] | None:
    """The launch that a client reconnects to, what it has seen, and headers for the answer; ``None`` for a new one."""
    parsed = parse_event_id(request.headers.get("Last-Event-ID", ""))
    if parsed is None:
        return None
    launch_id, seen = parsed
    if seen == FINAL_N:
        raise Refused(None)
    launch = parts.launches.find(launch_id)
    if launch is not None:
        return launch, seen, {}
    if gateway_token(request, parts):
        return None  # a gateway's order stands for itself, and has one launch whoever asks
    raise Refused(unknown_launch(Failure.MEMBER))


async def _started(request: web.Request, parts: Parts) -> tuple[Launch, int, dict[str, str]]:
    order, headers = await read_order(request, parts)
    # What a gateway has signed is enough; it says the same in the query, for members that know no other way.
    if is_true(request, "build_only") and not order.build_only:
        if not parts.api_only:
            raise Refused(failed(Failure.USER, f"{_BUILD_ONLY}\n", status_code=400))
        order = replace(order, build_only=True)
    return parts.launches.start(order), -1, headers


async def show_launch(request: web.Request) -> web.Response:
    """Where a launch stands; knowing its id is the authority."""
    launch = _find(request)
    answer = {
        "launch_id": launch.short,
        "spec": launch.order.spec,
        "outcome": launch.outcome.value if launch.outcome else None,
        "resolved_ref": launch.order.commit,
        "events": launch.journal.next_n,
    }
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


async def cancel_launch(request: web.Request) -> web.Response:
    """End a launch; one that has ended stays as it is."""
    request.app[PARTS].launches.cancel(_find(request))
    return web.Response(status=204)


def _find(request: web.Request) -> Launch:
    text = request.match_info["launch_id"]
    # An event's id will do too: it is what a client has at hand.
    parsed = parse_event_id(text)
    launch = request.app[PARTS].launches.find(parsed[0] if parsed else text)
    if launch is None:
        raise Problem(404, "Not Found", "No launch of this id is known here.", launch_id=short(text))
    return launch
