"""Members join with one token; nobody else gets anywhere."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import Phase
from contract.joining import make_join_token, read_notice
from gateway.clients.guard import AddressGuard
from gateway.core.settings import JoiningSettings
from tests.gateway.harness import SPEC, Gateway, Starter, until
from tests.gateway.joining import (
    OPEN,
    alerts,
    ask,
    gateway,
    join,
    join_token,
    joined,
    log,
    notice_of,
    post,
    report,
    request_of,
    states,
)

__all__ = ["gateway"]


async def test_a_member_joins_is_accepted_and_takes_launches(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    token = await join_token(gateway, max_sessions=7, labels={"site": "north"}, weight=2)
    welcome = await join(gateway, fake, token)
    assert welcome.report_url == "http://gateway.example/api/v1/reports"
    assert welcome.keys == (gateway.key.public_key(),)
    await until(lambda: gateway.parts.fleet.snapshot.members[0].reachable.ok)
    assert await states(gateway) == {"newcomer": "pending"}
    # It is watched and heard, and takes nothing.
    answer = await report(gateway, fake)
    assert answer.status == 204
    assert read_notice(notice_of(answer), welcome.keys, member="newcomer").policy == "pending"
    explained = await gateway.json(f"api/v1/explain?repo={quote(SPEC, '')}")
    assert [item["member"] for item in explained["rejected"]] == ["newcomer"]
    assert (await ask(gateway, "POST", "members/newcomer/accept")).status == 204
    await gateway.until_state("newcomer", "available")
    (member,) = (await gateway.json("api/v1/federation"))["members"]
    assert (member["weight"], member["labels"], member["slow_start"] < 1) == (2, {"site": "north"}, True)
    events = await gateway.launch()
    assert events[-1].phase is Phase.READY, events[-1].message
    assert fake.claims(gateway.key, time.time()).member == "newcomer"
    acts = [(item["who"], item["name"]) for item in await log(gateway)]
    assert ("newcomer", "POST join") in acts
    assert ("alice", "POST members/newcomer/accept") in acts
    # No secret of a token is told again, to anybody.
    shown = (await ask(gateway, "GET", "join-tokens")).body
    assert token.rpartition("_")[2] not in str(shown) + str(await log(gateway))
    assert shown["join_tokens"][0]["used_at"] is not None


async def test_a_stolen_token_that_is_used_again_is_refused_and_told(start: Starter, gateway: Gateway) -> None:
    fake, thief = await start.member("newcomer"), await start.member("newcomer")
    token = await join_token(gateway)
    await join(gateway, fake, token)
    stolen = await post(gateway, "join", request_of(thief, token), token)
    assert (stolen.status, stolen.title) == (403, "Used Before")
    assert await alerts(gateway) == {("JoinTokenReused", "newcomer")}
    async with gateway.http.get(gateway.url + "metrics") as response:
        assert 'manybinder_gateway_alert{alert="JoinTokenReused",member="newcomer"} 1.0' in await response.text()
    (refused,) = [item for item in await log(gateway) if item["outcome"] == "refused"]
    assert refused["address"] == "127.0.0.1"
    # The operator of a single member hears of it, and not from where.
    wanted = {"name": "bob", "role": "member", "member": "another"}
    token_of_bob = (await ask(gateway, "POST", "tokens", wanted)).body["token"]
    for path in ("alerts", "log?member=newcomer"):
        told = repr((await ask(gateway, "GET", path, token=token_of_bob)).body)
        assert "used again" in told
        assert "from 127.0.0.1" not in told
    (member,) = gateway.parts.fleet.snapshot.members
    assert member.member.url == fake.url
    # The member itself, whose answer was lost, hears it again.
    await join(gateway, fake, token)


async def test_of_many_that_use_one_token_at_once_at_two_replicas_one_joins(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, 0, **OPEN)
    token = await join_token(one)
    fakes = [await start.member("newcomer") for _ in range(6)]
    gateways = [one, two] * 3
    answers = await asyncio.gather(
        *(post(gateway, "join", request_of(fake, token), token) for gateway, fake in zip(gateways, fakes, strict=True))
    )
    assert sorted(answer.status for answer in answers) == [200] + [403] * 5
    winner = fakes[[answer.status for answer in answers].index(200)]
    await until(lambda: all(each.parts.fleet.snapshot.get("newcomer") for each in (one, two)))
    views = [each.parts.fleet.snapshot.get("newcomer") for each in (one, two)]
    assert [view.member.url for view in views if view] == [winner.url] * 2


async def test_a_disk_that_is_full_does_not_use_a_token_up(start: Starter, gateway: Gateway) -> None:
    fake, token = await start.member("newcomer"), await join_token(gateway)
    with sqlite3.connect(gateway.data_dir / "records.sqlite3") as disk:
        disk.execute(
            "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    refused = await post(gateway, "join", request_of(fake, token), token)
    assert (refused.status, refused.title) == (503, "Not Kept"), refused.body
    with sqlite3.connect(gateway.data_dir / "records.sqlite3") as disk:
        disk.execute("DROP TRIGGER full")
    await join(gateway, fake, token)
    assert await alerts(gateway) == set()


async def test_a_request_that_comes_in_pieces_is_put_together(start: Starter, gateway: Gateway) -> None:
    fake, token = await start.member("newcomer"), await join_token(gateway)
    request = request_of(fake, token).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(request), 300):
            yield request[begin : begin + 300]
            await asyncio.sleep(0.05)

    headers = {"Authorization": f"Bearer {token}"}
    async with gateway.http.post(f"{gateway.url}api/v1/join", data=pieces(), headers=headers) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize(
    ("changes", "status", "title"),
    [
        ({"member": "somebody"}, 401, "Not Signed"),
        ({"digest": "0" * 64}, 401, "Not Signed"),
        ({"sent_at": 1.0}, 409, "Clock Skew"),
        ({"url": "http://localhost:1/"}, 422, "Not Allowed There"),
        ({"url": "http://127.0.0.1@evil.example/"}, 422, "Not Allowed There"),
        ({"url": "ftp://127.0.0.1/"}, 422, "Not Allowed There"),
        ({"url": "http://127.0.0.1/?from="}, 422, "Not Allowed There"),
        ({"url": "http://127.0.0.1/#"}, 422, "Not Allowed There"),
        ({"url": "http://127.0.0.1/\ud800"}, 422, "Not Allowed There"),
        ({"hub_origin": "http://evil.example"}, 422, "Not Allowed There"),
        ({"hub_origin": "nothing"}, 422, "Not Allowed There"),
    ],
)
async def test_a_request_that_is_not_as_the_token_says_is_refused(
    start: Starter, gateway: Gateway, changes: dict[str, Any], status: int, title: str
) -> None:
    fake, token = await start.member("newcomer"), await join_token(gateway)
    answer = await post(gateway, "join", request_of(fake, token, **changes), token)
    assert (answer.status, answer.title) == (status, title), answer.body
    assert await states(gateway) == {}
    # The token is still good.
    await join(gateway, fake, token)


async def test_a_token_that_is_forged_expired_revoked_or_no_token_is_refused(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")

    async def refused(token: str) -> str:
        answer = await post(gateway, "join", request_of(fake, token), token)
        assert answer.status == 403, answer.body
        return answer.title

    forged = make_join_token("newcomer", gateway.key.public_key(), bytes(32)).text
    assert await refused(forged) == "Not A Join Token"
    expired = await join_token(gateway, **{"for": "1ms"})
    await asyncio.sleep(0.01)
    assert await refused(expired) == "Expired"
    revoked = await join_token(gateway)
    listed = (await ask(gateway, "GET", "join-tokens")).body["join_tokens"]
    newest = max(listed, key=lambda item: item["expires_at"])
    assert (await ask(gateway, "DELETE", f"join-tokens?id={newest['id']}")).status == 204
    assert await refused(revoked) == "Not A Join Token"
    for bearer in ("", "nothing", forged[:-1], "Bearer " + forged):
        answer = await post(gateway, "join", request_of(fake, forged), bearer)
        assert (answer.status, answer.title) == (401, "No Join Token")
    for body in ("", "x.y.z", "[" * 100_000, jwt.encode({"key": 1}, "x" * 32, "HS256")):
        answer = await post(gateway, "join", body, forged)
        assert answer.status == 401, answer.body
    assert await states(gateway) == {}


async def test_a_request_signed_with_another_key_than_the_one_in_it_is_refused(
    start: Starter, gateway: Gateway
) -> None:
    fake, token = await start.member("newcomer"), await join_token(gateway)
    claims = jwt.decode(request_of(fake, token), options={"verify_signature": False})
    other = Ed25519PrivateKey.generate()
    forged = jwt.encode(claims, other, "EdDSA", headers={"typ": "manybinder-join+jwt"})
    assert (await post(gateway, "join", forged, token)).title == "Not Signed"


async def test_no_member_takes_the_address_of_another(start: Starter, gateway: Gateway) -> None:
    one, two = await start.member("newcomer"), await start.member("another")
    await joined(gateway, one)
    token = await join_token(gateway, "another")
    for same in (one.url, one.url.rstrip("/"), one.url.replace("http", "HTTP")):
        answer = await post(gateway, "join", request_of(two, token, url=same), token)
        assert (answer.status, answer.title) == (409, "Address Taken")
    await join(gateway, two, token)


async def test_only_an_operator_makes_join_tokens_and_what_is_wrong_is_named(gateway: Gateway) -> None:
    assert (await ask(gateway, "POST", "join-tokens", {"name": "x", "hosts": ["h"]}, token="wrong")).status == 401
    for body, field in (
        ({"name": "X", "hosts": ["h"]}, "name"),
        ({"name": "x"}, "hosts"),
        ({"name": "x", "hosts": ["http://h/"]}, "hosts"),
        ({"name": "x", "hosts": ["h"], "weight": -1}, "weight"),
        ({"name": "x", "hosts": ["h"], "max_sessions": 0}, "max_sessions"),
        ({"name": "x", "hosts": ["h"], "client_addresses": "some"}, "client_addresses"),
        ({"name": "x", "hosts": ["h"], "for": "99999d"}, "for"),
        ({"name": "x", "hosts": ["h"], "replace": "yes"}, "replace"),
        ({"name": "x", "hosts": ["h"], "colour": "red"}, "colour"),
    ):
        answer = await ask(gateway, "POST", "join-tokens", body)
        assert (answer.status, answer.body["field"]) == (422, field)
    assert (await ask(gateway, "POST", "join-tokens", {"name": "x", "hosts": ["h"], "replace": True})).status == 404


async def test_a_name_of_the_configuration_is_not_given_away(start: Starter) -> None:
    gateway = await start.gateway(1, **OPEN)
    answer = await ask(gateway, "POST", "join-tokens", {"name": "member-1", "hosts": ["127.0.0.1"]})
    assert (answer.status, answer.title) == (409, "Configured")
    for method, path in (("DELETE", "members/member-1"), ("POST", "members/member-1/accept")):
        assert (await ask(gateway, method, path)).status in (404, 409)


async def test_nobody_joins_from_an_internal_address_unless_that_is_allowed(start: Starter) -> None:
    gateway = await start.gateway(0, **OPEN)
    closed = await start.gateway(0, admin=OPEN["admin"])
    fake = await start.member("newcomer")
    token = await join_token(closed)
    answer = await post(closed, "join", request_of(fake, token), token)
    assert (answer.status, answer.title) == (422, "Not Allowed There")
    assert "allow_loopback" in answer.detail
    await joined(gateway, fake)


@pytest.mark.parametrize(
    ("address", "private", "loopback", "allowed"),
    [
        ("192.0.9.1", False, False, True),
        ("127.0.0.1", False, False, False),
        ("127.0.0.1", True, False, False),
        ("127.0.0.1", False, True, True),
        ("::1", False, True, True),
        ("::ffff:127.0.0.1", True, False, False),
        ("10.1.2.3", False, False, False),
        ("10.1.2.3", True, False, True),
        ("fd12::1", True, False, True),
        ("169.254.169.254", True, True, False),
        ("fd00:ec2::254", True, True, False),
        ("168.63.129.16", True, True, False),
        ("fd20:ce::254", True, True, False),
        ("192.0.0.192", True, True, False),
        ("fe80::1%eth0", True, True, False),
        ("0.0.0.0", True, True, False),  # noqa: S104 - nobody listens
        ("224.0.0.1", True, True, False),
        ("nothing", True, True, False),
    ],
)
def test_where_members_may_be(address: str, private: bool, loopback: bool, allowed: bool) -> None:
    settings = JoiningSettings(allow_private_addresses=private, allow_loopback=loopback)
    assert AddressGuard(settings).allows(address) is allowed


async def test_a_member_that_has_joined_is_asked_only_where_that_is_allowed(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    # As if its name led to an internal address by now; connections that are open stay so.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AddressGuard, "allows", lambda *_: False)
        await fake.stop()
        await gateway.until_state("newcomer", "unreachable")
        await fake.start()
        probes = fake.probes
        await until(lambda: "no address for a member" in gateway.parts.fleet.snapshot.members[0].reachable.reason)
        assert fake.probes == probes
    await gateway.until_state("newcomer", "available")
