"""Who may decide what: roles, scopes, tokens from the configuration and tokens made while the gateway runs."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.operators import (
    SCOPES,
    TOKEN,
    Operator,
    Role,
    Scope,
    parse_token,
    refusal,
    token_operator,
    token_value,
)
from gateway.core.records import AUDIT
from gateway.web.admin.routes import PREFIX, ROUTES
from tests.gateway.harness import Gateway, Starter, until

BOSS, VIEWER, OWNER = (f"a-token-of-the-{name}-for-tests" for name in ("boss", "viewer", "owner"))
ADMIN = {
    "tokens": [
        {"name": "boss", "token": BOSS},
        {"name": "viewer", "token": VIEWER, "role": "viewer"},
        {"name": "owner", "token": OWNER, "role": "member", "member": "member-1"},
        {"name": "gone", "token": "a-token-that-has-expired-for-tests", "expires": "2020-01-31"},
    ]
}


async def ask(gateway: Gateway, token: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body of an answer."""
    headers = {"Authorization": f"Bearer {token}"}
    async with gateway.http.request(method, f"{gateway.url}{PREFIX}{path}", json=body, headers=headers) as response:
        is_json = response.content_type.endswith("json")
        return response.status, await response.json(content_type=None) if is_json else {}


async def made(gateway: Gateway, **wanted: Any) -> dict[str, Any]:
    """A token that is made now."""
    status, token = await ask(gateway, BOSS, "POST", "tokens", wanted)
    assert status == 201, token
    assert isinstance(token, dict)
    return token


@pytest.fixture
async def gateway(start: Starter) -> Gateway:
    """A gateway with two members and four operators."""
    return await start.gateway(2, admin=ADMIN)


async def test_every_call_is_refused_to_the_role_that_lacks_it_and_says_who_has_it(gateway: Gateway) -> None:
    for method, route, scope, _ in ROUTES:
        path = route.replace("{member}", "member-2")
        for token, role, name in ((VIEWER, Role.VIEWER, "viewer"), (OWNER, Role.MEMBER, "owner")):
            status, answer = await ask(gateway, token, method, path, {})
            allowed = scope is Scope.READ
            assert (status != 403) == allowed, (method, path, role, answer)
            if not allowed:
                assert "operator" in answer["detail"], answer
                assert name in answer["detail"]
        for token in ("", "nobody's", "mbt_", "mbt_00_11", "a-token-that-has-expired-for-tests"):
            assert (await ask(gateway, token, method, path, {}))[0] == 401
    refused = [
        item for item in (await ask(gateway, BOSS, "GET", "log?kind=act"))[1]["entries"] if item["outcome"] == "refused"
    ]
    assert {(item["who"], item["name"]) for item in refused} >= {
        ("viewer", "PUT bans"),
        ("owner", "PUT members/member-2/policy"),
    }
    assert all(item["address"] == "127.0.0.1" and item["role"] for item in refused)


