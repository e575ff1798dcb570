"""What the gateway answers besides launches."""

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families

from contract.reports import Sessions
from contract.signatures import sign_report
from tests.fakes.member import FakeMember
from tests.gateway.harness import SPEC, Gateway, Starter, until
from tests.openapi import described, served


async def post_report(gateway: Gateway, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/jwt"}
    async with gateway.http.post(f"{gateway.url}api/v1/reports", data=token, headers=headers) as response:
        if response.status == 204:
            return 204, {}
        assert response.content_type == "application/problem+json"
        return response.status, await response.json()


async def member_of(gateway: Gateway, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        item for item in (await gateway.json("api/v1/federation"))["members"] if item["name"] == name
    )
    return found


async def metric(gateway: Gateway, name: str) -> dict[tuple[str, ...], float]:
    """A metric's samples by their labels' values, the member's name first."""
    async with gateway.http.get(f"{gateway.url}metrics") as response:
        text = await response.text()
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels, key="member".__ne__)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


async def test_a_signed_report_is_believed(start: Starter) -> None:
    gateway = await start.gateway()
    member = gateway.members[0]
    before = await member_of(gateway, member.name)
    assert (before["capacity_state"], before["capacity"], before["state"]) == ("unknown", None, "available")
    token = member.signed(member.report(time.time(), labels={"region": "eu"}, builder="process"))
    move = gateway.stop_clock()
    assert await post_report(gateway, token) == (204, {})
    move(2)
    told = await member_of(gateway, member.name)
    assert told["capacity_state"] == "free"
    assert told["capacity"]["sessions"] == {"running": 1, "pending": 0, "limit": 10, "free": 9}
    assert told["capacity_age_s"] == 2
    assert told["labels"] == {"region": "eu"}
    assert told["versions"]["builder_info.repo2docker-version"] == "2026.4"
    full = member.report(time.time(), sessions=Sessions(running=10, limit=10, free=0))
    assert (await post_report(gateway, member.signed(full)))[0] == 204
    told = await member_of(gateway, member.name)
    assert (told["state"], told["available"], told["reasons"]) == ("full", True, ["All its sessions are taken."])
    assert (await metric(gateway, "federation_health"))[member.name, "full"] == 1
    assert (await metric(gateway, "manybinder_member_sessions_free"))[(member.name,)] == 0


async def test_reports_that_cannot_be_believed_are_refused(start: Starter) -> None:
    gateway = await start.gateway()
    member, other = gateway.members
    now = time.time()
    good = member.signed(member.report(now))
    assert (await post_report(gateway, good))[0] == 204
    forged = sign_report(member.report(now).to_wire(), Ed25519PrivateKey.generate())
    stranger = FakeMember("stranger")
    in_another_name = sign_report({**other.report(now).to_wire(), "member": "member-1"}, other.key)

    def spoil(**changes: Any) -> str:
        return member.signed(member.report(now), lambda wire: wire.update(changes))

    for token, status, said in (
        (good, 409, "seen before"),
        (forged, 401, "signature"),
        (in_another_name, 401, "signature"),
        (stranger.signed(stranger.report(now)), 401, "No member of this name"),
        ("not a token", 401, "not a readable report"),
        ("", 401, "not a readable report"),
        (member.signed(member.report(now + 100)), 409, "from the future"),
        (member.signed(member.report(now - 100)), 409, "too old"),
        (spoil(sessions={"running": -1}), 422, "sessions.running"),
        (spoil(sessions={"limit": 1, "free": 2}), 422, "sessions.free"),
        (spoil(cpu={"used": float("nan")}), 422, "cpu.used"),
        (spoil(seq="many"), 422, "seq"),
        (spoil(sent_at=float("inf")), 422, "sent_at"),
    ):
        found, problem = await post_report(gateway, token)
        assert found == status, problem
        assert said.lower() in problem["detail"].lower()
    assert (await member_of(gateway, member.name))["capacity"]["sessions"]["free"] == 9
    counts = await metric(gateway, "manybinder_gateway_reports_total")
    assert counts[member.name, "accepted"] == 1
    assert counts[member.name, "Not Believed"] == 5


