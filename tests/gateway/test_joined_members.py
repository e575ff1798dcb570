"""Members that have joined report, change their keys, are replaced, leave and are removed."""

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import Phase
from contract.joining import read_notice
from contract.reports import Image, Sessions
from contract.signatures import SignatureRefusedError, private_pem, sign_report
from gateway.app import RELOAD, make_app
from gateway.core.records import Change
from gateway.core.registration import MEMBER
from gateway.settings import load
from tests.federation import free_port
from tests.gateway.harness import Gateway, Starter, gateway_settings, until
from tests.gateway.joining import (
    OPEN,
    TOKEN,
    alerts,
    ask,
    change_keys,
    gateway,
    join,
    join_token,
    joined,
    leave,
    notice_of,
    post,
    report,
    request_of,
    states,
)

__all__ = ["gateway"]


async def test_a_member_that_is_removed_is_refused_at_every_replica(start: Starter) -> None:
    server = await start.redis()
    one, two = await start.replicas(2, server, 0, **OPEN)
    fake, used = await start.member("newcomer"), await join_token(one)
    await join(one, fake, used)
    assert (await ask(one, "POST", "members/newcomer/accept")).status == 204
    await two.until_state("newcomer", "available")
    assert (await report(two, fake)).status == 204
    assert (await ask(one, "DELETE", "members/newcomer")).status == 204
    refused = await report(one, fake)
    assert (refused.status, refused.title) == (403, "Revoked")
    assert ("RevokedMemberReports", "newcomer") in await alerts(one)
    await until(lambda: two.parts.fleet.snapshot.get("newcomer") is None)
    assert (await report(two, fake)).status == 403
    assert await states(one) == await states(two) == {}
    assert (await ask(one, "DELETE", "members/newcomer")).status == 404
    # Nor is its token's answer given again, nor does its key get in anew.
    answer = await post(one, "join", request_of(fake, used), used)
    assert (answer.status, answer.title) == (403, "Revoked")
    token = await join_token(one)
    answer = await post(one, "join", request_of(fake, token), token)
    assert (answer.status, answer.title) == (403, "Revoked")
    await join(one, fake, token, key=Ed25519PrivateKey.generate())


