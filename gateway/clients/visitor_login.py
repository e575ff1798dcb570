"""Visitors log in with OpenID Connect; who they are stands in a sealed cookie, good at every replica."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from frontend.login_flow import LoginError
from gateway.clients.oidc import OidcProvider
from gateway.core.operators import is_proved
from gateway.login_settings import VisitorOidcSettings

#: What somebody may be called: a user of a JupyterHub, whose names have no slash; in a path, dots alone lead elsewhere.
_NAME = re.compile(r"(?!\.{1,2}$)[^\s/\x00-\x1f\x7f]{1,255}")


class VisitorLogin:
    """A provider (:class:`frontend.login.LoginProvider`); ``wall`` is Unix time."""

    hint, logout_url = "", ""

    def __init__(
        self, settings: VisitorOidcSettings, http: aiohttp.ClientSession, wall: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._wall = settings, wall
        self._oidc = OidcProvider(settings, http)

    async def login_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent; raises :class:`frontend.login_flow.LoginError`."""
        return await self._oidc.login_url(redirect_uri, state, nonce, verifier)

    async def finish(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> Mapping[str, Any]:
        """The name of who has come back, and until when it is believed.

        Raises :class:`frontend.login_flow.LoginError`.
        """
        claims, settings = await self._oidc.claims(code, redirect_uri, nonce, verifier), self._settings
        name = claims.get(settings.username_claim)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LoginError(f"the login provider gave no name that will do (claim {settings.username_claim})")
        if not is_proved(settings.username_claim, claims):
            raise LoginError(f"the login provider has not verified the address {name}")
        if settings.allowed and not any(_has(claims.get(item.claim), item.value) for item in settings.allowed):
            raise LoginError(f"{name} has logged in, and is not among those who may visit (visitors.oidc.allowed)")
        # As JupyterHub's authenticators write it.
        return {"name": name.lower(), "until": self._wall() + settings.session}

    async def user(self, kept: Mapping[str, Any]) -> str:
        """Whose login it is, "" once it is over."""
        name, until = kept.get("name"), kept.get("until")
        good = isinstance(name, str) and isinstance(until, int | float) and self._wall() < until
        return str(name) if good else ""

    async def named_by(self, authorization: str) -> str:  # noqa: ARG002 - the protocol's
        """Nobody: a gateway gives no tokens to visitors."""
        return ""


def _has(claim: object, value: str) -> bool:
    return value in claim if isinstance(claim, list) else claim == value
