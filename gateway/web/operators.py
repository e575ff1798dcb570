"""Who may decide for the federation: whoever bears an operator's token."""

import hashlib
import hmac
from collections.abc import Mapping

from aiohttp import hdrs, web

from servicekit.problems import Problem

_BEARER = "Bearer "


class Operators:
    """``tokens`` are secrets by the name of who has them; kept as digests only."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._digests = {name: _digest(token) for name, token in tokens.items()}

    def name(self, request: web.Request) -> str:
        """Who asks; raises :class:`Problem` for anybody else."""
        if not self._digests:
            detail = "This gateway has no operators: set admin.tokens in its configuration."
            raise Problem(403, "No Operators", detail)
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        given = _digest(authorization.removeprefix(_BEARER)) if authorization.startswith(_BEARER) else b""
        # All are compared, so that the time tells nothing.
        found = [name for name, digest in self._digests.items() if hmac.compare_digest(digest, given)]
        if not found:
            detail = "Send an operator's token: Authorization: Bearer …"
            raise Problem(401, "Not An Operator", detail, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
        return found[0]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
