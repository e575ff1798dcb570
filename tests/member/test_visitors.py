"""Visitors who come to a member directly: how often, from where, and who may not."""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from contract.bans import make_ban
from contract.events import Failure, Phase
from contract.launches import event_id
from frontend.tokens import make_build_token
from member.admission_settings import RateLimitSettings
from member.core.rates import Rates
from member.settings import MemberSettings
from servicekit.config import ConfigError, parse
from tests.member.web_harness import DIRECT, Member, member_of, read

PROXY = {"trusted": ("127.0.0.0/8",)}


def by(client: str) -> dict[str, str]:
    """As a proxy in front says whom it is asked by."""
    return {"X-Forwarded-For": client}


@given(st.integers(1, 20), st.floats(0.1, 1000), st.lists(st.floats(0, 500), max_size=60))
def test_nobody_launches_more_often_than_allowed(burst: int, interval: float, pauses: list[float]) -> None:
    rates, now, passed = Rates(burst, interval), 1000.0, []
    for pause in pauses:
        now += pause
        taken = rates.take("visitor", now)
        if taken.wait_s == 0:
            passed.append(now)
            assert 0 <= taken.left < burst
        else:
            # Waiting as told is enough.
            assert Rates(burst, interval, dict(rates._full_at)).take("visitor", now + taken.wait_s + 0.001).wait_s == 0
    for n, begin in enumerate(passed):
        within = [at for at in passed[n:] if at < begin + interval * 0.999]
        assert len(within) <= burst + 1
    assert len(passed) <= burst + (passed[-1] - passed[0]) / interval + 1 if passed else True


def test_a_visitor_is_a_network_as_wide_as_the_settings_say() -> None:
    rate = RateLimitSettings(ipv4_prefix=24, ipv6_prefix=48, exempt=("192.0.2.0/24",))
    assert rate.visitor("203.0.113.9") == rate.visitor("203.0.113.200") != rate.visitor("203.0.114.9")
    assert rate.visitor("2001:db8:1::1") == rate.visitor("2001:db8:1:ff::1") != rate.visitor("2001:db8:2::1")
    assert rate.visitor("192.0.2.7") is None
    assert RateLimitSettings(launches=0).visitor("203.0.113.9") is None


async def test_scripts_are_limited_and_pages_are_not(tmp_path: Path) -> None:
    rate = {"launches": 2, "per": "1h"}
    async with member_of(tmp_path, federated=False, required=False, rate=rate, **PROXY) as member:
        member.engines.hub.page = 200
        for left in (1, 0):
            async with member.stream(by("203.0.113.9"), spec=DIRECT) as response:
                assert response.headers["X-RateLimit-Limit"] == "2"
                assert response.headers["X-RateLimit-Remaining"] == str(left)
                assert float(response.headers["X-RateLimit-Reset"]) == pytest.approx(
                    time.time() + 1800 * (2 - left), abs=60
                )
                items = [item async for item in read(response)]
            assert items[-1][1].phase == Phase.READY
        event = await member.refusal(by("203.0.113.9"), spec=DIRECT)
        assert (event.failure, event.fields["status_code"]) == (Failure.REFUSED, 429)
        assert event.message.startswith("Rate limit exceeded. Try again in 1")
        assert 1700 < event.fields["retry_after_s"] <= 1800
        # A stream that goes on is no launch; a page's token is not counted, nor is somebody else.
        async with member.stream({**by("203.0.113.9"), "Last-Event-ID": items[-1][0]}, spec=DIRECT) as response:
            assert response.status == 204
        assert await launched(member, "203.0.113.9", token=True)
        assert await launched(member, "203.0.113.10")
        # One network of IPv6 is one visitor.
        assert await launched(member, "2001:db8::1")
        assert await launched(member, "2001:db8::2")
        assert not await launched(member, "2001:db8::3")


async def launched(member: Member, client: str, *, token: bool = False) -> bool:
    query = ""
    if token:
        query = f"?build_token={make_build_token(member.secret, DIRECT, URL(member.url).authority, time.time())}"
    return (await member.events(by(client), spec=DIRECT, query=query))[-1][1].phase == Phase.READY


async def test_who_is_not_behind_a_trusted_proxy_is_who_has_connected(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False, rate={"exempt": []}) as member:
        last = (await member.events(by("203.0.113.9"), spec=DIRECT))[-1][1]
        assert last.fields["binder_client_ip"] == "127.0.0.1"
    async with member_of(tmp_path / "2", federated=False, required=False, **PROXY) as member:
        last = (await member.events(by("evil, 203.0.113.9"), spec=DIRECT))[-1][1]
        assert last.fields["binder_client_ip"] == "203.0.113.9"


async def test_a_gateways_launches_are_not_limited_here(tmp_path: Path) -> None:
    async with member_of(tmp_path, rate={"launches": 1, "exempt": []}) as member:
        for _ in range(3):
            assert (await member.events(member.bearer(member.claims())))[-1][1].phase == Phase.READY


async def test_bans_of_the_operator_count_and_a_network_before_all_else(tmp_path: Path) -> None:
    bans = (make_ban("network", "203.0.113.0/24"), make_ban("owner", "git.example/spammer"))
    async with member_of(tmp_path, federated=False, required=False, bans=bans, **PROXY) as member:
        for spec in (DIRECT, "nowhere/org/repo"):
            event = await member.refusal({**by("203.0.113.9"), "Accept": "text/event-stream"}, spec=spec)
            assert event.message == "Requests from 203.0.113.0/24 are not allowed\n"
            assert event.fields["status_code"] == 403
        assert await launched(member, "203.0.114.9")
    async with member_of(tmp_path / "2", bans=bans) as member:
        event = await member.refusal(member.bearer(member.claims(repo_url="https://git.example/spammer/x")))
        assert event.message.startswith("Sorry, ")
        assert event_id("0" * 32, 0) not in event.message


def test_settings_that_cannot_be_are_told_with_their_path() -> None:
    text = """
schema: 1
name: m
listen: {port: 9001, trusted_proxies: [nonsense]}
public_url: http://127.0.0.1:9001/
data_dir: /tmp/m
hub: {url: "http://127.0.0.1:9/", public_url: "http://127.0.0.1:9/", api_token: t}
admission:
  rate_limit: {launches: -1, exempt: [x]}
  bans: [{kind: network, value: everywhere}, {kind: thing, value: x}]
"""
    with pytest.raises(ConfigError) as caught:
        parse(MemberSettings, text, "member.yaml", {})
    problems = "\n".join(caught.value.problems)
    for path in (
        "listen.trusted_proxies",
        "admission.rate_limit.launches",
        "admission.rate_limit.exempt",
        "admission.bans",
        "everywhere",
    ):
        assert path in problems, problems