async def test_who_is_not_known_is_seen_in_the_gateways_own_log_and_does_not_fill_it(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert (await ask(gateway, "a-token-that-has-expired-for-tests", "PUT", "bans", {}))[0] == 401
    (said,) = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert all(part in said for part in ("'PUT bans'", "127.0.0.1", "of gone has expired"))
    assert "a-token-that" not in said
    assert not gateway.parts.records.book.of(AUDIT)


async def test_a_members_own_operator_drains_and_weighs_that_member_and_lifts_no_suspension(gateway: Gateway) -> None:
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/policy", {"policy": "draining"}))[0] == 200
    await gateway.until_state("member-1", "draining")
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/policy", {"policy": "active"}))[0] == 200
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/weight", {"weight": 0.5}))[0] == 200
    status, answer = await ask(gateway, OWNER, "PUT", "members/member-1/weight", {"weight": 1.5})
    assert (status, "registered with the weight 1" in answer["detail"]) == (403, True)
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/policy", {"policy": "suspended"}))[0] == 403
    assert (await ask(gateway, BOSS, "PUT", "members/member-1/policy", {"policy": "suspended"}))[0] == 200
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/policy", {"policy": "active"}))[0] == 403
    assert (await ask(gateway, OWNER, "PUT", "members/member-1/policy", {"policy": "draining"}))[0] == 403
    await gateway.until_state("member-1", "suspended")


async def test_a_weight_holds_within_moments_is_seen_and_outlives_a_restart(start: Starter) -> None:
    gateway = await start.gateway(2, admin=ADMIN)
    members = gateway.members
    assert (await ask(gateway, BOSS, "PUT", "members/member-1/weight", {"weight": 0}))[0] == 200
    await gateway.until_state("member-1", "draining")
    shown = {item["name"]: item for item in (await gateway.json("api/v1/federation"))["members"]}
    assert (shown["member-1"]["weight"], shown["member-1"]["reasons"]) == (0, ["Its weight is 0."])
    explained = await gateway.json("api/v1/explain?repo=https://git.example/org/repo.git")
    assert "weight is 0" in explained["sentence"]
    assert [(item["member"], item["weight"]) for item in explained["candidates"]] == [("member-2", 1)]
    (event,) = [item async for _, item in gateway.events() if item.phase == "ready"]
    assert event.fields["member"] == "member-2"
    await gateway.runner.cleanup()
    again = await start.gateway_of(members, admin=ADMIN)
    await again.until_state("member-1", "draining")
    status, listed = await ask(again, VIEWER, "GET", "members")
    (first, _) = listed["members"]
    assert (status, first["set"]["weight"]["weight"], first["registered_weight"]) == (200, 0, 1)
    assert (await ask(again, BOSS, "DELETE", "members/member-1/weight"))[0] == 204
    await again.until_state("member-1", "available")
    assert (await ask(again, BOSS, "DELETE", "members/member-1/weight"))[0] == 404
    for wrong in (-1, "much", None, True, 1e9):
        assert (await ask(again, BOSS, "PUT", "members/member-1/weight", {"weight": wrong}))[0] == 422


async def test_a_token_is_told_once_kept_as_a_digest_and_does_what_it_is_for(gateway: Gateway) -> None:
    token = await made(gateway, name="script", role="operator", scopes=["read", "bans"], **{"for": "1h"})
    secret = token["token"]
    assert 3500 < token["expires_at"] - time.time() < 3700
    ban = {"kind": "owner", "value": "github.com/miner"}
    assert (await ask(gateway, secret, "PUT", "bans", ban))[0] == 200
    status, answer = await ask(gateway, secret, "PUT", "quotas", {"name": "total", "limit": 1})
    assert (status, "scope quotas" in answer["detail"]) == (403, True)
    assert (await ask(gateway, secret, "GET", "whoami"))[1]["scopes"] == ["bans", "read"]
    _, listed = await ask(gateway, VIEWER, "GET", "tokens")
    (shown,) = listed["tokens"]
    assert shown["last_used_at"] is not None
    assert (shown["name"], shown["made_by"], "token" in shown, "digest" in shown) == ("script", "boss", False, False)
    _, log = await ask(gateway, VIEWER, "GET", "log?kind=act")
    (act,) = [item for item in log["entries"] if item.get("what") == "ban"]
    assert (act["who"], act["by"], act["outcome"]) == ("script", f"token {token['id']}", "done")
    everything = repr(log) + repr(listed) + "".join(str(record) for record in gateway.parts.records.book.all())
    assert secret.split("_", 2)[2] not in everything
    assert (await ask(gateway, BOSS, "DELETE", f"tokens?id={token['id']}"))[0] == 204
    assert (await ask(gateway, secret, "GET", "whoami"))[0] == 401
    assert (await ask(gateway, BOSS, "DELETE", f"tokens?id={token['id']}"))[0] == 404


async def test_a_token_makes_none_that_may_do_more_than_itself(gateway: Gateway) -> None:
    narrow = (await made(gateway, name="maker", role="operator", scopes=["read", "tokens"]))["token"]
    status, answer = await ask(gateway, narrow, "POST", "tokens", {"name": "x", "role": "operator"})
    assert (status, "more than itself" in answer["detail"]) == (403, True)
    assert (await ask(gateway, narrow, "POST", "tokens", {"name": "x", "role": "viewer"}))[0] == 201


async def test_a_token_makes_none_that_outlives_it(gateway: Gateway) -> None:
    brief = await made(gateway, name="maker", role="operator", **{"for": "1h"})
    wanted = {"name": "x", "role": "viewer"}
    status, answer = await ask(gateway, brief["token"], "POST", "tokens", {**wanted, "for": "61m"})
    assert (status, "outlives it" in answer["detail"]) == (403, True)
    assert (await ask(gateway, brief["token"], "POST", "tokens", {**wanted, "for": "59m"}))[0] == 201
    status, usual = await ask(gateway, brief["token"], "POST", "tokens", wanted)
    assert (status, usual["expires_at"]) == (201, brief["expires_at"])


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"name": "a b", "role": "viewer"}, "name"),
        ({"name": "a", "role": "king"}, "role"),
        ({"name": "a"}, "role"),
        ({"name": "a", "role": "member"}, "member"),
        ({"name": "a", "role": "viewer", "member": "member-1"}, "member"),
        ({"name": "a", "role": "viewer", "scopes": ["bans"]}, "scopes"),
        ({"name": "a", "role": "viewer", "scopes": ["nonsense"]}, "scopes"),
        ({"name": "a", "role": "viewer", "scopes": "read"}, "scopes"),
        ({"name": "a", "role": "viewer", "for": "0s"}, "for"),
        ({"name": "a", "role": "viewer", "for": "for ever"}, "for"),
        ({"name": "a", "role": "viewer", "secret": "mine"}, "secret"),
    ],
)
async def test_a_token_that_cannot_be_names_the_field(start: Starter, wanted: dict[str, Any], field: str) -> None:
    gateway = await start.gateway(0, admin=ADMIN)
    status, answer = await ask(gateway, BOSS, "POST", "tokens", wanted)
    assert (status, answer["field"]) == (422, field), answer