async def test_a_killed_member_is_noticed_and_returns_by_itself(start: Starter) -> None:
    gateway = await start.gateway(probes={"interval": "1s"})
    member = gateway.members[0]
    await member.stop()
    begun = time.monotonic()
    await gateway.until_state(member.name, "unreachable")
    # Five seconds are promised (see test_gateway_prober); three times that is what a busy machine may take.
    assert time.monotonic() - begun < 15
    told = await member_of(gateway, member.name)
    assert told["reasons"] == ["It could not be reached: connection refused."]
    assert time.time() - told["since"] < 15
    assert (await gateway.json("health"))["ok"]
    assert list((await gateway.json("active_hosts"))["active_hosts"]) == ["member-2"]
    assert (await metric(gateway, "federation_health"))[member.name, "unreachable"] == 0
    await member.start()
    await gateway.until_state(member.name, "available")
    assert (await metric(gateway, "federation_health")) == {("member-1", "available"): 1, ("member-2", "available"): 1}


async def test_a_member_that_hangs_or_is_broken_leaves_rotation(start: Starter) -> None:
    gateway = await start.gateway(probes={"timeout": "2s"})
    first, second = gateway.members
    first.knobs.health_hang = True
    second.knobs.health_status = 503
    second.knobs.health_checks = [{"service": "JupyterHub API", "ok": False}]
    await gateway.until_state(first.name, "unreachable")
    await gateway.until_state(second.name, "failing")
    assert (await member_of(gateway, first.name))["reasons"] == ["It did not answer within 2 s."]
    assert (await member_of(gateway, second.name))["reasons"] == ["It says that it is not healthy: JupyterHub API."]
    async with gateway.http.get(f"{gateway.url}health") as response:
        body = await response.json()
        assert response.status == 503
    assert body["ok"] is False
    assert body["checks"][0] == {"service": "Members", "ok": False, "available": 0, "total": 2}
    async with gateway.http.head(f"{gateway.url}health") as response:
        assert response.status == 503
    checks = await metric(gateway, "federation_health_check")
    assert checks[first.name, "reachable"] == 0
    assert (checks[second.name, "reachable"], checks[second.name, "passing"]) == (1, 0)
    first.knobs.health_hang, second.knobs.health_status = False, 200
    await gateway.until_state(first.name, "available")
    await gateway.until_state(second.name, "available")


async def test_metrics_count_launches(start: Starter) -> None:
    gateway = await start.gateway()
    first, second = gateway.first_choice()
    first.knobs.build_status = 500
    await gateway.launch()
    assert await metric(gateway, "federation_redirect_count_total") == {
        (first.name, "cold"): 1,
        (second.name, "cold"): 1,
    }
    assert await metric(gateway, "manybinder_gateway_faults_total") == {(first.name, "status"): 1}
    assert await metric(gateway, "manybinder_gateway_launches_total") == {(second.name, "ready"): 1}
    await until(lambda: gateway.parts.launches.streams == 0)
    assert await metric(gateway, "manybinder_gateway_event_streams") == {(): 0}
    assert await metric(gateway, "manybinder_gateway_launches_running") == {(): 0}


async def test_explain_says_what_a_launch_then_does(start: Starter) -> None:
    gateway = await start.gateway()
    answer = await gateway.json("api/v1/explain?repo=https://git.example/org/repo")
    assert answer["repo"] == "git.example/org/repo"
    assert answer["sentence"].startswith(f"{answer['member']} takes git.example/org/repo")
    assert answer["candidates"][0]["member"] == answer["member"]
    assert (await gateway.launch())[-1].fields["member"] == answer["member"]
    assert (await gateway.json("api/v1/explain?repo=gh/org/repo/HEAD"))["repo"] == "github.com/org/repo"
    assert (await gateway.json("api/v1/explain?repo=org/repo"))["repo"] == "github.com/org/repo"
    for text, repo in (
        ("ckan/ckan", "github.com/ckan/ckan"),
        ("10.5281/zenodo.1", "doi.org/10.5281/zenodo.1"),
        (f"hydroshare/{'8f' * 16}", f"www.hydroshare.org/resource/{'8f' * 16}"),
        (f"swh/swh:1:dir:{'d' * 40}", f"archive.softwareheritage.org/browse/directory/{'d' * 40}"),
        ("gl/group%252Fproject/HEAD", "gitlab.com/group/project"),
    ):
        assert (await gateway.json(f"api/v1/explain?repo={text}"))["repo"] == repo
    for query in ("", "?repo=", "?repo=nonsense", "?repo=git/x/y", "?repo=file:///etc"):
        async with gateway.http.get(f"{gateway.url}api/v1/explain{query}") as response:
            assert response.status == 400
            assert response.content_type == "application/problem+json"


