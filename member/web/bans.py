"""``/api/v1/bans``: a gateway tells the bans of its federation."""

from aiohttp import web

from contract.signatures import SignatureRefusedError
from member.core.ports import OlderBansError
from member.web.parts import PARTS
from servicekit.problems import Problem

#: Bytes of a list that is read: the longest that there may be, with room to spare.
MOST_BYTES = 24 * 2**20


async def put_bans(request: web.Request) -> web.Response:
    """Take a signed list in place of the last one of the same gateway."""
    parts = request.app[PARTS]
    if not parts.federations.any:
        raise Problem(404, "Not Found", "This member belongs to no federation, and takes no bans.")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise Problem(413, "Content Too Large", f"A list of bans has at most {MOST_BYTES} bytes.")
    try:
        told = parts.federations.verify_bans(body.decode("ascii"))
    except (SignatureRefusedError, UnicodeDecodeError) as error:
        raise Problem(401, "Not Signed", f"These bans are refused: {error}.") from error
    try:
        await parts.bans.take(told)
    except OlderBansError as error:
        raise Problem(409, "Not New", "A newer list of this gateway is in force here.") from error
    if missed := await parts.forwarding.tell_all(request, bytes(body)):
        # The gateway tells it again, in seconds.
        raise Problem(503, "Not All Told", f"Not every replica of this member has taken these bans: {missed}.")
    return web.Response(status=204)
