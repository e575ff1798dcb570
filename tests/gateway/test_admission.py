"""Who may launch: one set of rules over all replicas and members, changed while they run."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.addresses import client_address, counted_as, networks, parse_address
from contract.bans import make_ban
from contract.events import Phase
from contract.reports import Sessions
from contract.signatures import verify_bans
from gateway.core.admission import AdmissionSettings, BanSettings, QuotaSettings, admission_problems
from gateway.core.launch import Launch
from tests.gateway.harness import SPEC, Gateway, Starter, gateway_settings, spec_of, until

TOKEN = "an-operators-token-for-tests"
ADMIN = {"admin": {"tokens": [{"name": "alice", "token": TOKEN}]}}
PROXIED = {"listen": {"trusted_proxies": ["127.0.0.0/8"]}}


async def ask(gateway: Gateway, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
    """Status and body of an answer of the API for operators."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{gateway.url}api/v1/admin/{path}"
    async with gateway.http.request(method, url, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None) if response.status != 204 else None


async def final(gateway: Gateway, spec: str = SPEC, client: str = "") -> Any:
    """The last event of a launch; ``client`` is the address that a proxy in front tells."""
    return (await gateway.launch(spec, {"X-Forwarded-For": client} if client else None))[-1]


async def test_a_thousand_requests_of_one_client_at_three_replicas_are_limited_as_one(start: Starter) -> None:
    replicas = await start.replicas(
        3, await start.redis(), members=1, admission={"rate_limit": {"launches": 20, "per": "1h"}}, **PROXIED
    )
    at_once = asyncio.Semaphore(100)

    async def ask_for_one(n: int) -> str:
        async with at_once:
            # One visitor has all addresses of an IPv6 network.
            last = await final(replicas[n % 3], client=f"2001:db8:1:2:{n:x}::1")
        return str(last.fields.get("status_code") or last.phase)

    outcomes = Counter(await asyncio.gather(*map(ask_for_one, range(1000))))
    assert outcomes == {"ready": 20, "429": 980}
    assert len(replicas[0].members[0].launches) == 20
    # The next network is another client.
    assert (await final(replicas[0], client="2001:db8:1:3::1")).phase == Phase.READY
    assert (await final(replicas[1], client="192.0.2.1")).phase == Phase.READY


