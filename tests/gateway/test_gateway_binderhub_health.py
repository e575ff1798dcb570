"""Any BinderHub as a member: what probes learn of it, and what is in the way of launches there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.reports import Sessions
from gateway.clients.binderhub_health import read_health
from gateway.clients.members import MAX_ANSWER
from tests.fakes.binderhub import SECRET
from tests.gateway.binderhubkit import PUBLIC_URL, Pair, pair

__all__ = ["pair"]


# Probes


@pytest.mark.parametrize(
    ("quota", "users", "expected"),
    [
        (10, 3, Sessions(3, 0, 10, 7)),
        (10, 10, Sessions(10, 0, 10, 0)),
        (10, 12, Sessions(12, 0, 10, 0)),
        (0, 0, Sessions(0, 0, 0, 0)),
        (0, 4, Sessions(4, 0, 0, 0)),
        (None, 3, None),
        (-1, 3, None),
        (10, -3, None),
        (True, 3, None),
        (10, True, None),
        (10**30, 3, None),
        (10, 10**30, None),
        (10.5, 3, None),
        ("10", 3, None),
        (10, None, None),
        ([10], 3, None),
    ],
)
async def test_a_probe_counts_sessions(pair: Pair, quota: Any, users: Any, expected: Sessions | None) -> None:
    pair.hub.knobs.quota, pair.hub.knobs.user_pods = quota, users
    result = await pair.client().probe(pair.member, 3)
    # Over quota or not: that check is for information.
    assert (result.reachable, result.passing, result.reason) == (True, True, "")
    assert result.sessions == expected
    assert [check.service for check in result.checks] == ["Docker registry", "JupyterHub API", "Pod quota"]


async def test_a_hub_that_is_not_on_kubernetes_counts_nothing(pair: Pair) -> None:
    pair.hub.knobs.has_quota = False
    result = await pair.client().probe(pair.member, 3, versions=True)
    assert (result.passing, result.sessions) == (True, None)
    assert result.versions["binderhub"] == "1.0.0"
    assert result.versions["builder_info.build_image"] == "quay.io/jupyterhub/repo2docker:2026"


async def test_a_failing_check_is_named_and_the_pod_quota_is_not(pair: Pair) -> None:
    pair.hub.knobs.hub_ok, pair.hub.knobs.user_pods = False, 12
    result = await pair.client().probe(pair.member, 3)
    assert (result.reachable, result.passing) == (True, False)
    assert result.reason == "It says that it is not healthy: JupyterHub API."
    assert result.sessions == Sessions(12, 0, 10, 0)


QUOTA_CHECK = {"service": "Pod quota", "ok": False, "quota": 1, "user_pods": 2, "_ignore_failure": True}


@pytest.mark.parametrize(
    ("status", "body", "passing", "reason"),
    [
        (503, json.dumps({"ok": False, "checks": [QUOTA_CHECK]}), True, ""),
        (200, json.dumps({"ok": False, "checks": [QUOTA_CHECK, 3, {"ok": False}]}), True, ""),
        (500, json.dumps({"ok": True, "checks": [QUOTA_CHECK]}), False, "HTTP 500"),
        (503, json.dumps({"ok": False, "checks": []}), False, "does not say what"),
        (503, json.dumps({"ok": False, "checks": [{"service": "Hub", "ok": True}]}), False, "does not say what"),
        (503, json.dumps({"ok": False, "checks": {"a": 1}}), False, "does not say what"),
        (503, "<html>", False, "HTTP 503 and no JSON"),
        (200, "<html>", False, "HTTP 200 and no JSON"),
        (200, "[" * 100_000, False, "no JSON"),
        (200, " " * (MAX_ANSWER + 1), False, "longer than"),
    ],
)
async def test_answers_to_a_probe(pair: Pair, status: int, body: str, passing: bool, reason: str) -> None:
    pair.hub.knobs.health = status, body
    result = await pair.client().probe(pair.member, 3)
    assert result.passing == passing
    assert reason in result.reason
    assert result.passing == (result.reason == "")


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["service", "ok", "quota", "user_pods", "_ignore_failure"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from([200, 500, 503]),
)
def test_whatever_checks_say_counts_stay_in_bounds(checks: Any, status: int) -> None:
    for listed in (checks, [checks], [{"service": "Pod quota", "quota": checks, "user_pods": checks}]):
        result = read_health(status, json.dumps({"ok": status == 200, "checks": listed}).encode(), {})
        if result.sessions is not None:
            assert result.sessions.limit is not None
            assert result.sessions.free is not None
            assert 0 <= result.sessions.free <= result.sessions.limit
            assert result.sessions.running >= 0


# Conformance


async def test_nothing_is_in_the_way(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    assert await pair.findings() == []
    assert pair.hub.builds == []
    assert pair.hub.counted == {}


async def test_without_a_secret_the_rate_limit_is_told(pair: Pair) -> None:
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    [(what, serious)] = await pair.findings()
    assert "only 10 launches an hour" in what
    assert "asked for a token" in what
    assert not serious
    pair.hub.knobs.page_token = False
    [(what, serious)] = await pair.findings()
    assert "only 10 launches an hour" in what
    assert serious
    pair.hub.knobs.rate_limit = 1
    [(what, serious)] = await pair.findings()
    assert "only few launches an hour" in what
    assert serious
    pair.hub.knobs.rate_limit = 0
    assert await pair.findings() == []
    assert pair.hub.builds == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ban": "a cloud"}, ("It refuses requests from this gateway's address.", True)),
        ({"login": True}, ("It asks visitors to log in.", True)),
        ({"build_status": 307}, ("It asks visitors to log in.", True)),
        ({"build_status": 403}, ("It refuses requests from this gateway's address.", True)),
        ({"build_status": 404}, ("Its /build answers HTTP 404 with text/plain instead", True)),
        ({"broken": True}, ("It fails builds before it looks at them: Internal Server Error.", True)),
        ({"badge_base_url": ""}, ("Badges and links made there lead to the member itself", False)),
        ({"badge_base_url": "https://other.example/"}, ("Badges and links made there", False)),
        ({"health": (404, "")}, ("Its /health answers HTTP 404 and nothing", True)),
        ({"health": (200, "<html>")}, ("Its /health answers HTTP 200 and nothing", True)),
        ({"has_versions": False}, ("Its /versions answers HTTP 200 and nothing", False)),
        ({"has_quota": False}, ("Its /health does not count sessions: how full it is stays unknown.", False)),
        ({"quota": None}, ("It has no pod quota: how full it is stays unknown.", False)),
        ({"quota": 0}, ("Its pod quota is 0: it takes no launches.", True)),
        ({"secret": "00" * 32}, ("It does not take build tokens signed with the build_token_secret", True)),
    ],
)
async def test_what_is_in_the_way(pair: Pair, changes: dict[str, Any], expected: tuple[str, bool]) -> None:
    pair.secrets["m"] = SECRET
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    for name, value in changes.items():
        setattr(pair.hub.knobs, name, value)
    [(what, serious)] = await pair.findings()
    assert what.startswith(expected[0])
    assert serious == expected[1]
    assert pair.hub.builds == []


async def test_a_hub_without_the_provider_that_most_have(pair: Pair) -> None:
    pair.hub.knobs.badge_base_url = PUBLIC_URL
    pair.hub.knobs.providers = ("git",)
    [(what, serious)] = await pair.findings()
    assert "asked for a token" in what
    assert not serious


async def test_badges_are_not_judged_where_the_gateways_address_is_not_known(pair: Pair) -> None:
    pair.secrets["m"] = SECRET
    assert await pair.findings("") == []


async def test_a_hub_that_hangs_is_a_finding(pair: Pair) -> None:
    pair.hub.knobs.page_hang = True
    [(what, serious)] = await pair.findings()
    assert (what, serious) == ("It did not answer within 3 s.", True)
