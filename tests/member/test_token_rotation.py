"""Tokens and passwords in files that are replaced while a member runs: the new ones count, without a restart."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import fingerprint, private_pem, public_pem
from member.app import make_app
from member.clients.hub import HubClient, HubError
from member.clients.registry import Registry, RegistryError
from member.clients.registry_credentials import source
from member.registry_settings import RegistrySettings
from member.settings import MemberSettings
from member.web.parts import PARTS
from tests.fakes.hub import FakeHub
from tests.fakes.oci_registry import FakeRegistry
from tests.member.member_harness import until


def settings(tmp_path: Path, **more: Any) -> MemberSettings:
    token = tmp_path / "token"
    token.write_text("first\n")
    tree = {
        "name": "member-1",
        "listen": {"port": 9001},
        "public_url": "http://127.0.0.1:9001/",
        "data_dir": str(tmp_path / "data"),
        "hub": {"url": "http://127.0.0.1:9/", "public_url": "http://127.0.0.1:9/", "api_token_file": str(token)},
        **more,
    }
    return MemberSettings.model_validate(tree)


async def test_a_hub_that_refuses_a_token_is_asked_with_the_one_that_is_there_now(tmp_path: Path) -> None:
    given = settings(tmp_path)
    async with FakeHub(token="first") as hub, aiohttp.ClientSession() as http:
        client = HubClient(http, hub.url, "first", 20, renewed=lambda: given.hub.secret_now("api_token"))
        assert await client.users() == []
        hub.token = "second"
        with pytest.raises(HubError, match="does not accept this member's token"):
            await client.users()
        (tmp_path / "token").write_text("second\n")
        await client.start("somebody", {"token": "x"})
        hub.token = "third"
        (tmp_path / "token").write_text("third\n")
        # A stream that was refused is followed again by who follows it.
        with pytest.raises(HubError, match="new token"):
            async with contextlib.aclosing(client.progress("somebody")) as messages:
                await anext(messages)
        async with contextlib.aclosing(client.progress("somebody")) as messages:
            assert [message async for message in messages]
        await client.remove("somebody")
        assert hub.users == {}


async def test_of_requests_that_are_refused_together_each_is_made_with_the_new_token(tmp_path: Path) -> None:
    given = settings(tmp_path)
    async with FakeHub(token="second") as hub, aiohttp.ClientSession() as http:
        client = HubClient(http, hub.url, "first", 20, renewed=lambda: given.hub.secret_now("api_token"))
        (tmp_path / "token").write_text("second\n")
        assert await asyncio.gather(*(client.users() for _ in range(3))) == [[], [], []]


@pytest.mark.parametrize("basic", [False, True])
async def test_a_registry_that_refuses_a_password_gets_the_one_that_is_there_now(tmp_path: Path, basic: bool) -> None:
    password = tmp_path / "password"
    password.write_text("first")
    async with FakeRegistry() as fake, aiohttp.ClientSession() as http:
        fake.login, fake.basic, fake.expires_in = ("member", "first"), basic, 0
        tree = {"url": fake.url, "username": "member", "password_file": str(password), "timeout": "20s"}
        given = RegistrySettings.model_validate(tree)
        registry = Registry(http, given, source(given))
        await registry.check()
        fake.login = ("member", "second")
        with pytest.raises(RegistryError):
            await registry.check()
        password.write_text("second")
        await registry.check()


@contextlib.asynccontextmanager
async def refusing() -> AsyncIterator[str]:
    """A gateway that knows no report's key."""

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"title": "Not Signed", "detail": "no"}, status=401)

    app = web.Application()
    app.router.add_post("/api/v1/reports", refuse)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_a_report_that_is_refused_is_signed_next_with_the_key_that_is_there_now(tmp_path: Path) -> None:
    first, second, gateway = (Ed25519PrivateKey.generate() for _ in range(3))
    report_key, launch_key = tmp_path / "report.pem", tmp_path / "launch.pub.pem"
    report_key.write_text(private_pem(first))
    launch_key.write_text(public_pem(gateway.public_key()))
    async with refusing() as url:
        federation = {
            "report_url": f"{url}api/v1/reports",
            "launch_keys_files": [str(launch_key)],
            "report_key_file": str(report_key),
            "report_interval": "50ms",
        }
        app = await make_app(settings(tmp_path, federation=federation))
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()

        def key() -> str:
            (membership,) = app[PARTS].federations.memberships  # type: ignore[attr-defined]
            return fingerprint(membership.report_key.public_key())

        try:
            assert key() == fingerprint(first.public_key())
            report_key.write_text(private_pem(second))
            await until(lambda: key() == fingerprint(second.public_key()))
            # What cannot be read is passed over.
            report_key.write_text("no key")
            launch_key.write_text("no key")
            assert key() == fingerprint(second.public_key())
        finally:
            await runner.cleanup()


async def test_the_clusters_token_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    from kubernetes.aio.config import incluster_config

    from member.clients.kubernetes import Kubernetes

    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    ca.write_text("a certificate")
    for name, value in (("SERVICE_TOKEN_FILENAME", token), ("SERVICE_CERT_FILENAME", ca)):
        monkeypatch.setattr(incluster_config, name, str(value))
    for name in (incluster_config.SERVICE_HOST_ENV_NAME, incluster_config.SERVICE_PORT_ENV_NAME):
        monkeypatch.setenv(name, "1")
    soon = datetime.timedelta(seconds=-1)
    made = incluster_config.InClusterConfigLoader
    monkeypatch.setattr(made, "__init__", _refreshing(made.__init__, soon))
    context = ssl.create_default_context()
    monkeypatch.setattr("ssl.create_default_context", lambda **_: context)
    client = await Kubernetes.connect()
    try:
        assert await _authorization(client) == "bearer first"
        token.write_text("second")
        assert await _authorization(client) == "bearer second"
    finally:
        await client.close()


def _refreshing(made: Any, period: Any) -> Any:
    def make(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self._token_refresh_period = period

    return make


async def _authorization(client: Any) -> str:
    _, _, headers, _, _ = await client._api.param_serialize("GET", "/api", auth_settings=["BearerToken"])
    return str(headers["authorization"])