async def test_a_client_hears_how_many_launches_are_left_and_when_to_come_back(start: Starter) -> None:
    gateway = await start.gateway(1, admission={"rate_limit": {"launches": 2, "per": "1h"}}, **PROXIED)
    url = f"{gateway.url}build/{SPEC}"
    for left in ("1", "0"):
        headers = {"Accept": "text/event-stream", "X-Forwarded-For": "203.0.113.9"}
        async with gateway.http.get(url, headers=headers) as response:
            assert response.headers["X-RateLimit-Limit"] == "2"
            assert response.headers["X-RateLimit-Remaining"] == left
            assert int(response.headers["X-RateLimit-Reset"]) > time.time()
            await response.read()
    refused = await final(gateway, client="203.0.113.9")
    assert refused.message.startswith("Rate limit exceeded. Try again in ")
    assert (refused.fields["status_code"], refused.phase) == (429, Phase.FAILED)
    assert 0 < refused.fields["retry_after_s"] <= 1801
    assert (await final(gateway, client="203.0.113.10")).phase == Phase.READY
    # What a visitor invents before the proxy adds the address that it sees is not believed.
    assert (await final(gateway, client="198.51.100.1, 203.0.113.9")).phase == Phase.FAILED
    # Who comes back to a launch is not counted.
    launch_id = gateway.members[0].launches[0]
    async with gateway.http.get(
        url,
        headers={"Accept": "text/event-stream", "Last-Event-ID": f"{launch_id}.0", "X-Forwarded-For": "203.0.113.9"},
    ) as response:
        assert "ready" in await response.text()


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.1", ["198.51.100.1"], "203.0.113.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["not an address"], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["198.51.100.1:80"], "198.51.100.1"),
        ("fe80::1%eth0", ["1.2.3.4"], "fe80::1"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_a_visitors_address_is_the_last_one_that_is_not_a_proxys(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert client_address(peer, forwarded, networks(["10.0.0.0/8"])) == expected


@given(st.ip_addresses(), st.lists(st.text(max_size=40), max_size=30), st.text(max_size=40))
def test_nobody_but_a_trusted_proxy_decides_whose_address_it_is(peer: Any, forwarded: list[str], junk: str) -> None:
    known = parse_address(str(peer))
    assert client_address(str(peer), forwarded, ()) == str(known)
    assert client_address(junk, forwarded, networks(["0.0.0.0/0", "::/0"])) is not None
    assert counted_as(str(peer), 32, 64)


async def test_a_ban_is_in_force_everywhere_within_two_seconds(start: Starter) -> None:
    replicas = await start.replicas(3, await start.redis(), members=2, **ADMIN, **PROXIED)
    one, two, three = replicas
    member = one.members[0]
    for kind, value, spec, client, message in (
        ("network", "203.0.113.0/24", SPEC, "203.0.113.77", "Requests from 203.0.113.0/24 are not allowed\n"),
        ("owner", "https://git.example/org2", SPEC.replace("org%2Frepo", "org2%2Frepo"), "", "Sorry, "),
        ("spec", "git/.*%2Fsecret/", spec_of("secret"), "", "Sorry, "),
    ):
        assert (await final(three, spec, client)).phase == Phase.READY
        status, told = await ask(one, "PUT", "bans", {"kind": kind, "value": value, "reason": "coins"})
        assert status == 200, told
        await until(lambda name=told["name"]: all(name in _names(gateway) for gateway in replicas), 2)
        for gateway in replicas:
            refused = await final(gateway, spec, client)
            assert refused.message.startswith(message)
            assert refused.fields["status_code"] == 403
            assert "coins" not in refused.to_json()
        # Everybody else launches on.
        assert (await final(two, spec_of("other"), "198.51.100.1")).phase == Phase.READY
    await until(lambda: member.bans and len(_heard(one, member)) == 3)
    status, _ = await ask(two, "DELETE", "bans?name=network:203.0.113.0/24")
    assert status == 204
    await until(lambda: not any("network" in name for gateway in replicas for name in _names(gateway)), 2)
    assert (await final(three, SPEC, "203.0.113.77")).phase == Phase.READY
    await until(lambda: len(_heard(one, member)) == 2)
    status, audit = await ask(three, "GET", "log?kind=act")
    assert status == 200
    assert [(act["who"], act["what"], act["value"] is None) for act in audit["entries"]] == [
        ("alice", "ban", True),
        *[("alice", "ban", False)] * 3,
    ]


def _names(gateway: Gateway) -> set[str]:
    return {ban.name for ban in gateway.parts.admission.rules.bans}


def _heard(gateway: Gateway, member: Any) -> tuple[Any, ...]:
    heard = verify_bans(member.bans[-1], [gateway.key.public_key()], member=member.name, now=time.time())
    return heard.bans


async def test_a_ban_ends_the_launches_under_way_at_every_replica(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, **ADMIN, **PROXIED)
    member = one.members[0]
    member.knobs.gate_at = 2
    doomed = asyncio.create_task(final(two, spec_of("miner"), "203.0.113.5"))
    spared = asyncio.create_task(final(two, SPEC, "203.0.113.5"))
    await until(lambda: len(member.launches) == 2)
    await ask(one, "PUT", "bans", {"kind": "owner", "value": "git.example/org/miner"})
    ended = await doomed
    assert (ended.phase, ended.fields["status_code"]) == (Phase.FAILED, 403)
    assert "is not allowed to launch" in ended.message
    await until(lambda: len(member.cancelled) == 1)
    member.gate.set()
    assert (await spared).phase == Phase.READY


async def test_what_a_member_bans_for_itself_goes_to_another_one_and_costs_it_nothing(start: Starter) -> None:
    gateway = await start.gateway(2)
    first, second = gateway.first_choice()
    message = "Sorry, this is not allowed to launch. Please contact admins for more info!\n"
    first.knobs.first = {"phase": "failed", "message": message, "failure": "refused", "status_code": 403}
    for _ in range(6):
        events = await gateway.launch()
        assert (events[-1].phase, events[-1].fields["member"]) == (Phase.READY, second.name)
    assert len(first.builds) == 6
    view = gateway.parts.fleet.snapshot.get(first.name)
    assert view is not None
    assert (view.state, view.outcomes.ejection) == ("available", None)
    assert gateway.parts.launches.tallies.failovers == {(first.name, "refused"): 6}
    # Where all ban it, the visitor hears why.
    second.knobs.first = first.knobs.first
    last = (await gateway.launch())[-1]
    assert (last.phase, last.fields["failure"]) == (Phase.FAILED, "refused")
    assert "not allowed to launch" in last.message


async def test_a_ban_with_an_end_ends(start: Starter) -> None:
    gateway = await start.gateway(1, **ADMIN, **PROXIED)
    status, told = await ask(gateway, "PUT", "bans", {"kind": "network", "value": "203.0.113.5", "for": "2s"})
    assert status == 200, told
    assert told["value"] == "203.0.113.5/32"
    assert (await final(gateway, client="203.0.113.5")).phase == Phase.FAILED
    async with asyncio.timeout(60):
        while (await final(gateway, client="203.0.113.5")).phase != Phase.READY:
            await asyncio.sleep(0.1)
    _, shown = await ask(gateway, "GET", "bans")
    assert shown["bans"] == []


async def test_what_is_banned_by_the_configuration_stays_so_when_a_ban_of_an_hour_ends(start: Starter) -> None:
    configured = {"bans": [{"kind": "network", "value": "203.0.113.5"}]}
    gateway = await start.gateway(1, **ADMIN, **PROXIED, admission=configured)
    status, _ = await ask(gateway, "PUT", "bans", {"kind": "network", "value": "203.0.113.5", "for": "1s"})
    assert status == 200
    await asyncio.sleep(1.5)
    assert (await final(gateway, client="203.0.113.5")).fields["status_code"] == 403


async def test_a_replica_that_knows_less_takes_no_ban_back_from_members(start: Starter) -> None:
    gateway = await start.gateway(1, **ADMIN)
    member = gateway.members[0]
    await ask(gateway, "PUT", "bans", {"kind": "owner", "value": "github.com/miner"})
    await until(lambda: member.bans and len(_heard(gateway, member)) == 1)
    told = gateway.parts.admission.rules.bans_at
    assert told > 0
    # Another one starts, with an empty disk and no store: what it tells is older than what the member has.
    settings = gateway_settings(start.data_dir / "fresh", gateway.key, gateway.members)
    count = len(member.bans)
    fresh = await start.gateway_with(settings, gateway.key)
    await until(lambda: len(member.bans) > count)
    assert fresh.parts.admission.rules.bans_at == 0
    assert verify_bans(member.bans[-1], [gateway.key.public_key()], member=member.name, now=time.time()).issued_at == 0


async def test_a_ban_by_a_replica_whose_clock_is_ahead_is_believed_by_members(start: Starter) -> None:
    gateway = await start.gateway(1, **ADMIN)
    member = gateway.members[0]
    records: Any = gateway.parts.records
    records._wall = lambda: time.time() + 3600
    status, _ = await ask(gateway, "PUT", "bans", {"kind": "owner", "value": "github.com/miner"})
    assert status == 200
    await until(lambda: member.bans and len(_heard(gateway, member)) == 1)


async def test_a_launch_that_has_begun_holds_its_place_whatever_the_quota_is(start: Starter) -> None:
    gateway = await start.gateway(1, admission={"quotas": {"per_repo": 1}})
    quotas = gateway.parts.launches._means.quotas
    one, two, three = (Launch(f"{n:032x}", gateway.parts.providers.parse(SPEC), 0.0) for n in range(3))
    assert await quotas.claim(one) is None
    # As when the store was emptied, and another replica goes on with what had its place there.
    await quotas.keep(two)
    await quotas.ended(one, ready=False)
    assert "Too many users running" in (await quotas.claim(three) or "")
    await quotas.ended(two, ready=False)
    assert await quotas.claim(three) is None


async def test_a_quota_of_ten_lets_exactly_ten_through(start: Starter) -> None:
    replicas = await start.replicas(
        3, await start.redis(), members=3, admission={"quotas": {"per_repo": 10, "repos": {"git.example/org/big": 12}}}
    )
    member_gates = replicas[0].members
    for member in member_gates:
        member.knobs.gate_at = 3
    launches = [asyncio.create_task(final(replicas[n % 3])) for n in range(30)]
    other = [asyncio.create_task(final(replicas[n % 3], spec_of("big"))) for n in range(20)]
    await until(lambda: sum(task.done() for task in launches) == 20)
    await until(lambda: sum(task.done() for task in other) == 8)
    for task in (*launches, *other):
        if task.done():
            refused = task.result()
            assert refused.message == "Too many users running {}! Try again soon.\n".format(
                "https://git.example/org/big" if task in other else "https://git.example/org/repo"
            )
            assert refused.fields["retry_after_s"] > 0
    for member in member_gates:
        member.gate.set()
    ended = [(await task).phase for task in launches]
    assert ended.count(Phase.READY) == 10
    assert [(await task).phase for task in other].count(Phase.READY) == 12
    # Now they are sessions: members report them, and an eleventh finds no place; one that ends makes room.
    repo = "git.example/org/repo"
    await _reported(replicas[0], {repo: 10})
    assert (await final(replicas[1])).phase == Phase.FAILED
    await _reported(replicas[0], {repo: 9})
    await until(lambda: _counted(replicas[2], repo) == 9)
    assert (await final(replicas[2])).phase == Phase.READY
    assert (await final(replicas[1])).phase == Phase.FAILED


def _counted(gateway: Gateway, repo: str) -> int:
    views = gateway.parts.fleet.snapshot.members
    return sum(dict(view.received.report.sessions_by_repo).get(repo, 0) for view in views if view.received)


async def _reported(gateway: Gateway, by_repo: dict[str, int]) -> None:
    """All members report; the first one has the sessions."""
    for n, member in enumerate(gateway.members):
        mine = by_repo if n == 0 else {}
        sessions = Sessions(running=sum(mine.values()), limit=100, free=100 - sum(mine.values()))
        seen = tuple(launch for each in gateway.members for launch in each.launches)
        report = member.report(
            time.time(), sessions=sessions, sessions_by_repo=mine, launches_seen=seen if n == 0 else ()
        )
        async with gateway.http.post(f"{gateway.url}api/v1/reports", data=member.signed(report)) as response:
            assert response.status == 204, await response.text()


async def test_quotas_are_set_while_the_gateway_runs(start: Starter) -> None:
    gateway = await start.gateway(1, **ADMIN)
    gateway.members[0].knobs.gate_at = 1
    for name, limit in (("total", 1), ("https://github.com/Org", 5)):
        status, told = await ask(gateway, "PUT", "quotas", {"name": name, "limit": limit})
        assert status == 200, told
    _, shown = await ask(gateway, "GET", "quotas")
    assert shown == {"total": 1, "per_repo": None, "per_repo_higher": None, "repos": {"github.com/org": 5}}
    first = asyncio.create_task(final(gateway))
    await until(lambda: gateway.members[0].launches)
    refused = await final(gateway, spec_of("another"))
    assert refused.message == "Too many users on this BinderHub! Try again soon.\n"
    # A launch that comes to nothing gives its place back.
    async with gateway.http.delete(f"{gateway.url}api/v1/launches/{gateway.members[0].launches[0]}"):
        pass
    assert (await first).phase == Phase.FAILED
    gateway.members[0].gate.set()
    assert (await final(gateway, spec_of("another"))).phase == Phase.READY
    assert (await final(gateway)).phase == Phase.FAILED
    # A repository without a limit, whatever its owner's is.
    await ask(gateway, "PUT", "quotas", {"name": "git.example/org", "limit": 0})
    await ask(gateway, "PUT", "quotas", {"name": "total", "limit": None})
    assert (await final(gateway)).phase == Phase.FAILED
    await ask(gateway, "PUT", "quotas", {"name": "git.example/org/repo", "limit": None})
    assert (await final(gateway)).phase == Phase.READY
    status, _ = await ask(gateway, "DELETE", "quotas?name=total")
    assert status == 204
    assert (await final(gateway)).phase == Phase.READY


async def test_a_member_that_drains_by_an_operators_word_takes_no_launch(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=2, **ADMIN)
    status, _ = await ask(one, "PUT", "members/member-1/policy", {"policy": "draining"})
    assert status == 200
    for gateway in (one, two):
        await gateway.until_state("member-1", "draining")
        for n in range(5):
            assert (await final(gateway, spec_of(f"r{n}"))).fields["member"] == "member-2"
    await ask(two, "PUT", "members/member-1/policy", {"policy": "active"})
    await one.until_state("member-1", "available")


async def test_members_propose_bans_and_operators_decide(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, **ADMIN)
    member = one.members[0]
    found = (make_ban("owner", "github.com/miner", "mines coins"), make_ban("network", "203.0.113.5"))
    for _ in range(2):
        report = member.signed(member.report(time.time(), ban_proposals=found))
        async with one.http.post(f"{one.url}api/v1/reports", data=report) as response:
            assert response.status == 204, await response.text()

    async def proposals() -> list[dict[str, Any]]:
        shown = (await ask(two, "GET", "bans"))[1]
        assert (await final(two)).phase == Phase.READY
        listed: list[dict[str, Any]] = shown["proposals"]
        return listed

    async with asyncio.timeout(60):
        while len(await proposals()) < 2:
            await asyncio.sleep(0.1)
    miner, network = sorted(await proposals(), key=lambda item: item["kind"], reverse=True)
    assert (miner["member"], miner["reason"], miner["value"]) == ("member-1", "mines coins", "github.com/miner")
    await ask(two, "PUT", "bans", {"kind": miner["kind"], "value": miner["value"], "proposal": miner["name"]})
    status, _ = await ask(two, "DELETE", f"proposals?name={network['name'].replace('/', '%2F')}")
    assert status == 204
    # Said again, it is not asked again.
    report = member.signed(member.report(time.time(), ban_proposals=found))
    async with one.http.post(f"{one.url}api/v1/reports", data=report):
        pass
    await asyncio.sleep(2.5)
    assert await proposals() == []
    assert _names(two) == {"owner:github.com/miner"}


async def test_what_operators_send_wrong_is_told_with_its_field(start: Starter) -> None:
    gateway = await start.gateway(1, **ADMIN, admission={"bans": [{"kind": "network", "value": "192.0.2.0/24"}]})
    for method, path, body, status, said in (
        ("PUT", "bans", {"kind": "planet", "value": "x"}, 422, "kind"),
        ("PUT", "bans", {"kind": "network", "value": "x"}, 422, "value"),
        ("PUT", "bans", {"kind": "spec", "value": "("}, 422, "value"),
        ("PUT", "bans", {"kind": "owner", "value": "org"}, 422, "host/owner"),
        ("PUT", "bans", {"kind": "owner", "value": "github.com/o", "for": "soon"}, 422, "for"),
        ("PUT", "bans", {"kind": "owner", "value": "github.com/o", "fro": "1h"}, 422, "fro"),
        ("PUT", "bans", {"kind": 7, "value": "x"}, 422, "kind"),
        ("PUT", "bans", {"kind": "owner", "value": "github.com/o", "proposal": "x"}, 404, "proposal"),
        ("PUT", "bans", [], 400, "JSON object"),
        ("DELETE", "bans?name=owner:nobody", None, 404, "owner:nobody"),
        ("DELETE", "bans?name=network:192.0.2.0/24", None, 409, "configuration"),
        ("PUT", "quotas", {"name": "total", "limit": -1}, 422, "limit"),
        ("PUT", "quotas", {"name": "nonsense", "limit": 1}, 422, "name"),
        ("DELETE", "quotas?name=total", None, 404, "total"),
        ("DELETE", "proposals?name=x", None, 404, "x"),
        ("PUT", "members/nobody/policy", {"policy": "active"}, 404, "nobody"),
        ("PUT", "members/member-1/policy", {"policy": "gone"}, 422, "policy"),
    ):
        answered, problem = await ask(gateway, method, path, body)
        assert (answered, said in problem["detail"]) == (status, True), (path, problem)
    for token in ("", "x", TOKEN[:-1], TOKEN + "x"):
        status, problem = await ask(gateway, "GET", "bans", token=token)
        assert (status, problem["title"]) == (401, "Not An Operator")
    closed = await start.gateway_of(gateway.members)
    assert (await ask(closed, "GET", "bans"))[0] == 403


def test_settings_that_cannot_be_rules_are_told_with_their_paths() -> None:
    settings = AdmissionSettings(
        bans=(BanSettings("network", "nowhere"), BanSettings("owner", "x")),
        quotas=QuotaSettings(total=-1, repos={"GitHub.com/Org": 3}),
    )
    problems = admission_problems(settings)
    assert [problem.partition(":")[0] for problem in problems] == [
        "bans[0].value",
        "bans[1].value",
        "quotas",
        "quotas.repos",
    ]
    assert "github.com/org" in problems[-1]
