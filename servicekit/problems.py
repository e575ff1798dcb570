"""Errors of an HTTP API as ``application/problem+json`` (RFC 9457), made in one place."""

import json
import logging
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """An error to be told to the client.

    ``detail`` is a sentence for people that says what to do; ``fields`` are added to the JSON object.
    """

    def __init__(self, status: int, title: str, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.fields = status, title, detail, fields

    def response(self) -> web.Response:
        """The response that tells it."""
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail, **self.fields}
        return web.Response(status=self.status, text=json.dumps(body), content_type=CONTENT_TYPE)


@web.middleware
async def problem_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into a problem; one that nobody expected is logged, its text kept inside.

    An answer that has begun cannot become another one: it is cut off, which its client notices.
    """
    try:
        return await handler(request)
    except Exception as error:
        if not request.writer.output_size:
            return _told(request, error)
        logger.exception("unexpected error in the middle of the answer to %s %s", *_line(request))
        raise ConnectionError("the answer has begun") from error


def _told(request: web.Request, error: Exception) -> web.StreamResponse:
    """The response that tells of an error; raises those that are responses already."""
    try:
        raise error
    except Problem as problem:
        return problem.response()
    except web.HTTPException as error:
        if error.status < 400 or error.content_type not in ("text/plain", "application/octet-stream"):
            raise
        detail = "There is nothing at this address." if error.status == 404 else error.reason
        response = Problem(error.status, error.reason, detail).response()
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except Exception:
        logger.exception("unexpected error answering %s %s", *_line(request))
        return Problem(
            500, "Internal Server Error", "This is our fault; the log of this service has the details."
        ).response()


def _line(request: web.Request) -> tuple[str, str]:
    return request.method, request.rel_url.raw_path
