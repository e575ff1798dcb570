"""What members ask of a gateway besides reporting: to join, to change their keys, to leave."""

from aiohttp import hdrs, web

from gateway.core.ports import JoinRefusedError
from gateway.web.admin.asked import address_of
from gateway.web.parts import PARTS, Parts
from servicekit.problems import Problem
from servicekit.streams import read_up_to

_BEARER = "Bearer "

#: Bytes of a request that are read; a member's address may be long.
MOST_BYTES = 16 * 1024


async def join(request: web.Request) -> web.Response:
    """Register a member: its join token is the bearer, its signed request the body; answers with a signed welcome."""
    parts = request.app[PARTS]
    authorization = request.headers.get(hdrs.AUTHORIZATION, "")
    body = await _body(request)
    try:
        welcome = await parts.joining.join(authorization.removeprefix(_BEARER), body, address_of(request, parts))
    except JoinRefusedError as refusal:
        raise problem_of(refusal) from refusal
    return web.Response(text=welcome, content_type="application/jwt", headers={hdrs.CACHE_CONTROL: "no-store"})


async def change_keys(request: web.Request) -> web.Response:
    """Other keys of a member's reports, signed with one that is registered."""
    parts, body = await _asked(request)
    try:
        await parts.joining.change_keys(body)
    except JoinRefusedError as refusal:
        raise problem_of(refusal) from refusal
    return web.Response(status=204)


async def leave(request: web.Request) -> web.Response:
    """A member leaves, that is drained and empty."""
    parts, body = await _asked(request)
    try:
        await parts.joining.leave(body)
    except JoinRefusedError as refusal:
        raise problem_of(refusal) from refusal
    return web.Response(status=204)


def problem_of(refusal: JoinRefusedError) -> Problem:
    """A refusal as it is told."""
    return Problem(refusal.status, refusal.title, str(refusal))


async def _asked(request: web.Request) -> tuple[Parts, str]:
    return request.app[PARTS], await _body(request)


async def _body(request: web.Request) -> str:
    body = await read_up_to(request.content, MOST_BYTES + 1)
    if len(body) > MOST_BYTES or not body.isascii():
        raise Problem(401, "Not Signed", f"The body must be a signed token: ASCII text, at most {MOST_BYTES} bytes.")
    return body.decode("ascii").strip()
