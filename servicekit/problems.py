"""Errors of an HTTP API as ``application/problem+json`` (RFC 9457), made in one place."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An error to be told to the client.

    ``detail`` is a sentence for people that says what to do; ``headers`` are the response's, ``fields`` are added to
    the JSON object.
    """

    def __init__(
        self, status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **fields: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.fields = status, title, detail, fields
        self.headers = headers or {}

    def response(self) -> web.Response:
        """The response that tells it."""
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail, **self.fields}
        return web.Response(
            status=self.status, text=json.dumps(body), content_type=CONTENT_TYPE, headers=dict(self.headers)
        )


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into a problem; one that nobody expected is logged, its text kept inside.

    An answer that has begun cannot become another one: it is cut off, which its client notices.
    """
    try:
        return await handler(request)
    except Exception as error:
        if request.writer.output_size:
            return _cut_off(request, error)
        if isinstance(error, Problem):
            return error.response()
        if isinstance(error, web.HTTPException):
            if error.status < 400 or error.content_type not in ("text/plain", "application/octet-stream"):
                raise
            return _problem_of(error).response()
        logger.exception("unexpected error answering %s %s", request.method, request.rel_url.raw_path)
        detail = "This is our fault; the log of this service has the details."
        return Problem(500, "Internal Server Error", detail).response()


def _problem_of(error: web.HTTPException) -> Problem:
    detail = "There is nothing at this address." if error.status == 404 else error.reason
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(error.status, error.reason, detail, headers=headers)


def _cut_off(request: web.Request, error: Exception) -> web.Response:
    """Close the connection; what this returns is not sent."""
    if request.transport is not None and not request.transport.is_closing():
        # Else the client has left, and that is what the error is about.
        line = (request.method, request.rel_url.raw_path)
        logger.error("unexpected error amid the answer to %s %s", *line, exc_info=error)
        request.transport.close()
    return web.Response(status=500)
