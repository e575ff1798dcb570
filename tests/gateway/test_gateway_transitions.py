"""How belief in a member changes, in virtual time."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.launches import short
from contract.reports import CapacityReport, Image, Sessions
from contract.repos import RepoKey
from gateway.core.fleet import CapacityState, Health, Member, MemberView, Policy, Reservation
from gateway.core.settings import ProbeSettings
from gateway.core.transitions import (
    ProbeResult,
    StaleReportError,
    check_report,
    probed,
    released,
    reported,
    reserved,
    settled,
    unreached,
)

SETTINGS = ProbeSettings()
GOOD = ProbeResult(True, True)
REFUSED = ProbeResult(False, False, "It could not be reached: connection refused.")
BROKEN = ProbeResult(True, False, "It says that it is not healthy: JupyterHub API.")
NEW = MemberView(Member("m", "http://m/"), since=0.0)


def after(*results: ProbeResult, settings: ProbeSettings = SETTINGS) -> MemberView:
    """A member after probes at 1, 2, 3… seconds."""
    view = NEW
    for second, result in enumerate(results, start=1):
        view = probed(view, result, float(second), settings)
    return view


def report(seq: int = 0, sent_at: float = 100.0, **changes: Any) -> CapacityReport:
    """A report."""
    fields: dict[str, Any] = {"boot_id": "b1", "sessions": Sessions(limit=10, free=4), **changes}
    return CapacityReport("m", seq=seq, sent_at=sent_at, public_url="", **fields)


def test_nothing_is_assumed_of_a_member_before_its_first_probe() -> None:
    status = NEW.status(5, SETTINGS)
    assert (status.health, status.available, status.state) == (Health.UNKNOWN, False, "unknown")
    assert status.reasons == ("It has not been probed yet.",)


def test_the_first_probe_counts_and_later_ones_need_to_agree() -> None:
    assert after(REFUSED).health == Health.UNREACHABLE
    assert after(GOOD).health == Health.HEALTHY
    assert after(GOOD, REFUSED).health == Health.HEALTHY
    down = after(GOOD, REFUSED, REFUSED)
    assert (down.health, down.since, down.state) == (Health.UNREACHABLE, 3.0, "unreachable")
    assert after(GOOD, REFUSED, GOOD, REFUSED).health == Health.HEALTHY
    back = after(GOOD, REFUSED, REFUSED, GOOD)
    assert (back.health, back.since) == (Health.HEALTHY, 4.0)


def test_a_member_that_says_it_is_broken_is_failing_and_not_unreachable() -> None:
    view = after(GOOD, BROKEN, BROKEN)
    status = view.status(3, SETTINGS)
    assert (status.health, status.state, status.reasons) == (Health.FAILING, "failing", (BROKEN.reason,))
    assert after(GOOD, BROKEN, BROKEN, REFUSED, REFUSED).health == Health.UNREACHABLE
    assert after(GOOD, BROKEN, BROKEN, REFUSED, REFUSED, GOOD).health == Health.HEALTHY


@given(st.lists(st.sampled_from([GOOD, REFUSED, BROKEN]), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_hysteresis(results: list[ProbeResult], down: int, up: int) -> None:
    settings = ProbeSettings(unhealthy_after=down, healthy_after=up)
    for length in range(1, len(results)):
        before = after(*results[:length], settings=settings)
        now = after(*results[: length + 1], settings=settings)
        if before.reachable.ok != now.reachable.ok:
            needed = up if now.reachable.ok else down
            recent = results[max(0, length + 1 - needed) : length + 1]
            assert len({result.reachable for result in recent}) == 1
            assert len(recent) == needed
        assert now.state == now.status(float(length + 1), settings).state


def test_a_launch_that_could_not_reach_it_counts_as_a_probe() -> None:
    view = unreached(after(GOOD, REFUSED), "It broke the stream.", 2.1, SETTINGS)
    assert (view.health, view.since) == (Health.UNREACHABLE, 2.1)


def test_full_is_not_down() -> None:
    view = reported(after(GOOD), report(sessions=Sessions(running=10, limit=10, free=0)), 100, SETTINGS)
    status = view.status(100, SETTINGS)
    assert (status.health, status.capacity, status.available) == (Health.HEALTHY, CapacityState.FULL, True)
    assert (status.state, view.since) == ("full", 100)


def test_reports_expire() -> None:
    view = reported(after(GOOD), report(sessions=Sessions(running=10, limit=10, free=0)), 100, SETTINGS)
    assert settled(view, 115, SETTINGS).state == "full"
    expired = settled(view, 115.1, SETTINGS)
    status = expired.status(116, SETTINGS)
    assert (expired.state, expired.since, status.capacity) == ("available", 115.1, CapacityState.UNKNOWN)
    assert status.reasons == ("Its last capacity report came 16 s ago and has expired.",)


def test_a_member_drains_itself() -> None:
    status = reported(after(GOOD), report(draining=True), 100, SETTINGS).status(100, SETTINGS)
    assert (status.policy, status.available, status.state) == (Policy.DRAINING, False, "draining")
    assert status.reasons == ("It drains itself.",)
    weightless = replace(after(GOOD), member=replace(NEW.member, weight=0)).status(2, SETTINGS)
    assert (weightless.policy, weightless.reasons) == (Policy.DRAINING, ("Its weight is 0.",))
    suspended = replace(after(GOOD), policy=Policy.SUSPENDED).status(2, SETTINGS)
    assert (suspended.state, suspended.available) == ("suspended", False)


def test_a_launch_counts_until_a_report_counts_it() -> None:
    launch = "0" * 32
    view = reported(after(GOOD), report(0), 100, SETTINGS)
    view = reserved(view, Reservation(short(launch), RepoKey("r"), "c", 101), 101, SETTINGS)
    assert view.free(101, SETTINGS) == 3
    assert reported(view, report(1), 102, SETTINGS).free(102, SETTINGS) == 3
    seen = reported(view, report(1, launches_seen=(launch,)), 102, SETTINGS)
    assert seen.free(102, SETTINGS) == 4
    assert seen.holds(RepoKey("r"), "c")
    ready = released(view, short(launch), True, 103, SETTINGS)
    assert ready.free(103, SETTINGS) == 3
    assert reported(ready, report(2), 104, SETTINGS).reservations == ()
    assert released(view, short(launch), False, 103, SETTINGS).free(103, SETTINGS) == 4
    assert settled(ready, 200, SETTINGS).reservations == ()


def test_images_make_a_member_warm() -> None:
    image = Image(RepoKey("git.example/r"), "c" * 40)
    view = reported(after(GOOD), report(images=(image,), versions={"manybinder": "1"}), 100, SETTINGS)
    assert view.holds(image.repo, image.commit)
    assert view.holds(image.repo, None)
    assert not view.holds(image.repo, "d" * 40)
    assert view.versions["manybinder"] == "1"


@pytest.mark.parametrize(
    ("changes", "wall", "said"),
    [
        ({"seq": 5}, 100.0, "seen before"),
        ({"seq": 4}, 100.0, "seen before"),
        ({"seq": 6, "sent_at": 120.0}, 100.0, "from the future"),
        ({"seq": 6, "sent_at": 80.0}, 100.0, "too old"),
        ({"seq": 0, "boot_id": "b0", "sent_at": 99.0}, 100.0, "earlier start"),
        ({"seq": 6, "sent_at": 101.0}, 100.0, None),
        ({"seq": 0, "boot_id": "b2", "sent_at": 101.0}, 100.0, None),
    ],
)
def test_only_new_reports_are_believed(changes: dict[str, Any], wall: float, said: str | None) -> None:
    view = reported(after(GOOD), report(5), 100, SETTINGS)
    if said is None:
        check_report(view, report(**changes), wall, SETTINGS)
    else:
        with pytest.raises(StaleReportError, match=said):
            check_report(view, report(**changes), wall, SETTINGS)
