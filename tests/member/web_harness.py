"""A member's web side on a real socket over engines that run: what several tests share."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from contract import sse
from contract.addresses import networks
from contract.bans import Ban
from contract.events import BuildEvent, parse_event
from contract.signatures import LaunchClaims, private_pem, public_pem, sign_launch
from frontend.login import Login
from frontend.settings import SecuritySettings, make_site
from member.admission_settings import RateLimitSettings
from member.clients.hub_login import HubLogin
from member.core.membership import Membership
from member.engines.bans import Bans
from member.engines.capacity import Capacity
from member.engines.federations import Federations
from member.engines.health import Health
from member.engines.ledger import Alone
from member.settings import MemberSettings
from member.web.forwarding import Forwarding
from member.web.parts import Parts
from member.web.routes import add_member_routes
from member.web.visitors import Visitors
from providers.registry import Providers
from providers.settings import ProvidersSettings
from servicekit.config import load
from servicekit.sealing import Seal
from tests.member.member_harness import COMMIT, Rig, launch_claims, rig

SPEC = "gh/Org/repo/main"
DIRECT = f"git/{quote('http://127.0.0.1:1/org/repo', safe='')}/{COMMIT}"


@dataclass
class Member:
    """A member's web side over engines that run."""

    engines: Rig
    url: str
    key: Ed25519PrivateKey
    app: web.Application
    secret: str

    @property
    def http(self) -> aiohttp.ClientSession:
        return self.engines.http

    def claims(self, **changes: Any) -> LaunchClaims:
        """A gateway's order."""
        fields: dict[str, Any] = {
            "spec": SPEC,
            "client": "192.0.2.0/24",
            "ref_url": f"https://git.example/org/repo/tree/{COMMIT}",
            "persistent_spec": f"gh/Org/repo/{COMMIT}",
        }
        return launch_claims(**{**fields, **changes})

    def bearer(self, claims: LaunchClaims, key: Ed25519PrivateKey | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {sign_launch(claims, key or self.key)}"}

    @contextlib.asynccontextmanager
    async def stream(
        self, headers: dict[str, str], spec: str = SPEC, query: str = ""
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = URL(f"{self.url}build/{spec}{query}", encoded=True)
        async with self.http.get(url, headers={"Accept": sse.CONTENT_TYPE, **headers}) as response:
            yield response

    async def events(self, headers: dict[str, str], spec: str = SPEC, query: str = "") -> list[tuple[str, BuildEvent]]:
        """Every event of a stream with its id."""
        async with asyncio.timeout(90), self.stream(headers, spec, query) as response:
            assert response.status == 200
            assert response.content_type == sse.CONTENT_TYPE
            return [item async for item in read(response)]

    async def refusal(self, headers: dict[str, str], spec: str = SPEC, query: str = "") -> BuildEvent:
        """The only event of a stream, after which a browser that reconnects is told to stop."""
        ((identity, event),) = await self.events(headers, spec, query)
        async with self.stream({**headers, "Last-Event-ID": identity}, spec, query) as response:
            assert response.status == 204
        return event

    async def json(self, path: str, status: int = 200) -> Any:
        async with self.http.get(self.url + path) as response:
            assert response.status == status
            return await response.json(content_type=None)


async def read(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, BuildEvent]]:
    parser = sse.Parser()
    async for chunk in response.content.iter_any():
        for item in parser.feed(chunk):
            yield item.id, parse_event(item.data)


def member_settings(data_dir: Path, **sections: Any) -> MemberSettings:
    tree: dict[str, Any] = {
        "name": "member-1",
        "listen": {"port": 9001},
        "public_url": "http://127.0.0.1:9001/",
        "data_dir": str(data_dir),
        "hub": {"url": "http://127.0.0.1:9/", "public_url": "http://127.0.0.1:9/", "api_token": "t"},
    }
    return MemberSettings.model_validate({**tree, **sections})


@contextlib.asynccontextmanager
async def member_of(
    data_dir: Path,
    *,
    federated: bool = True,
    required: bool = True,
    api_only: bool = False,
    engine: Mapping[str, Any] | None = None,
    rules: dict[str, Any] | None = None,
    rate: dict[str, Any] | None = None,
    trusted: tuple[str, ...] = (),
    bans: tuple[Ban, ...] = (),
    login: bool = False,
    **security: Any,
) -> AsyncIterator[Member]:
    """Serve one; ``engine`` goes to :func:`tests.member.member_harness.rig`."""
    key = Ed25519PrivateKey.generate()
    secret = "s" * 64
    settings = member_settings(data_dir)
    async with rig(**{"linger": "60s", **(engine or {})}) as engines:
        rules = rules or {}
        provided = {"git": {"allow_private_addresses": True, **rules}, "gh": rules}
        providers = Providers(ProvidersSettings.model_validate(provided), engines.http)
        health = Health(engines.client, engines.builder)
        site = make_site(
            SecuritySettings.model_validate({"build_token_secret": secret, **security}),
            name="member-1",
            public_url="http://member.example/",
            version="1.2.3",
        )
        membership = Membership(
            federation="gateway.example",
            member="member-1",
            issuer="https://gateway.example/",
            report_url="https://gateway.example/api/v1/reports",
            keys=(Ed25519PrivateKey.generate().public_key(), key.public_key()),
            report_key=Ed25519PrivateKey.generate(),
            require_launch_token=required,
        )
        provider = HubLogin(
            engines.http,
            url=engines.hub.url,
            public_url=engines.hub.url,
            client_id="service-binder",
            service="binder",
            secret=lambda: engines.hub.token,
            timeout_s=30,
        )
        parts = Parts(
            name="member-1",
            site=site,
            providers=providers,
            launches=engines.launches,
            health=health,
            capacity=Capacity(
                settings,
                hub=engines.client,
                health=health,
                builder=engines.builder,
                builds=engines.builds,
                launches=engines.launches,
                versions=dict,
                prefixes=providers.prefixes,
            ),
            bans=Bans(data_dir / "bans.json", engines.client, engines.launches, bans, keep_users=login),
            logs=engines.logs,
            visitors=Visitors(networks(trusted), RateLimitSettings.model_validate(rate or {})),
            registry=engines.metrics.registry,
            image_prefix="test-",
            api_only=api_only,
            federations=Federations([membership] if federated else [], data_dir),
            ledger=Alone(),
            forwarding=Forwarding(engines.http, list),
            versions=lambda: {"builder_info": {}, "binderhub": "manybinder 1.2.3", "builder": "process"},
            login=Login(site, provider, Seal(b"a secret", "tests")) if login else None,
        )
        app = web.Application()
        add_member_routes(app, parts)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            yield Member(engines, url, key, app, secret)
        finally:
            await engines.launches.close()
            await runner.cleanup()
            await health.close()
            await providers.close()


def example(tmp_path: Path, text: str) -> MemberSettings:
    """The example, its files in a directory where they exist."""
    for name in set(re.findall(r"/etc/manybinder/([\w.-]+)", text)):
        key = Ed25519PrivateKey.generate()
        (tmp_path / name).write_text(public_pem(key.public_key()) if ".pub." in name else private_pem(key))
    path = tmp_path / "member.yaml"
    path.write_text(text.replace("/etc/manybinder", str(tmp_path)))
    return load(MemberSettings, path, environ={})


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    """One that takes launches from its gateway only."""
    async with member_of(tmp_path) as made:
        yield made
