"""A federation whose visitors log in: gateway and Hub know the same people, from one OpenID Connect provider."""

import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from federation import free_port, git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer
from member_process import Browser, MemberProcess, member_process
from notebook import Notebook

from contract.reports import Sessions, session_owner
from contract.signatures import private_pem, public_pem
from gateway.app import make_app
from tests.fakes.oidc import CLIENT, SECRET, FakeOidc
from tests.gateway.conftest import start
from tests.gateway.harness import Starter, gateway_settings, until

__all__ = ["start"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HUB = "hub-of-member-1"
HUB_SECRET = "another secret"


@dataclass(frozen=True)
class Place:
    """What is agreed on before anything runs."""

    gateway_port: int
    provider_port: int
    key: Ed25519PrivateKey
    report_key: Ed25519PrivateKey

    @property
    def gateway_url(self) -> str:
        """The gateway's, with an end slash."""
        return f"http://127.0.0.1:{self.gateway_port}/"


@pytest.fixture(scope="module")
def place() -> Place:
    """Ports and keys."""
    return Place(free_port(), free_port(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory, place: Place) -> Iterator[MemberProcess]:
    """Set up as docs/authentication.md says, with room for one session."""
    tmp = tmp_path_factory.mktemp("login")
    for name, text in (
        ("gateway.pem", public_pem(place.key.public_key())),
        ("report.pem", private_pem(place.report_key)),
        ("hub-secret", HUB_SECRET),
    ):
        (tmp / name).write_text(text)
    proxy, provider = free_port(), f"http://127.0.0.1:{place.provider_port}"
    authenticator = {
        "name": "generic-oauth",
        "config": {
            "Authenticator": {"allow_all": True, "auto_login": True},
            "GenericOAuthenticator": {
                "client_id": HUB,
                "authorize_url": f"{provider}/authorize",
                "token_url": f"{provider}/token",
                "userdata_url": f"{provider}/userinfo",
                "scope": ["openid", "email"],
                "username_claim": "email",
                "oauth_callback_url": f"http://127.0.0.1:{proxy}/hub/oauth_callback",
            },
        },
        "secrets": [{"trait": "GenericOAuthenticator.client_secret", "secret_file": str(tmp / "hub-secret")}],
    }
    tree = {
        "auth_enabled": True,
        "managed": {"authenticator": authenticator, "proxy_port": proxy},
        "sessions": {"limit": 1},
        "builder": {"cache_dir": str(shared_cache_dir(tmp_path_factory.getbasetemp()))},
        "providers": {"git": {"allow_private_addresses": True}},
        "federation": {
            "report_url": f"{place.gateway_url}api/v1/reports",
            "launch_keys_files": [str(tmp / "gateway.pem")],
            "report_key_file": str(tmp / "report.pem"),
            "report_interval": "300ms",
            "require_launch_token": True,
        },
    }
    with member_process(tmp / "data", tree) as started:
        yield started


@pytest.fixture
async def provider(place: Place) -> AsyncIterator[FakeOidc]:
    """Where Alice has logged in already: whoever comes is her."""
    provider = FakeOidc(clients={CLIENT: SECRET, HUB: HUB_SECRET})
    provider.claims = {"sub": "1", "email": "Alice@Example.org", "email_verified": True}
    await provider.start(place.provider_port)
    yield provider
    await provider.stop()


async def test_who_logs_in_at_the_gateway_is_the_same_at_a_members_hub_and_comes_back_to_the_session(
    start: Starter, place: Place, member: MemberProcess, provider: FakeOidc, git_server: GitServer
) -> None:
    make_repo(git_server.root, "shared", {"requirements.txt": "", "name.txt": "shared"})
    spec = git_spec(git_server.url("shared"))
    # Another member with more room, which is not there yet.
    other = await start.member("member-2")
    other.knobs.health_status = 503
    members = [
        {"name": "member-1", "url": member.url, "origins": [member.hub_url.rstrip("/")]}
        | {"report_key": public_pem(place.report_key.public_key())},
        {"name": "member-2", "url": other.url, "report_key": public_pem(other.key.public_key())},
    ]
    oidc = {"issuer": provider.url, "client_id": CLIENT, "client_secret": SECRET}
    changes = {"public_url": place.gateway_url, "members": members, "visitors": {"oidc": oidc}}
    settings = gateway_settings(start.data_dir, place.key, [], **changes)
    gateway = await start.serving(await make_app(settings), place.key, start.data_dir, [other], port=place.gateway_port)
    await gateway.until_state("member-1", "available")

    async with Browser() as alice, Browser() as bob:
        link = f"{place.gateway_url}v2/{spec}?urlpath=lab"
        status, at, _ = await alice.open(link)
        assert (status, str(at), provider.logins) == (200, link, [CLIENT])
        events = await alice.launch(place.gateway_url, spec)
        fields = ready(events)
        assert (fields["member"], fields["token"]) == ("member-1", "")
        assert fields["url"].startswith(f"{member.hub_url}user/alice")

        # To the session, by the Hub and the provider, with no page in between that wants to be answered.
        status, at, text = await alice.open(f"{fields['url']}lab")
        assert (status, at.path.endswith("/lab"), provider.logins) == (200, True, [CLIENT, HUB]), (at, text)
        session = Notebook(alice.http, fields["url"], "")
        assert (await session.get("api/me"))["identity"]["username"] == "alice@example.org"
        said = await session.run('import os; print(os.environ["JUPYTERHUB_USER"], open("name.txt").read())')
        assert said == "alice@example.org shared\n"

        provider.claims = {"sub": "2", "email": "bob@example.org", "email_verified": True}
        status, _, _ = await bob.open(f"{fields['url']}lab")
        assert (status, provider.logins) == (403, [CLIENT, HUB, HUB])

        # Her link leads back, although her member is full now, and the other one has room and the image.
        view = gateway.parts.fleet.snapshot.get
        repo = gateway.parts.providers.parse(spec).repo
        other.knobs.health_status = 200
        await gateway.until_state("member-2", "available")
        report = other.report(time.time(), sessions=Sessions(running=0, limit=10, free=10), images=())
        async with start.http.post(f"{place.gateway_url}api/v1/reports", data=other.signed(report)) as response:
            assert response.status == 204, await response.text()

        def is_told() -> bool:
            found = view("member-1")
            assert found is not None
            if found.received is None:
                return False
            report = found.received.report
            return session_owner("alice@example.org", repo) in report.session_owners and report.sessions.free == 0

        await until(is_told)
        again = ready(await alice.launch(place.gateway_url, spec))
        assert (again["member"], again["url"], again["token"]) == ("member-1", fields["url"], "")
        assert (await session.get("api/me"))["identity"]["username"] == "alice@example.org"
        assert not other.builds