async def test_a_join_token_for_a_member_that_is_removed_is_void(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    spare = await join_token(gateway, replace=True)
    assert (await ask(gateway, "DELETE", "members/newcomer")).status == 204
    refused = await post(gateway, "join", request_of(fake, spare, Ed25519PrivateKey.generate()), spare)
    assert (refused.status, refused.title) == (403, "Not A Join Token")


async def test_the_operators_of_a_member_that_is_removed_go_with_it(start: Starter, gateway: Gateway) -> None:
    await joined(gateway, await start.member("newcomer"))
    wanted = {"name": "bob", "role": "member", "member": "newcomer"}
    token = (await ask(gateway, "POST", "tokens", wanted)).body["token"]
    other = (await ask(gateway, "POST", "tokens", {**wanted, "member": "another"})).body["token"]
    assert (await ask(gateway, "GET", "log", token=token)).status == 200
    assert (await ask(gateway, "DELETE", "members/newcomer")).status == 204
    assert (await ask(gateway, "GET", "log", token=token)).status == 401
    assert (await ask(gateway, "GET", "log", token=other)).status == 200


async def test_a_replica_that_was_away_revives_no_revoked_member(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    known = gateway.parts.records.book.of(MEMBER)["newcomer"].value
    assert (await ask(gateway, "DELETE", "members/newcomer")).status == 204
    # What such a replica writes before it hears of the removal, it writes later.
    await gateway.parts.records.write(Change(MEMBER, "newcomer", known))
    gateway.parts.joining.refresh()
    assert await states(gateway) == {}
    refused = await report(gateway, fake)
    assert (refused.status, refused.title) == (403, "Revoked")
    assert ("RevokedMemberReports", "newcomer") in await alerts(gateway)
    # The name is free.
    await join(gateway, fake, await join_token(gateway), key=Ed25519PrivateKey.generate())
    assert await states(gateway) == {"newcomer": "pending"}


async def test_what_was_registered_and_removed_survives_a_restart(start: Starter) -> None:
    key = Ed25519PrivateKey.generate()
    settings = gateway_settings(start.data_dir / "kept", key, [], **OPEN)
    first = await start.gateway_with(settings, key)
    stays, goes = await start.member("stays"), await start.member("goes")
    for fake in (stays, goes):
        await joined(first, fake)
    assert (await ask(first, "DELETE", "members/goes")).status == 204
    await first.runner.cleanup()
    second = await start.gateway_with(settings, key)
    await second.until_state("stays", "available")
    assert await states(second) == {"stays": "available"}
    assert (await report(second, stays)).status == 204
    assert (await report(second, goes)).status == 403


OFF = [10.0, 600.0, 315_360_000.0]


@pytest.mark.parametrize("seconds", [*OFF, *(-each for each in OFF)])
async def test_a_clock_that_is_off_is_refused_by_name_and_changes_nothing(
    start: Starter, gateway: Gateway, seconds: float
) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    assert (await report(gateway, fake)).status == 204
    view = gateway.parts.fleet.snapshot.get("newcomer")
    assert view is not None
    refused = await report(gateway, fake, sent_at=max(0.0, time.time() + seconds), sessions=Sessions(free=0))
    assert (refused.status, refused.title) == (409, "Clock Skew")
    assert ("ClockSkew", "newcomer") in await alerts(gateway)
    after = gateway.parts.fleet.snapshot.get("newcomer")
    assert after is not None
    assert after.received == view.received
    # Once the clock is right again, the alert is over.
    assert (await report(gateway, fake)).status == 204
    assert await alerts(gateway) == set()


async def test_forged_replayed_and_wrong_reports_are_refused_and_change_nothing(
    start: Starter, gateway: Gateway
) -> None:
    fake, other = await start.member("newcomer"), await start.member("other")
    for each in (fake, other):
        await joined(gateway, each)
    signed = sign_report(fake.report(time.time()).to_wire(), fake.key)
    assert (await post(gateway, "reports", signed)).status == 204
    view = gateway.parts.fleet.snapshot.get("newcomer")
    assert view is not None
    replayed = await post(gateway, "reports", signed)
    assert (replayed.status, replayed.title) == (409, "Not New")
    # Signed by another member in this one's name, by nobody, and by this one in another's name.
    forged = await report(gateway, fake, key=other.key)
    assert (forged.status, forged.title) == (401, "Not Signed")
    assert ("ReportRefused", "newcomer") in await alerts(gateway)
    assert (await post(gateway, "reports", signed[:-3])).status == 401
    assert (await report(gateway, other, key=fake.key)).status == 401
    assert (await report(gateway, fake, member="nobody")).title == "Unknown Member"
    after = gateway.parts.fleet.snapshot.get("newcomer")
    assert after is not None
    assert after.received == view.received


async def test_reports_are_believed_as_far_as_the_registration_goes(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake, max_sessions=5, max_images=1)
    images = tuple(Image(f"git.example/org/{name}", "a" * 40) for name in ("one", "two"))  # type: ignore[arg-type]
    sessions = Sessions(running=2, pending=1, limit=1000, free=997)
    assert (await report(gateway, fake, sessions=sessions, images=images)).status == 204
    (member,) = (await gateway.json("api/v1/federation"))["members"]
    assert member["capacity"]["sessions"] == {"running": 2, "pending": 1, "limit": 5, "free": 2}
    assert (member["believed_free"], member["images"]) == (2, 1)


async def test_a_member_changes_its_key_with_two_active_in_between(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    old, new, stranger = fake.key, Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    assert (await change_keys(gateway, "newcomer", [new], stranger)).status == 401
    assert (await change_keys(gateway, "newcomer", [new], old)).title == "No Key Left"
    assert (await change_keys(gateway, "newcomer", [old, new], old, issuer="http://other/")).title == "Not For Us"
    assert (await change_keys(gateway, "newcomer", [old, new], old, sent_at=time.time() - 60)).title == "Clock Skew"
    assert (await change_keys(gateway, "nobody", [old, new], old)).title == "Unknown Member"
    assert (await change_keys(gateway, "newcomer", [old, new], old)).status == 204
    assert (await report(gateway, fake, key=old)).status == 204
    assert (await report(gateway, fake, key=new)).status == 204
    assert (await change_keys(gateway, "newcomer", [new], new)).status == 204
    assert (await report(gateway, fake, key=old)).status == 401
    assert (await report(gateway, fake, key=new)).status == 204
    # The old key is void for good.
    assert (await change_keys(gateway, "newcomer", [new, old], new)).title == "Revoked"


async def test_a_lost_member_is_replaced_under_its_name(start: Starter, gateway: Gateway) -> None:
    lost, found = await start.member("newcomer"), await start.member("newcomer")
    await joined(gateway, lost)
    again = await ask(gateway, "POST", "join-tokens", {"name": "newcomer", "hosts": ["127.0.0.1"]})
    assert (again.status, again.title) == (409, "A Member Already")
    await join(gateway, found, await join_token(gateway, replace=True))
    assert await states(gateway) == {"newcomer": "pending"}
    assert (await report(gateway, lost)).status == 401
    assert (await report(gateway, found)).status == 204
    view = gateway.parts.fleet.snapshot.get("newcomer")
    assert view is not None
    assert view.member.url == found.url


async def test_a_member_leaves_once_it_is_drained_and_empty(start: Starter, gateway: Gateway) -> None:
    fake = await start.member("newcomer")
    await joined(gateway, fake)
    assert (await report(gateway, fake)).status == 204
    assert (await leave(gateway, fake)).title == "Not Drained"
    assert (await ask(gateway, "PUT", "members/newcomer/policy", {"policy": "draining"})).status == 200
    await gateway.until_state("newcomer", "draining")
    assert (await leave(gateway, fake)).title == "Not Empty"
    now = gateway.parts.fleet.now
    gateway.parts.fleet.now = lambda: now() + 60
    silent = await leave(gateway, fake)
    assert (silent.title, "does not report" in silent.detail) == ("Not Empty", True)
    gateway.parts.fleet.now = now
    assert (await report(gateway, fake, sessions=Sessions(limit=10, free=10))).status == 204
    assert (await leave(gateway, fake, issuer="http://other/")).title == "Not For Us"
    assert (await leave(gateway, fake)).status == 204
    assert await states(gateway) == {}
    assert (await report(gateway, fake)).status == 403
    # Whoever comes back under the name is not drained.
    back = await start.member("newcomer")
    await joined(gateway, back)


async def test_members_learn_of_the_gateways_next_key_from_notices(start: Starter) -> None:
    fake, old, new = await start.member("newcomer"), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()

    def settings(current: Ed25519PrivateKey, other: Ed25519PrivateKey | None) -> Any:
        changes = {"other_signing_key": private_pem(other)} if other else {}
        return gateway_settings(start.data_dir / "rotated", current, [], **OPEN, **changes)

    gateway = await start.gateway_with(settings(old, None), old)
    welcome = await joined(gateway, fake)
    keys = welcome.keys
    for current, other, expected in ((old, new, (old, new)), (new, old, (new, old)), (new, None, (new,))):
        await gateway.runner.cleanup()
        gateway = await start.gateway_with(settings(current, other), current)
        answer = await report(gateway, fake)
        keys = read_notice(notice_of(answer), keys, member="newcomer").keys
        assert keys == tuple(key.public_key() for key in expected)
        await gateway.until_state("newcomer", "available")
        events = await gateway.launch()
        assert events[-1].phase is Phase.READY
        fake.claims(current, time.time())
    with pytest.raises(SignatureRefusedError):
        read_notice(notice_of(answer), welcome.keys, member="newcomer")
    with pytest.raises(SignatureRefusedError):
        read_notice(notice_of(answer), keys, member="other")


async def test_the_gateways_key_changes_while_it_serves(start: Starter, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "gateway.yaml"
    keys = {name: Ed25519PrivateKey.generate() for name in ("old", "new")}
    for name, key in keys.items():
        (tmp_path / f"{name}.pem").write_text(private_pem(key))

    def configure(current: str, other: str = "") -> None:
        more = f"other_signing_key_file: {tmp_path}/{other}.pem\n" if other else ""
        path.write_text(
            f"schema: 1\npublic_url: http://gateway.example/\nlisten: {{port: {port}}}\ndata_dir: {tmp_path}\n"
            f"signing_key_file: {tmp_path}/{current}.pem\n{more}"
            f"admin: {{tokens: [{{name: alice, token: {TOKEN}}}]}}\n"
            "joining: {allow_loopback: true, accept: operator}\nprobes: {interval: 100ms, timeout: 60s}\n"
            "providers: {git: {allow_private_addresses: true}}\n"
        )

    configure("old")
    app = await make_app(load(path), path)
    gateway = await start.serving(app, keys["old"], tmp_path)
    fake = await start.member("newcomer")
    known = (await joined(gateway, fake)).keys
    for current, other in (("old", "new"), ("new", "old"), ("new", "")):
        configure(current, other)
        app[RELOAD]()
        answer = await report(gateway, fake)
        known = read_notice(notice_of(answer), known, member="newcomer").keys
        assert known == tuple(keys[name].public_key() for name in (current, other) if name)
        assert (await gateway.launch())[-1].phase is Phase.READY
        fake.claims(keys[current], time.time())
