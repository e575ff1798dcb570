"""The member's API on a real socket: who may launch, how streams begin, resume and end, and what probes are told."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
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
from contract.events import BuildEvent, Failure, Phase, parse_event
from contract.launches import event_id, launch_id
from contract.signatures import LaunchClaims, private_pem, public_pem, sign_launch
from frontend.login import Login
from frontend.refusals import FINAL_N
from frontend.settings import SecuritySettings, make_site
from frontend.tokens import make_build_token
from member import joined
from member.admission_settings import RateLimitSettings
from member.app import CannotStartError, make_app
from member.builder_settings import ProcessBuilderSettings
from member.clients.hub_login import HubLogin
from member.core.launching import Outcome
from member.core.membership import Membership
from member.engines import capacity as capacity_module
from member.engines.bans import Bans
from member.engines.capacity import Capacity
from member.engines.federations import Federations
from member.engines.health import Health
from member.engines.ledger import Alone
from member.settings import (
    BuildsSettings,
    HookSettings,
    LaunchSettings,
    MemberSettings,
    SessionSettings,
)
from member.web.forwarding import Forwarding
from member.web.parts import PARTS, Parts
from member.web.routes import add_member_routes
from member.web.visitors import Visitors
from providers.registry import Providers
from providers.settings import ProvidersSettings
from servicekit.config import load
from servicekit.sealing import Seal
from tests.member.member_harness import COMMIT, Rig, build_request, rig, until

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
        now = time.time()
        fields: dict[str, Any] = {
            "member": "member-1",
            "launch_id": launch_id(os.urandom(16)),
            "provider": "gh",
            "spec": SPEC,
            "repo_url": build_request("repo").repo_url,
            "resolved_ref": COMMIT,
            "issued_at": now,
            "expires_at": now + 60,
            "client": "192.0.2.0/24",
            "launch_host": "https://gateway.example/",
            "ref_url": f"https://git.example/org/repo/tree/{COMMIT}",
            "persistent_spec": f"gh/Org/repo/{COMMIT}",
        }
        return LaunchClaims(**{**fields, **changes})

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


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    """One that takes launches from its gateway only."""
    async with member_of(tmp_path) as made:
        yield made


async def test_a_gateways_token_launches_what_it_says(member: Member) -> None:
    claims = member.claims()
    items = await member.events(member.bearer(claims), spec="gh/who/cares/what")
    assert [identity for identity, _ in items] == [event_id(claims.launch_id, n) for n in range(len(items))]
    last = items[-1][1]
    assert last.phase == Phase.READY
    assert last.fields["binder_request"] == f"v2/{SPEC}"
    assert last.fields["binder_persistent_request"] == f"v2/gh/Org/repo/{COMMIT}"
    assert last.fields["binder_launch_host"] == "https://gateway.example/"
    assert last.fields["binder_client_ip"] == "192.0.2.0/24"
    assert last.fields["repo_url"] == "https://git.example/org/repo"
    assert member.engines.builder.begun == [build_request("repo").image]


async def test_without_a_token_nothing_starts(member: Member) -> None:
    for headers in ({}, {"Authorization": "Basic Zm9v"}, {"Authorization": "token abc"}):
        event = await member.refusal(headers)
        assert (event.failure, event.fields["status_code"]) == (Failure.REFUSED, 403)
        assert "federation" in event.message
    assert member.engines.launches.seen == ()


async def test_a_token_that_proves_nothing_is_refused(member: Member) -> None:
    now = time.time()
    good = member.bearer(member.claims())["Authorization"]
    head, body, signature = good.split(".")
    cases = {
        "the signature is not by a key": member.bearer(member.claims(), Ed25519PrivateKey.generate()),
        "has expired": member.bearer(member.claims(issued_at=now - 100, expires_at=now - 40)),
        "is from the future": member.bearer(member.claims(issued_at=now + 600, expires_at=now + 660)),
        "is for another member": member.bearer(member.claims(member="member-2")),
        "names no launch": member.bearer(member.claims(launch_id="7")),
        "not a readable token": {"Authorization": "Bearer rubbish"},
        "refused": {"Authorization": f"{head}.{body}.{signature[::-1]}"},
    }
    for said, headers in cases.items():
        event = await member.refusal(headers)
        assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403), said
        assert event.message.startswith("Launch token refused: "), said
        assert said in event.message, event.message
    assert member.engines.launches.seen == ()


async def test_accept_must_name_event_streams(member: Member) -> None:
    event = await member.refusal({**member.bearer(member.claims()), "Accept": "*/*"})
    assert (event.message, event.fields["status_code"]) == ("Missing Accept header: text/event-stream\n", 400)
    assert event.failure == Failure.GATEWAY
    assert member.engines.launches.seen == ()


async def test_building_only_is_not_permitted(member: Member) -> None:
    event = await member.refusal(member.bearer(member.claims()), query="?build_only=true")
    assert (event.failure, event.fields["status_code"]) == (Failure.USER, 400)
    assert event.message.startswith("Building but not launching is not permitted")
    assert member.engines.launches.seen == ()


async def test_the_same_order_twice_is_one_launch_and_both_get_all_of_it(member: Member) -> None:
    gate = member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    first = asyncio.create_task(member.events(member.bearer(claims)))
    await until(lambda: member.engines.builder.running)
    again = [member.bearer(replace(claims, issued_at=claims.issued_at - n)) for n in (1, 2)]
    second = asyncio.create_task(member.events(again[0]))
    await until(lambda: (launch := member.engines.launches.find(claims.launch_id)) and launch.watchers == 2)
    gate.set()
    assert await first == await second
    assert len(member.engines.hub.users) == 1
    assert await member.events(again[1]) == await first


async def test_a_token_that_somebody_sends_a_second_time_is_refused(member: Member) -> None:
    headers = member.bearer(member.claims())
    assert (await member.events(headers))[-1][1].phase == Phase.READY
    event = await member.refusal(headers)
    assert (event.failure, event.fields["status_code"]) == (Failure.MEMBER, 403)
    assert "was used before" in event.message
    assert "token" not in event.fields


async def test_a_stream_goes_on_from_the_last_event_id_and_after_the_end_there_is_204(member: Member) -> None:
    gate = member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    async with member.stream(member.bearer(claims)) as response:
        async for identity, event in read(response):
            last_seen = identity
            if event.message == "Step 1\n":
                break
    launch = member.engines.launches.find(claims.launch_id)
    assert launch is not None
    await until(lambda: not launch.watchers)
    gate.set()
    rest = await member.events({"Last-Event-ID": last_seen})
    assert [identity for identity, _ in rest] == [event_id(claims.launch_id, n) for n in range(3, 3 + len(rest))]
    assert rest[0][1].message == "Step 2\n"
    assert rest[-1][1].phase == Phase.READY
    async with member.stream({"Last-Event-ID": rest[-1][0]}) as response:
        assert response.status == 204
    assert await member.events({"Last-Event-ID": rest[-2][0]}) == rest[-1:]
    assert len(member.engines.hub.users) == 1


async def test_a_launch_that_is_not_known_is_never_begun_anew(member: Member) -> None:
    unknown = event_id(launch_id(os.urandom(16)), 3)
    event = await member.refusal({"Last-Event-ID": unknown})
    assert (event.phase, event.failure) == (Phase.FAILED, Failure.MEMBER)
    assert "start again" in event.message
    assert member.engines.launches.seen == ()
    async with member.stream({"Last-Event-ID": event_id(launch_id(os.urandom(16)), FINAL_N)}) as response:
        assert response.status == 204


async def test_whoever_knows_the_id_may_look_and_cancel(member: Member) -> None:
    member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    following = asyncio.create_task(member.events(member.bearer(claims)))
    await until(lambda: member.engines.builder.running)
    path = f"api/v1/launches/{claims.launch_id}"
    shown = await member.json(path)
    assert (shown["outcome"], shown["spec"], shown["resolved_ref"]) == (None, SPEC, COMMIT)
    assert claims.launch_id not in str(shown)
    async with member.http.delete(member.url + path) as response:
        assert response.status == 204
    last = (await following)[-1][1]
    assert (last.phase, last.failure) == (Phase.FAILED, Failure.USER)
    assert "cancelled" in last.message
    assert (await member.json(f"api/v1/launches/{event_id(claims.launch_id, 2)}"))["outcome"] == Outcome.CANCELLED
    async with member.http.delete(member.url + path) as response:
        assert response.status == 204
    async with member.http.delete(f"{member.url}api/v1/launches/{launch_id(os.urandom(16))}") as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"


async def test_a_visitor_that_leaves_is_noticed(member: Member) -> None:
    member.engines.builder.hold(build_request("repo").image)
    claims = member.claims()
    async with member.stream(member.bearer(claims)) as response:
        await response.content.readany()
        launch = member.engines.launches.find(claims.launch_id)
        assert launch is not None
        assert launch.watchers == 1
    await until(lambda: not launch.watchers)
    member.engines.skew = 61
    await member.engines.launches.sweep()
    await until(lambda: launch.outcome == Outcome.ABANDONED)
    await until(lambda: not member.engines.builder.running)


async def test_a_head_request_begins_nothing(member: Member) -> None:
    async with member.http.head(f"{member.url}build/{SPEC}", headers=member.bearer(member.claims())) as response:
        assert response.status == 405
    assert member.engines.launches.seen == ()


async def test_a_member_that_stands_alone_admits_visitors_by_itself(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False) as member:
        items = await member.events({}, spec=DIRECT)
        last = items[-1][1]
        assert last.phase == Phase.READY
        assert last.fields["binder_request"] == f"v2/{DIRECT}"
        assert last.fields["binder_launch_host"] == "http://member.example/"
        assert last.fields["binder_client_ip"] == "127.0.0.1"
        event = await member.refusal({}, spec="nowhere/org/repo/main")
        assert (event.failure, event.message) == (Failure.USER, "No provider found for prefix nowhere\n")
        event = await member.refusal({"Accept": "text/html"}, spec=DIRECT)
        assert event.failure == Failure.USER
        # A bearer token means nothing to a member without a gateway.
        bearer = member.bearer(member.claims())
        assert (await member.events(bearer, spec=DIRECT))[-1][1].phase == Phase.READY
        seen = member.engines.launches.seen
        event = await member.refusal({**bearer, "Last-Event-ID": event_id("0" * 32, 3)}, spec=DIRECT)
        assert "start again" in event.message
        assert member.engines.launches.seen == seen


async def test_where_build_tokens_are_required_only_pages_of_this_member_launch(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False, require_build_token=True) as member:
        for query in ("", "?build_token=rubbish"):
            event = await member.refusal({}, spec=DIRECT, query=query)
            assert (event.message, event.fields["status_code"]) == ("Invalid build token\n", 403)
        event = await member.refusal({"Last-Event-ID": event_id(launch_id(os.urandom(16)), 3)}, spec=DIRECT)
        assert "start again" in event.message
        assert member.engines.launches.seen == ()
        host = URL(member.url).authority
        token = make_build_token(member.secret, DIRECT, host, time.time())
        items = await member.events({}, spec=DIRECT, query=f"?build_token={token}")
        assert items[-1][1].phase == Phase.READY


async def test_a_gateways_token_is_enough_where_build_tokens_are_required(tmp_path: Path) -> None:
    async with member_of(tmp_path, require_build_token=True) as member:
        assert (await member.events(member.bearer(member.claims())))[-1][1].phase == Phase.READY


async def test_another_host_is_misdirected(tmp_path: Path) -> None:
    async with member_of(tmp_path, allowed_hosts=["127.0.0.1"]) as member:
        bad = {"Host": "evil.example"}
        for path in ("health", "api/v1/capacity", f"build/{SPEC}", "metrics", ""):
            async with member.http.get(member.url + path, headers=bad) as response:
                assert response.status == 421, path
        for path in ("livez", "readyz"):
            async with member.http.get(member.url + path, headers=bad) as response:
                assert response.status == 200, path
        async with member.http.get(f"{member.url}health") as response:
            assert response.status == 200


async def test_health_follows_the_hub(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("member.engines.health.FRESH_S", 0)
    body = await member.json("health")
    assert body["ok"] is True
    assert {check["service"] for check in body["checks"]} == {"JupyterHub API", "Builder"}
    assert all(check["ok"] for check in body["checks"])
    member.engines.hub.errors["version"] = [500, 500]
    body = await member.json("health", status=503)
    assert body["ok"] is False
    assert (await member.json("readyz", status=503)) == {"ok": False}
    assert (await member.json("readyz")) == {"ok": True}
    async with member.http.head(f"{member.url}health") as response:
        assert response.status == 200
    assert (await member.json("livez")) == {"ok": True}


async def test_versions_are_binderhubs_form(member: Member) -> None:
    body = await member.json("versions")
    assert set(body) >= {"builder_info", "binderhub", "builder"}


async def test_capacity_names_no_repository(member: Member) -> None:
    member.engines.hub.server("busy", repo_url="https://git.example/hidden/project")
    member.engines.hub.server("starting", repo_url="https://git.example/hidden/project", ready=False)
    await member.events(member.bearer(member.claims(spec="gh/hidden/project/main")))
    async with member.http.get(f"{member.url}api/v1/capacity") as response:
        text = await response.text()
        body = await response.json()
    assert "hidden" not in text
    assert "repo" not in text
    assert body["sessions"] == {"running": 2, "pending": 1, "limit": 10, "free": body["sessions"]["free"]}
    assert 0 <= body["sessions"]["free"] <= 7
    assert body["builds"] == {"running": 0, "queued": 0, "limit": 1}
    assert body["confined"] is True
    assert body["disk_bytes"]["limit"] > 0


async def test_without_the_hub_there_is_no_free_session(member: Member) -> None:
    member.engines.hub.errors["users"] = [503]
    body = await member.json("api/v1/capacity")
    assert body["sessions"] == {"running": 0, "pending": 0, "limit": 10, "free": 0}


async def test_a_hub_that_hangs_does_not_hold_a_report_up(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_module, "DEADLINE_S", 0.1)
    member.engines.hub.hang.add("users")
    async with asyncio.timeout(25):  # less than the Hub is waited for
        report = await member.app[PARTS].capacity.report()
    assert report.sessions.free == 0
    assert [check.message for check in report.checks if not check.ok] == ["the Hub takes too long to list them"]


async def test_who_asks_for_capacity_often_does_not_make_the_hub_work_as_often(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity_module, "FRESH_S", 600)
    member.engines.hub.server("busy")
    first = await member.json("api/v1/capacity")
    # A Hub that were asked again would answer otherwise.
    member.engines.hub.server("busier")
    assert [await member.json("api/v1/capacity") for _ in range(5)] == [first] * 5
    report = await member.app[PARTS].capacity.report()
    assert report.sessions.running == 2
    assert (await member.json("api/v1/capacity"))["sessions"]["running"] == 2


async def test_metrics_name_no_repository_and_count(member: Member) -> None:
    await member.events(member.bearer(member.claims(spec="gh/hidden/project/main")))
    async with member.http.get(f"{member.url}metrics") as response:
        assert response.content_type == "text/plain"
        text = await response.text()
    assert 'binderhub_launch_count_total{provider="gh",status="ready"} 1.0' in text
    assert 'binderhub_build_count_total{provider="gh",status="success"} 1.0' in text
    assert 'binderhub_launch_time_seconds_count{retries="0",status="success"} 1.0' in text
    for phase in ("build_queue", "fetching", "building", "launch_queue", "starting"):
        assert f'manybinder_member_phase_seconds_count{{phase="{phase}"}} 1.0' in text, phase
    assert "binderhub_inprogress_builds 0.0" in text
    assert "hidden" not in text


async def test_what_is_served_is_what_is_described(member: Member) -> None:
    description = await member.json("openapi.json")
    assert description["info"]["version"] == "1.2.3"
    described = {
        (method.upper(), path)
        for path, methods in description["paths"].items()
        for method in methods
        if method != "parameters"
    }
    pages = ("/v2", "/repo/", "/static", "/badge", "/assets", "/logo", "/favicon", "/about", "/launch")
    served = {
        (route.method, (route.resource.canonical if route.resource else "").replace(":.+", ""))
        for route in member.app.router.routes()
        if route.method != "HEAD"
    }
    assert described == {(method, path) for method, path in served if path != "/" and not path.startswith(pages)}


async def test_a_fault_of_ours_is_a_stream_that_says_so(member: Member, caplog: pytest.LogCaptureFixture) -> None:
    claims = member.claims()
    member.engines.builder.failures[build_request("repo").image] = ZeroDivisionError("inner workings")
    last = (await member.events(member.bearer(claims)))[-1][1]
    assert last.failure == Failure.MEMBER
    assert "inner workings" not in last.message
    assert claims.launch_id not in caplog.text


def federation(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    key = tmp_path / "gateway.pub.pem"
    key.write_text(public_pem(Ed25519PrivateKey.generate().public_key()))
    tree: dict[str, Any] = {
        "report_url": "http://127.0.0.1:9/api/v1/reports",
        "launch_keys_files": [str(key)],
        "report_key": private_pem(Ed25519PrivateKey.generate()),
        "require_launch_token": True,
    }
    return {"federation": {**tree, **changes}}


async def test_the_whole_application_starts_without_its_hub_and_says_so(tmp_path: Path) -> None:
    app = await make_app(member_settings(tmp_path / "data", **federation(tmp_path)))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}health") as response:
                assert response.status == 503
                checks = {check["service"]: check["ok"] for check in (await response.json())["checks"]}
                assert checks == {"JupyterHub API": False, "Builder": True}
            async with http.get(f"{url}versions") as response:
                assert response.headers["Access-Control-Allow-Origin"] == "*"
                body = await response.json()
                assert body["builder"] == "process"
                assert body["builder_info"]["repo2docker-version"]
            async with http.get(f"{url}build/{SPEC}", headers={"Accept": sse.CONTENT_TYPE}) as response:
                event = parse_event((await response.text()).partition("data: ")[2])
                assert event.failure == Failure.REFUSED
    finally:
        await runner.cleanup()


async def test_how_far_clocks_may_differ_in_federations_that_were_joined_is_a_setting(tmp_path: Path) -> None:
    url, key = "https://north.example/", Ed25519PrivateKey.generate()
    data_dir = tmp_path / "data"
    joined.keep(data_dir, joined.Joined("north-1", url, f"{url}api/v1/reports", (key.public_key(),), 0.0, key))
    app = await make_app(member_settings(data_dir, joined={"clock_leeway": "30s", "report_interval": "1s"}))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        (membership,) = app[PARTS].federations.memberships
        assert (membership.leeway, membership.interval) == (30, 1)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"launch_keys_files": ["/nowhere/key.pem"]}, r"federation\.launch_keys_files\[0\]: cannot read /nowhere/key"),
        ({"report_key": "no key"}, r"federation\.report_key: not a readable PEM private key"),
    ],
    ids=["no-file", "no-key"],
)
async def test_keys_that_cannot_be_used_are_told_with_their_setting(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(CannotStartError, match=said):
        await make_app(member_settings(tmp_path / "data", **federation(tmp_path, **change)))


async def test_a_hub_that_is_not_managed_needs_a_token(tmp_path: Path) -> None:
    hub = {"url": "http://127.0.0.1:9/", "public_url": "http://127.0.0.1:9/"}
    with pytest.raises(CannotStartError, match=r"hub\.api_token: is missing"):
        await make_app(member_settings(tmp_path, hub=hub))


async def test_sessions_that_are_not_confined_are_for_this_machine_alone(tmp_path: Path) -> None:
    settings = member_settings(tmp_path, listen={"host": "0.0.0.0", "port": 9001}, builder={"confine": "off"})  # noqa: S104
    before = asyncio.all_tasks()
    with pytest.raises(CannotStartError, match=r"listen\.host: 0\.0\.0\.0 can be reached from elsewhere"):
        await make_app(settings)
    assert asyncio.all_tasks() == before


EXAMPLE = Path(__file__).parents[2] / "config" / "member.yaml"


def example(tmp_path: Path, text: str) -> MemberSettings:
    """The example, its files in a directory where they exist."""
    for name in set(re.findall(r"/etc/manybinder/([\w.-]+)", text)):
        key = Ed25519PrivateKey.generate()
        (tmp_path / name).write_text(public_pem(key.public_key()) if ".pub." in name else private_pem(key))
    path = tmp_path / "member.yaml"
    path.write_text(text.replace("/etc/manybinder", str(tmp_path)))
    return load(MemberSettings, path, environ={})


def test_the_example_of_settings_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    plain = example(tmp_path, text)
    assert (plain.name, plain.sessions.limit) == ("member-1", 20)
    assert plain.federation is not None
    assert plain.federation.require_launch_token
    assert plain.hub.managed is not None
    shown = re.sub(r"^(\s*)# ([a-z_]+: [^#\n]*)", r"\1\2", text, flags=re.MULTILINE)
    shown = re.sub(r"^.*access_token_file.*$", "", shown, flags=re.MULTILINE)
    uncommented = example(tmp_path, shown)
    for section in MemberSettings.model_fields.keys() - {"name", "public_url", "data_dir", "security", "federation"}:
        assert getattr(plain, section) == getattr(uncommented, section), section
    assert uncommented.federation is not None
    assert uncommented.federation.report_interval == plain.federation.report_interval
    # Each setting that has a default is shown.
    for section in (
        ProcessBuilderSettings,
        BuildsSettings,
        SessionSettings,
        LaunchSettings,
        HookSettings,
        RateLimitSettings,
    ):
        for name in section.model_fields.keys() - {"cache_dir", "hook"}:
            assert f"{name}: " in text, name
