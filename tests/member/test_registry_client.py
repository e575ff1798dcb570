"""A registry's client over real HTTP: what is there, what is not, and what nobody can say."""

import asyncio
import base64
import datetime
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from member.clients.registry import OPEN_S, TRIPS_AT, Registry, RegistryError
from member.clients.registry_credentials import source
from member.registry_settings import RegistrySettings
from tests.fakes.oci_registry import DOCKER, OCI, FakeRegistry

IMAGE = "team/manybinder-org-2frepo-abc123:c0ffee"


@pytest.fixture
async def fake() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as registry:
        yield registry


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def client(http: aiohttp.ClientSession, fake: FakeRegistry, clock: Clock | None = None, **changes: Any) -> Registry:
    settings = RegistrySettings.model_validate({"url": fake.url, "timeout": "20s", **changes})
    return Registry(http, settings, source(settings), clock or Clock())


@pytest.mark.parametrize("kind", [OCI, DOCKER])
async def test_manifests_of_podman_and_docker_are_found(
    http: aiohttp.ClientSession, fake: FakeRegistry, kind: str
) -> None:
    fake.manifests[IMAGE] = kind
    registry = client(http, fake)
    assert await registry.exists(IMAGE)
    assert not await registry.exists(IMAGE + "0")
    await registry.check()


async def test_a_404_that_is_not_a_registrys_own_is_not_taken_for_an_absence(
    http: aiohttp.ClientSession, fake: FakeRegistry
) -> None:
    fake.plain_404 = True
    with pytest.raises(RegistryError, match="is none"):
        await client(http, fake).exists(IMAGE)


@pytest.mark.parametrize("status", [301, 400, 403, 429, 500, 503])
async def test_what_is_broken_is_not_absent(http: aiohttp.ClientSession, fake: FakeRegistry, status: int) -> None:
    """A registry's error that is read as "image not found"."""
    fake.status = status
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        await client(http, fake).exists(IMAGE)
    with pytest.raises(RegistryError, match=f"HTTP {status}"):
        await client(http, fake).check()


async def test_a_slow_registry_is_waited_for_no_longer_than_the_deadline(
    http: aiohttp.ClientSession, fake: FakeRegistry
) -> None:
    fake.delay_s = 30
    async with asyncio.timeout(15):
        with pytest.raises(RegistryError, match=r"did not answer within 0\.1 s"):
            await client(http, fake, timeout="100ms").exists(IMAGE)


async def test_a_registry_that_is_not_there_says_so(http: aiohttp.ClientSession) -> None:
    gone = FakeRegistry()
    async with gone:
        pass
    with pytest.raises(RegistryError, match="does not answer"):
        await client(http, gone).exists(IMAGE)


async def test_a_registry_that_fails_is_left_alone_for_a_while(http: aiohttp.ClientSession, fake: FakeRegistry) -> None:
    clock = Clock()
    registry = client(http, fake, clock)
    fake.status = 500
    for _ in range(TRIPS_AT + 5):
        with pytest.raises(RegistryError, match="HTTP 500"):
            await registry.exists(IMAGE)
    assert fake.asked.total() == TRIPS_AT
    fake.status, fake.manifests[IMAGE] = None, OCI
    with pytest.raises(RegistryError):
        await registry.exists(IMAGE)
    clock.now += OPEN_S
    assert await registry.exists(IMAGE)


async def test_a_token_is_asked_for_by_scope_and_used_again_until_it_ends(
    http: aiohttp.ClientSession, fake: FakeRegistry
) -> None:
    fake.login, fake.manifests[IMAGE] = ("robot", "secret"), OCI
    clock = Clock()
    registry = client(http, fake, clock, username="robot", password="secret")
    assert await registry.exists(IMAGE)
    assert await registry.exists(IMAGE)
    name = IMAGE.partition(":")[0]
    assert fake.scopes == [f"repository:{name}:pull"]
    clock.now += 301
    assert await registry.exists(IMAGE)
    assert len(fake.scopes) == 2