async def test_the_status_page_shows_what_routing_believes(start: Starter) -> None:
    gateway = await start.gateway()
    first, second = gateway.members
    await second.stop()
    await gateway.until_state(second.name, "unreachable")
    move = gateway.stop_clock()
    await post_report(gateway, first.signed(first.report(time.time())))
    move(7)
    async with gateway.http.get(f"{gateway.url}status") as response:
        assert response.status == 200
        page = await response.text()
    cards = {name: page.split(f'id="member-{name}"')[1].split("</article>")[0] for name in ("member-1", "member-2")}
    assert 'good">available<' in cards["member-1"]
    assert "9 of 10 free, 1 running" in cards["member-1"]
    assert "7 s ago" in cards["member-1"]
    assert 'bad">unreachable<' in cards["member-2"]
    assert "It could not be reached: connection refused." in cards["member-2"]
    assert "Members taking launches: 1 of 2" in page
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in page


async def test_liveness_readiness_and_versions(start: Starter) -> None:
    dead = FakeMember("member-9", port=1)
    gateway = await start.gateway_of([dead])
    assert await gateway.json("livez") == {"ok": True}
    await gateway.until_state("member-9", "unreachable")
    async with gateway.http.get(f"{gateway.url}readyz") as response:
        assert response.status == 200
    async with gateway.http.get(f"{gateway.url}versions") as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        answer = await response.json()
    assert answer["binderhub"].startswith("manybinder ")
    assert "builder_info" in answer


async def test_the_description_of_the_api_names_every_route_of_it(start: Starter) -> None:
    gateway = await start.gateway(0)
    calls = served(gateway.runner.app, "/plain", "/admin") - {("GET", "/status")}
    assert described(await gateway.json("openapi.json")) == calls


async def test_every_schema_that_is_named_exists_and_answers_have_their_fields(start: Starter) -> None:
    gateway = await start.gateway(1)
    schemas = (await gateway.json("openapi.json"))["components"]["schemas"]
    federation = await gateway.json("api/v1/federation")
    assert set(federation) == set(schemas["Federation"]["properties"])
    assert set(federation["members"][0]) == set(schemas["Member"]["properties"])
    decision = await gateway.json("api/v1/explain?repo=org/repo")
    assert set(decision) == set(schemas["Decision"]["properties"])
    assert set(decision["candidates"][0]) == set(schemas["Decision"]["properties"]["candidates"]["items"]["properties"])
    items = [item async for item in gateway.events()]
    for _, event in items:
        assert set(event.fields) <= set(schemas["BuildEvent"]["properties"])
    launch = await gateway.json(f"api/v1/launches/{items[0][0]}")
    assert set(launch) == set(schemas["Launch"]["properties"])


@pytest.mark.parametrize("allowed", ["https://pages.example", "*"])
async def test_a_page_of_another_origin_may_call_where_that_is_allowed(start: Starter, allowed: str) -> None:
    gateway = await start.gateway(1, security={"cors_allow_origin": allowed})
    headers = {"Origin": "https://pages.example", "Accept": "text/event-stream"}
    async with gateway.http.get(f"{gateway.url}build/{SPEC}", headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == allowed
        # Whoever is known by a cookie is nobody there.
        assert "Access-Control-Allow-Credentials" not in response.headers
        await response.read()
    preflight = {"Origin": "https://pages.example", "Access-Control-Request-Method": "GET"}
    async with gateway.http.options(f"{gateway.url}build/{SPEC}", headers=preflight) as response:
        assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, allowed)
        assert "Last-Event-ID" in response.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_a_build_token_is_wanted_where_the_operator_says_so(start: Starter) -> None:
    gateway = await start.gateway(1, security={"require_build_token": True, "allowed_hosts": ["127.0.0.1"]})
    (refused,) = await gateway.launch()
    assert refused.fields["status_code"] == 403
    async with gateway.http.get(f"{gateway.url}health", headers={"Host": "evil.example"}) as response:
        assert response.status == 421
    assert not gateway.members[0].builds


@pytest.mark.parametrize("path", ["nowhere", "api/v1/nowhere", "api/v1/admin"])
async def test_an_unknown_address_is_told_as_a_problem(start: Starter, path: str) -> None:
    gateway = await start.gateway(0)
    async with gateway.http.get(gateway.url + path) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"


async def test_the_notebooks_token_and_whole_launch_ids_are_in_no_log(
    start: Starter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    gateway = await start.gateway()
    first, _ = gateway.first_choice()
    first.knobs.build_status = 500
    items = [item async for item in gateway.events()]
    launch_id = items[0][0].partition(".")[0]
    assert launch_id not in caplog.text
    assert "notebook-token" not in caplog.text
    assert "takes git.example/org/repo" in caplog.text