async def test_a_token_holds_at_all_replicas_at_once_and_stays_revoked_whoever_returns(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, members=1, admin=ADMIN, redis={"timeout": "2s"})
    token = await made(one, name="script", role="viewer")
    # Without a wait: the other replica asks for what it does not know.
    assert (await ask(two, token["token"], "GET", "whoami"))[0] == 200
    server.freeze()
    # Revoked where the others cannot be told; they hear of it later, and revive nothing.
    assert (await ask(two, BOSS, "DELETE", f"tokens?id={token['id']}"))[0] == 204
    server.thaw()

    await until(lambda: not one.parts.records.book.of(TOKEN))
    assert [(await ask(item, token["token"], "GET", "whoami"))[0] for item in (one, two)] == [401, 401]
    await until(lambda: len(one.parts.records.book.of(AUDIT)) == 2)


async def test_a_suspension_at_another_replica_a_moment_ago_is_not_lifted(start: Starter) -> None:
    one, two = await start.replicas(2, await start.redis(), members=1, admin=ADMIN)
    path = "members/member-1/policy"
    for _ in range(5):
        assert (await ask(one, BOSS, "PUT", path, {"policy": "suspended"}))[0] == 200
        assert (await ask(two, OWNER, "PUT", path, {"policy": "active"}))[0] == 403
        assert (await ask(two, BOSS, "PUT", path, {"policy": "active"}))[0] == 200


@pytest.mark.slow
async def test_a_suspension_stands_that_was_said_where_the_others_could_not_be_told(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, members=1, admin=ADMIN)
    path = "members/member-1/policy"
    server.freeze()
    assert (await ask(one, BOSS, "PUT", path, {"policy": "suspended"}))[0] == 200
    # Later, by who may not end it, where it is not known.
    assert (await ask(two, OWNER, "PUT", path, {"policy": "draining"}))[0] == 200
    assert (await ask(two, OWNER, "PUT", path, {"policy": "active"}))[0] == 200
    server.thaw()
    for gateway in (one, two):
        await gateway.until_state("member-1", "suspended")
    assert (await ask(two, OWNER, "PUT", path, {"policy": "active"}))[0] == 403
    assert (await ask(two, BOSS, "PUT", path, {"policy": "active"}))[0] == 200
    for gateway in (one, two):
        await gateway.until_state("member-1", "available")


roles = st.sampled_from(Role)
names = st.sampled_from(["member-1", "member-2"])


@given(roles, names, st.frozensets(st.sampled_from(Scope)), st.sampled_from(Scope), st.none() | names)
def test_nobody_may_do_more_than_their_role_and_their_token(
    role: Role, own: str, scopes: frozenset[Scope], scope: Scope, member: str | None
) -> None:
    who = Operator("somebody", role, own if role is Role.MEMBER else "", scopes)
    may = refusal(who, scope, member) is None
    if may:
        assert scope in scopes
        assert scope in SCOPES[role]
        assert role is not Role.MEMBER or scope is Scope.READ or member == own
    assert may or role is not Role.OPERATOR or scope not in scopes


@given(st.text() | st.builds(lambda a, b: f"mbt_{a}_{b}", st.text(), st.text()))
def test_any_text_is_read_as_a_token_or_is_none(text: str) -> None:
    parsed = parse_token(text)
    assert parsed is None or text == f"mbt_{parsed[0]}_{parsed[1]}"


_junk = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(["name", "role", "member", "scopes", "expires_at"]), _junk))
def test_a_record_that_is_not_understood_lets_nobody_in(value: dict[str, Any]) -> None:
    operator = token_operator("id", value)
    assert operator is None or operator.may <= SCOPES[operator.role]


def test_a_record_of_a_token_tells_whose_it_is() -> None:
    who = Operator("a", Role.MEMBER, "member-1", frozenset({Scope.READ}), "token", "id", 5.0)
    assert token_operator("id", token_value(who, "digest", "boss", 1.0)) == who
