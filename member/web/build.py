"""``/build``: a launch as a stream of events, and what may be done to a launch by whoever knows its id.

A launch that is another replica's is answered by that one.
"""

import asyncio
import logging
from dataclasses import replace

from aiohttp import web

from contract.events import Failure, failed
from contract.launches import parse_event_id, short
from contract.signatures import SignatureRefusedError
from frontend.admission import resumed, unknown_launch
from frontend.refusals import FINAL_N, Refused
from member.core.launching import Launch, LaunchOrder
from member.core.ports import LedgerError
from member.web.forwarding import UnreachedError, give_up
from member.web.orders import gateway_token, is_true, read_order
from member.web.parts import PARTS, Parts
from servicekit.problems import Problem
from servicekit.streams import stream_entries

logger = logging.getLogger(__name__)

#: Seconds between two tries to reach the replica that has a launch, and for all of them: then it is known to be dead.
_TRY_EVERY_S, _TRY_FOR_S = 1.0, 20.0

_BUILD_ONLY = (
    "Building but not launching is not permitted when the API only mode was not enabled "
    "by setting `enable_api_only_mode` to True. "
)


async def build(request: web.Request) -> web.StreamResponse:
    """Begin a launch, or go on with the one that Last-Event-ID or a gateway's token names."""
    parts = request.app[PARTS]
    try:
        found = await _resumed(request, parts) or await _started(request, parts)
    except Refused as refused:
        return refused.response()
    if isinstance(found, web.StreamResponse):
        return found
    launch, seen, headers = found
    if launch.journal.final is not None and seen >= launch.journal.next_n - 1:
        # The client has seen the end; anything but 204 would make an EventSource ask for ever.
        return web.Response(status=204)
    with parts.launches.watching(launch):
        return await stream_entries(request, launch.journal.follow(seen), launch.order.launch_id, headers)


#: A launch of this replica's, what its client has seen, and headers for the answer; or another replica's answer.
_Found = tuple[Launch, int, dict[str, str]] | web.StreamResponse


async def _resumed(request: web.Request, parts: Parts) -> _Found | None:
    """The launch that a client reconnects to; ``None`` for a new one."""
    parsed = resumed(request)
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
    if (answer := await _elsewhere(request, launch_id)) is not None:
        return answer
    raise Refused(unknown_launch(Failure.MEMBER))


async def _started(request: web.Request, parts: Parts) -> _Found:
    order, headers = await read_order(request, parts)
    # What a gateway has signed is enough; it says the same in the query, for members that know no other way.
    if is_true(request, "build_only") and not order.build_only:
        if not parts.api_only:
            raise Refused(failed(Failure.USER, f"{_BUILD_ONLY}\n", status_code=400))
        order = replace(order, build_only=True)
    if (answer := await _taken(request, order)) is not None:
        return answer
    return parts.launches.start(order), -1, headers


async def _taken(request: web.Request, order: LaunchOrder) -> web.StreamResponse | None:
    """The answer of the replica that has a launch; ``None`` where it is this one's from now on."""
    parts = request.app[PARTS]
    deadline = asyncio.get_running_loop().time() + _TRY_FOR_S
    while True:
        try:
            if (address := await parts.ledger.take(order)) is None:
                return None
            if parts.forwarding.was_passed_on(request):
                give_up("The launch is at another replica of this member. Please launch again.\n")
            return await parts.forwarding.pass_on(request, address)
        except SignatureRefusedError as error:
            raise Refused(failed(Failure.MEMBER, f"Launch token refused: {error}\n", status_code=403)) from error
        except LedgerError as error:
            logger.warning("launch %s: %s", short(order.launch_id), error)
            give_up("This member cannot go on with the launch. Please launch again.\n")
        except UnreachedError as error:
            logger.info("launch %s: %s", short(order.launch_id), error)
            if asyncio.get_running_loop().time() > deadline:
                give_up("The part of this member that has the launch does not answer. Please launch again.\n")
        await asyncio.sleep(_TRY_EVERY_S)


async def _elsewhere(request: web.Request, launch_id: str) -> web.StreamResponse | None:
    """The answer of another replica that knows a launch; ``None`` where none does."""
    parts = request.app[PARTS]
    if parts.forwarding.was_passed_on(request):
        return None
    try:
        address = await parts.ledger.find(launch_id)
        return None if address is None else await parts.forwarding.pass_on(request, address)
    except (LedgerError, UnreachedError) as error:
        logger.info("launch %s: %s", short(launch_id), error)
        return None


async def show_launch(request: web.Request) -> web.StreamResponse:
    """Where a launch stands; knowing its id is the authority."""
    launch = await _find(request)
    if isinstance(launch, web.StreamResponse):
        return launch
    answer = {
        "launch_id": launch.short,
        "spec": launch.order.spec,
        "outcome": launch.outcome.value if launch.outcome else None,
        "resolved_ref": launch.order.commit,
        "events": launch.journal.next_n,
    }
    return web.json_response(answer, headers={"Cache-Control": "no-store"})


async def cancel_launch(request: web.Request) -> web.StreamResponse:
    """End a launch; one that has ended stays as it is."""
    launch = await _find(request)
    if isinstance(launch, web.StreamResponse):
        return launch
    request.app[PARTS].launches.cancel(launch)
    return web.Response(status=204)


async def _find(request: web.Request) -> Launch | web.StreamResponse:
    text = request.match_info["launch_id"]
    # An event's id will do too: it is what a client has at hand.
    parsed = parse_event_id(text)
    launch_id = parsed[0] if parsed else text
    if (launch := request.app[PARTS].launches.find(launch_id)) is not None:
        return launch
    if (answer := await _elsewhere(request, launch_id)) is None:
        raise Problem(404, "Not Found", "No launch of this id is known here.", launch_id=short(text))
    return answer