async def test_a_token_that_does_not_say_for_how_long_is_kept_a_minute(
    http: aiohttp.ClientSession, fake: FakeRegistry
) -> None:
    fake.login, fake.expires_in, fake.manifests[IMAGE] = ("robot", "secret"), None, OCI
    clock = Clock()
    registry = client(http, fake, clock, username="robot", password="secret")
    for seconds in (0, 10, 61):
        clock.now = seconds
        assert await registry.exists(IMAGE)
    assert fake.asked["token"] == 2


async def test_a_password_is_given_where_the_registry_wants_it(http: aiohttp.ClientSession, fake: FakeRegistry) -> None:
    fake.login, fake.basic, fake.manifests[IMAGE] = ("robot", "secret"), True, OCI
    assert await client(http, fake, username="robot", password="secret").exists(IMAGE)
    with pytest.raises(RegistryError, match="wants a user name"):
        await client(http, fake).exists(IMAGE)
    with pytest.raises(RegistryError, match="does not let us in"):
        await client(http, fake, username="robot", password="wrong").exists(IMAGE)


@pytest.mark.parametrize("login", [{}, {"username": "robot", "password": "wrong"}])
async def test_who_gets_no_token_is_told_so(
    http: aiohttp.ClientSession, fake: FakeRegistry, login: dict[str, str]
) -> None:
    fake.login, fake.manifests[IMAGE] = ("robot", "secret"), OCI
    with pytest.raises(RegistryError, match="gives us no token") as caught:
        await client(http, fake, **login).exists(IMAGE)
    assert "wrong" not in str(caught.value)


class Everywhere(AbstractResolver):
    """All hosts are here."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - aiohttp's
    ) -> list[ResolveResult]:
        found = ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
        return [found]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "host", ["registry-1.docker.io", "index.docker.io", "registry.hub.docker.com", "harbor.example"]
)
async def test_docker_hub_refuses_what_is_not_there_and_others_refuse_us(fake: FakeRegistry, host: str) -> None:
    fake.login, fake.hides_absence, fake.manifests[IMAGE] = ("robot", "secret"), True, OCI
    url = fake.url.replace("127.0.0.1", host)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Everywhere())) as http:
        registry = client(http, fake, url=url, username="robot", password="secret")
        assert await registry.exists(IMAGE)
        if host == "harbor.example":
            with pytest.raises(RegistryError, match="does not let us in"):
                await registry.exists(IMAGE + "0")
        else:
            for _ in range(TRIPS_AT + 1):
                assert not await registry.exists(IMAGE + "0")
            fake.manifests[IMAGE + "0"] = OCI
            assert await registry.exists(IMAGE + "0")
        # A password that is wrong says nothing of the image.
        with pytest.raises(RegistryError, match="gives us no token"):
            await client(http, fake, url=url, username="robot", password="wrong").exists(IMAGE + "1")
        fake.status = 401
        with pytest.raises(RegistryError):
            await registry.exists(IMAGE + "1")


async def test_amazons_registry_gets_a_token_of_amazons(
    http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real boto3, at a server of ours."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["X-Amz-Target"])
        ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=12)
        token = base64.b64encode(b"AWS:the-password").decode()
        data = [{"authorizationToken": token, "expiresAt": ends.timestamp(), "proxyEndpoint": "https://x"}]
        return web.json_response({"authorizationData": data}, content_type="application/x-amz-json-1.1")

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{runner.addresses[0][1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    try:
        url = "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com"
        credentials = source(RegistrySettings.model_validate({"url": url, "auth": "ecr"}))
        assert await credentials.get() == ("AWS", "the-password")
        assert await credentials.get() == ("AWS", "the-password")
        assert asked == ["AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"]
    finally:
        await runner.cleanup()


async def test_googles_registry_gets_a_token_of_googles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real google-auth, at a server of ours."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((await request.post())["grant_type"])
        return web.json_response({"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"})

    app = web.Application()
    app.router.add_post("/token", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key": pem,
        "client_email": "robot@p.example",
        "token_uri": f"http://127.0.0.1:{runner.addresses[0][1]}/token",
    }
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    try:
        settings = RegistrySettings.model_validate({"url": "https://europe-docker.pkg.dev", "auth": "google"})
        credentials = source(settings)
        assert await credentials.get() == ("oauth2accesstoken", "the-token")
        assert await credentials.get() == ("oauth2accesstoken", "the-token")
        assert len(asked) == 1
    finally:
        await runner.cleanup()
