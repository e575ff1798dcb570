"""OpenID Connect: asks a provider who somebody is (authorization code flow with PKCE).

Sources: OpenID Connect Core 1.0, sections 3.1.2 and 3.1.3 (the flow, and the checks of an ID token); OpenID Connect
Discovery 1.0; RFC 7636 (PKCE); RFC 9700 (best current practice of OAuth).
"""

import asyncio
import base64
import hashlib
import hmac
import ssl
import time
from collections.abc import Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import aiohttp
import jwt
from yarl import URL

from contract.json_types import loads_object
from frontend.login_flow import LoginError
from gateway.login_settings import ProviderSettings, is_safe_url

S = TypeVar("S", bound=ProviderSettings)

#: Signatures that are believed: none of a shared secret, which a public key could be taken for.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")

#: Seconds for one question to the provider, and for which its description of itself is kept.
TIMEOUT, KEEP = 10.0, 3600.0

_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class OidcProvider(Generic[S]):
    """One provider, as ``settings`` name it."""

    def __init__(self, settings: S, http: aiohttp.ClientSession) -> None:
        self.settings, self._http = settings, http
        self._found: Mapping[str, Any] = {}
        self._found_at = -KEEP
        self._keys: jwt.PyJWKClient | None = None

    async def login_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent; raises :class:`frontend.login_flow.LoginError`."""
        found = await self._discovered()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return str(URL(found["authorization_endpoint"]).update_query(query))

    async def claims(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> dict[str, Any]:
        """What the provider says of who has come back with a code; raises :class:`frontend.login_flow.LoginError`."""
        found = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        headers, secret = {}, self.settings.client_secret.get_secret_value()
        if secret and "client_secret_basic" not in found.get("token_endpoint_auth_methods_supported", _BASIC):
            form["client_secret"] = secret
        elif secret:
            # RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
            pair = f"{quote(self.settings.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        answer = await self._ask("POST", found["token_endpoint"], form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise LoginError("the login provider gave no ID token")
        return await self._verified(token, nonce)

    async def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        settings = self.settings
        assert self._keys is not None  # noqa: S101 - set with what was discovered
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=settings.client_id,
                issuer=settings.issuer,
                leeway=settings.leeway,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise LoginError(f"the keys of the login provider cannot be had: {error}", away=True) from error
        except (jwt.PyJWTError, ValueError) as error:
            raise LoginError(f"the ID token is not believed: {error}") from error
        if not isinstance(claims.get("nonce"), str) or not hmac.compare_digest(
            claims["nonce"].encode(errors="replace"), nonce.encode()
        ):
            raise LoginError("the ID token is not believed: it is of another login (nonce)")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", settings.client_id) != settings.client_id or (several and "azp" not in claims):
            raise LoginError("the ID token is not believed: it was made for another client (azp)")
        return claims

    async def _discovered(self) -> Mapping[str, Any]:
        now = time.monotonic()
        if now - self._found_at < KEEP:
            return self._found
        issuer = self.settings.issuer
        found = await self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise LoginError(f"the login provider calls itself {str(found.get('issuer'))[:200]!r}, not {issuer!r}")
        for name in _ENDPOINTS:
            if not isinstance(found.get(name), str) or not is_safe_url(found[name]):
                raise LoginError(f"the login provider names no {name} that is reached over https")
        if self._keys is None or self._keys.uri != found["jwks_uri"]:
            context = ssl.create_default_context()
            self._keys = jwt.PyJWKClient(found["jwks_uri"], timeout=TIMEOUT, ssl_context=context)
        self._found, self._found_at = found, now
        return found

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with self._http.request(
                method, url, data=form, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                text, status = await response.text(errors="replace"), response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or "it does not answer"
            raise LoginError(f"the login provider cannot be reached: {reason}", away=True) from error
        try:
            wire = loads_object(text)
        except ValueError as error:
            raise LoginError(f"the login provider gave an answer that is not understood (HTTP {status})") from error
        if status != 200:
            raise LoginError(f"the login provider refused (HTTP {status}): {str(wire.get('error'))[:100]}")
        return wire


#: What a provider supports that does not say (OpenID Connect Discovery 1.0, section 3).
_BASIC = ("client_secret_basic",)
