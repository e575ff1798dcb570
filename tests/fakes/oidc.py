"""An OpenID Connect provider that serves for real, logs in whoever it is told to, and fails in every way it is told to.

It checks what a provider checks: the client's secret, the redirect URI, PKCE, and that a code is used once; and tells
``/userinfo`` to whoever has an access token of its.
"""

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from aiohttp import BasicAuth, web
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

Fault = Literal[
    "signature", "audience", "issuer", "expired", "nonce", "no nonce", "azp", "none", "hs256", "denied", "no token",
    "garbage", "error", "impostor",
]  # fmt: skip

CLIENT, SECRET = "manybinder", "a secret: with/odd%characters"


@dataclass
class FakeOidc:
    """``claims`` are those of who logs in next; ``faults`` what goes wrong."""

    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "1", "email": "alice@example.org", "groups": []})
    faults: set[Fault] = field(default_factory=set)
    url: str = ""
    asked: list[str] = field(default_factory=list)
    clients: dict[str, str] = field(default_factory=lambda: {CLIENT: SECRET})
    """The secret of each client."""
    logins: list[str] = field(default_factory=list)
    """Of which clients somebody has logged in, in order."""

    async def start(self, port: int = 0) -> "FakeOidc":
        """Serve on a port, or on one that is free."""
        self._codes: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}
        self.rotate()
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_get("/userinfo", self._userinfo)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def stop(self) -> None:
        """Serve no more."""
        await self._runner.cleanup()

    def rotate(self) -> None:
        """Sign with a new key from now on."""
        self._kid, self._key = secrets.token_hex(4), rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._other = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    async def _discovery(self, _: web.Request) -> web.Response:
        self.asked.append("discovery")
        return web.json_response(
            {
                "issuer": "https://somebody.else.example" if "impostor" in self.faults else self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "userinfo_endpoint": f"{self.url}/userinfo",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert query["response_type"] == "code"
        assert query["client_id"] in self.clients
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        back = {"state": query["state"]}
        if "denied" in self.faults:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            self._codes[back["code"]] = query
        return web.Response(status=302, headers={"Location": str(URL(query["redirect_uri"]).update_query(back))})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if "garbage" in self.faults:
            return web.Response(text="<html>", content_type="text/html")
        if "error" in self.faults:
            return web.json_response({"error": "server_error"}, status=500)
        login, password = _basic(request)
        if not login:  # client_secret_post
            login, password = str(form.get("client_id")), str(form.get("client_secret"))
        begun = self._codes.pop(str(form["code"]), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest()).rstrip(b"=")
        if self.clients.get(login) != password:
            return web.json_response({"error": "invalid_client"}, status=401)
        if (
            begun is None
            or begun["client_id"] != login
            or form["redirect_uri"] != begun["redirect_uri"]
            or challenge.decode() != begun["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.logins.append(login)
        answer = {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer"}
        self._tokens[answer["access_token"]] = dict(self.claims)
        if "no token" not in self.faults:
            answer["id_token"] = self._id_token(login, begun.get("nonce"))
        return web.json_response(answer)

    async def _userinfo(self, request: web.Request) -> web.Response:
        claims = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        return web.json_response(claims or {"error": "invalid_token"}, status=200 if claims else 401)

    def _id_token(self, client: str, nonce: str | None) -> str:
        now, faults = time.time(), self.faults
        claims: dict[str, Any] = {
            "iss": "https://evil.example" if "issuer" in faults else self.url,
            "aud": "somebody-else" if "audience" in faults else client,
            "iat": now - 7200 if "expired" in faults else now,
            "exp": now - 3600 if "expired" in faults else now + 300,
            "nonce": "another one" if "nonce" in faults else nonce,
            **self.claims,
        }
        if "no nonce" in faults:
            del claims["nonce"]
        if "azp" in faults:
            claims["azp"] = "somebody-else"
        if "none" in faults:
            return jwt.encode(claims, None, algorithm="none", headers={"kid": self._kid})
        if "hs256" in faults:
            # The public key as a shared secret: what a careless verifier takes for good.
            return jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": self._kid})
        key = self._other if "signature" in faults else self._key
        return jwt.encode(claims, key, algorithm="RS256", headers={"kid": self._kid})

    async def _jwks(self, _: web.Request) -> web.Response:
        self.asked.append("jwks")
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return web.json_response({"keys": [{**key, "kid": self._kid, "use": "sig", "alg": "RS256"}]})


def _basic(request: web.Request) -> tuple[str, str]:
    """As RFC 6749, section 2.3.1, has it: both parts are form-encoded."""
    try:
        auth = BasicAuth.decode(request.headers.get("Authorization", ""))
    except ValueError:
        return "", ""
    return str(URL(f"/{auth.login}", encoded=True).path)[1:], str(URL(f"/{auth.password}", encoded=True).path)[1:]
