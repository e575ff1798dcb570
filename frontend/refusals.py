"""Streams of one event, that say no.

A browser's EventSource reconnects whenever a stream ends, and is stopped only by an answer of 204.  A refusal therefore
bears an event id that says "this was the end" by its number: a reconnect that names it gets 204, from any replica and
without anything being kept.
"""

import os

from aiohttp import web

from contract import sse
from contract.events import BuildEvent
from contract.launches import LAUNCH_ID_BYTES, event_id, launch_id
from servicekit.streams import STREAM_HEADERS

#: The number in the id of an event after which nothing follows; no launch has as many events.
FINAL_N = 999_999_999


class Refused(Exception):  # noqa: N818 - what happened, not what went wrong
    """A request for a build that is answered with one event, or with none (``None``) where it has been answered before.

    Answer with :meth:`response`.
    """

    def __init__(self, event: BuildEvent | None) -> None:
        super().__init__(event.message if event else "this stream has ended")
        self.event = event

    def response(self) -> web.Response:
        """The answer: the event as a stream, or 204."""
        return web.Response(status=204) if self.event is None else refusal(self.event)


def refusal(event: BuildEvent) -> web.Response:
    """A stream of one final event, which a browser that reconnects does not get twice."""
    final_id = event_id(launch_id(os.urandom(LAUNCH_ID_BYTES)), FINAL_N)
    body = sse.encode(event.to_json(), event_id=final_id)
    return web.Response(body=body, content_type=sse.CONTENT_TYPE, charset="utf-8", headers=STREAM_HEADERS)
