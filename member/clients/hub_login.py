"""Logging in at the Hub, of which this member is a service.

Sources: JupyterHub's documentation, "Services" and "How JupyterHub uses OAuth"; ``jupyterhub/services/auth.py``
(HubOAuth), whose browser side is Tornado's.  Works with JupyterHub 5 and 6; PKCE is for 6, and 5 takes no notice of it.
"""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from contract.json_types import loads_object
from frontend.login_flow import LoginError

#: Seconds for which what the Hub has said of a token is believed, and tokens of which it is kept.
KEEP_S, MOST_KEPT = 60.0, 10_000

_TOKEN = "token "  # noqa: S105 - a scheme


class HubLogin:
    """A provider (:class:`frontend.login.LoginProvider`); a browser keeps an access token of the Hub.

    ``url`` is where this member reaches the Hub, ``public_url`` where browsers do, both with a slash at the end;
    ``service`` is this member's name there, ``secret`` gives its API token.  ``clock`` counts seconds.
    """

    hint = "send a JupyterHub API token (Authorization: token ...)"

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        public_url: str,
        client_id: str,
        service: str,
        secret: Callable[[], str],
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http, self._api, self._public = http, f"{url}hub/api/", public_url
        self._client_id, self._secret = client_id, secret
        self._scopes = {"access:services", f"access:services!service={service}"}
        self._timeout, self._clock = aiohttp.ClientTimeout(total=timeout_s), clock
        self._known: dict[str, tuple[float, str]] = {}

    @property
    def logout_url(self) -> str:
        """The Hub's; tokens of the login end with it."""
        return f"{self._public}hub/logout"

    async def login_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:  # noqa: ARG002 - the protocol's
        """Where a browser is sent."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(f"{self._public}hub/api/oauth2/authorize").update_query(query))

    async def finish(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> Mapping[str, Any]:  # noqa: ARG002 - the protocol's
        """The token for a code; raises :class:`frontend.login_flow.LoginError`."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._client_id,
            "client_secret": self._secret(),
        }
        status, answer = await self._ask("POST", "oauth2/token", form=form)
        token = answer.get("access_token")
        if status != 200 or not isinstance(token, str):
            reason = str(answer.get("error_description") or answer.get("error") or f"HTTP {status}")[:200]
            raise LoginError(f"the Hub gave no token: {reason}")
        if not await self._user(token):
            raise LoginError("the Hub does not let this user use this service (scope access:services)")
        return {"token": token}

    async def user(self, kept: Mapping[str, Any]) -> str:
        """Whose token it is, "" if it is good no longer; raises :class:`frontend.login_flow.LoginError`."""
        token = kept.get("token")
        return await self._user(token) if isinstance(token, str) else ""

    async def named_by(self, authorization: str) -> str:
        """Whose API token an Authorization header bears; raises :class:`frontend.login_flow.LoginError`."""
        if not authorization.lower().startswith(_TOKEN):
            return ""
        return await self._user(authorization[len(_TOKEN) :].strip())

    async def _user(self, token: str) -> str:
        key, now = hashlib.sha256(token.encode(errors="replace")).hexdigest(), self._clock()
        known = self._known.get(key)
        if known is not None and now - known[0] < KEEP_S:
            return known[1]
        status, model = await self._ask("GET", "user", token=token)
        if status not in (200, 401, 403, 404):
            raise LoginError(f"the Hub did not say who this is (HTTP {status})", away=True)
        name = model.get("name") if status == 200 and model.get("kind") == "user" else ""
        scopes = model.get("scopes")
        allowed = isinstance(scopes, list) and not self._scopes.isdisjoint(str(scope) for scope in scopes)
        user = name if isinstance(name, str) and allowed else ""
        self._known[key] = (now, user)
        while len(self._known) > MOST_KEPT:
            del self._known[next(iter(self._known))]
        return user

    async def _ask(
        self, method: str, path: str, *, token: str = "", form: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            headers = {"Authorization": f"token {token}"} if token else {}
            async with self._http.request(
                method, self._api + path, data=form, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                text, status = await response.text(errors="replace"), response.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            reason = str(error) or "it does not answer"
            raise LoginError(f"the Hub cannot be reached: {reason}", away=True) from error
        try:
            return status, loads_object(text)
        except ValueError:
            return status, {}
