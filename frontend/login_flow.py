"""The way to a login provider and back (OAuth 2.0's authorization code flow, with PKCE).

What has begun is kept in the browser that has begun it, sealed, so that any replica can go on with it and nobody else
can (RFC 9700, section 4.7).
"""

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import hdrs, web

from servicekit.problems import Problem
from servicekit.sealing import Seal

#: Seconds that somebody may take to log in at the provider.
PATIENCE = 600

#: Characters of an address that one comes back to; browsers keep cookies of 4096 bytes.
MOST_HERE = 2400

#: Characters of all cookies of logins that a browser has begun besides another one.
_MOST_KEPT = 2000

_ABOUT = "a login that has begun"

#: What of a state does not stand in a cookie's name.
_UNSAFE = re.compile(r"[^A-Za-z0-9]")


class LoginError(Exception):
    """Nobody is let in; the text says why, for whoever tries and for the log.  ``away``: it may work later."""

    def __init__(self, message: str, *, away: bool = False) -> None:
        super().__init__(message)
        self.sentence, self.away = f"Nobody was let in: {message}.", away

    def problem(self) -> Problem:
        """The same as an answer."""
        return Problem(503, "Login Away", self.sentence) if self.away else Problem(403, "No Login", self.sentence)


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that has begun; ``here`` is the path that it was begun for ("" = none)."""

    nonce: str
    verifier: str
    here: str


class Starter(Protocol):
    """A provider, as far as a browser is sent there."""

    async def login_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent; raises :class:`LoginError`."""


class LoginFlow:
    """``cookie`` keeps what has begun; with ``several``, a cookie for each login of a browser: one for each tab.

    ``path`` is where the cookie is sent, ``secure`` whether over https alone; ``wall`` is Unix time.
    """

    def __init__(
        self,
        seal: Seal,
        cookie: str,
        redirect_uri: str,
        *,
        path: str,
        secure: bool,
        several: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._seal, self._cookie, self.redirect_uri = seal, cookie, redirect_uri
        self._path, self._secure, self._several, self._wall = path, secure, several, wall

    async def begin(self, provider: Starter, request: web.Request, here: str = "") -> web.Response:
        """Send a browser to the provider; raises :class:`LoginError`."""
        if len(here) > MOST_HERE:
            raise LoginError("this link is too long to be kept over a login; log in first, and open it again")
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        url = await provider.login_url(self.redirect_uri, state, nonce, verifier)
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "at": self._wall(), "here": here}
        response = web.Response(status=302, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"})
        self._forget_many(request, response)
        response.set_cookie(
            self._name(state),
            self._seal.close_cookie(kept, _ABOUT),
            max_age=PATIENCE,
            path=self._path,
            secure=self._secure,
            httponly=True,
            samesite="Lax",
        )
        return response

    def begun(self, request: web.Request) -> Begun:
        """What was kept in the browser that comes back; raises :class:`LoginError`."""
        given = request.query.get("state", "")
        try:
            kept = self._seal.open_cookie(request.cookies.get(self._name(given), ""), _ABOUT)
        except ValueError:
            raise LoginError("this browser has begun no login, or its cookie was lost; begin again") from None
        if self._wall() - kept["at"] > PATIENCE:
            raise LoginError("this login took too long; begin again")
        if not secrets.compare_digest(kept["state"].encode(), given.encode(errors="replace")):
            raise LoginError("this is not the login that this browser has begun (state); begin again")
        if error := request.query.get("error"):
            # Whoever calls writes it, and the log has a line for each record.
            raise LoginError(f"the login provider refused: {' '.join(error.split())[:100]}")
        return Begun(kept["nonce"], kept["verifier"], kept["here"])

    def forget(self, request: web.Request, response: web.Response) -> None:
        """The login is over, however it went."""
        response.del_cookie(self._name(request.query.get("state", "")), path=self._path, secure=self._secure)

    def _forget_many(self, request: web.Request, response: web.Response) -> None:
        """Logins that come to nothing must not fill the header, of 8 KiB at most, that all cookies stand in."""
        kept = {name: value for name, value in request.cookies.items() if name.startswith(f"{self._cookie}-")}
        if sum(map(len, kept.values())) > _MOST_KEPT:
            for name in kept:
                response.del_cookie(name, path=self._path, secure=self._secure)

    def _name(self, state: str) -> str:
        """A cookie's name; the state comes from whoever calls."""
        if not self._several:
            return self._cookie
        return f"{self._cookie}-{_UNSAFE.sub('', state[:12])}"
