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
from gateway.core.outcomes import Attempt
from gateway.core.settings import EjectionSettings, HealthSettings, ProbeSettings
from gateway.core.transitions import (
    KEEP_HISTORY,
    ProbeResult,
    StaleReportError,
    check_report,
    failed,
    probed,
    refused,
    released,
    reported,
    reserved,
    settled,
    succeeded,
    unreached,
)

SETTINGS = HealthSettings()
GOOD = ProbeResult(True, True)
REFUSED = ProbeResult(False, False, "It could not be reached: connection refused.")
BROKEN = ProbeResult(True, False, "It says that it is not healthy: JupyterHub API.")
NEW = MemberView(Member("m", "http://m/"), since=0.0)


def after(*results: ProbeResult, settings: HealthSettings = SETTINGS) -> MemberView:
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
    assert NEW.reasons(5, SETTINGS) == ("It has not been probed yet.",)


def test_the_first_probe_counts_and_later_ones_need_to_agree() -> None:
    assert after(REFUSED).settled_health == Health.UNREACHABLE
    assert after(GOOD).settled_health == Health.HEALTHY
    assert after(GOOD, REFUSED).settled_health == Health.HEALTHY
    down = after(GOOD, REFUSED, REFUSED)
    assert (down.settled_health, down.since, down.state) == (Health.UNREACHABLE, 3.0, "unreachable")
    assert after(GOOD, REFUSED, GOOD, REFUSED).settled_health == Health.HEALTHY
    back = after(GOOD, REFUSED, REFUSED, GOOD)
    assert (back.settled_health, back.since) == (Health.HEALTHY, 4.0)


def test_a_member_that_says_it_is_broken_is_failing_and_not_unreachable() -> None:
    view = after(GOOD, BROKEN, BROKEN)
    status = view.status(3, SETTINGS)
    assert (status.health, status.state, view.reasons(3, SETTINGS)) == (Health.FAILING, "failing", (BROKEN.reason,))
    assert after(GOOD, BROKEN, BROKEN, REFUSED, REFUSED).settled_health == Health.UNREACHABLE
    assert after(GOOD, BROKEN, BROKEN, REFUSED, REFUSED, GOOD).settled_health == Health.HEALTHY


@given(st.lists(st.sampled_from([GOOD, REFUSED, BROKEN]), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_hysteresis(results: list[ProbeResult], down: int, up: int) -> None:
    settings = HealthSettings(ProbeSettings(unhealthy_after=down, healthy_after=up))
    for length in range(1, len(results)):
        before = after(*results[:length], settings=settings)
        now = after(*results[: length + 1], settings=settings)
        if before.reachable.ok != now.reachable.ok:
            needed = up if now.reachable.ok else down
            recent = results[max(0, length + 1 - needed) : length + 1]
            assert len({result.reachable for result in recent}) == 1
            assert len(recent) == needed
        assert now.state == now.status(float(length + 1), settings).state


def test_a_member_that_returns_is_not_taken_for_what_it_was_before_it_went() -> None:
    broken = after(GOOD, REFUSED, REFUSED, BROKEN)
    assert (broken.state, broken.reasons(4, SETTINGS)) == ("failing", (BROKEN.reason,))
    assert [item.after for item in broken.history] == ["available", "unreachable", "failing"]
    mended = after(BROKEN, REFUSED, REFUSED, GOOD, settings=HealthSettings(ProbeSettings(healthy_after=1)))
    assert mended.state == "available"


def test_a_launch_that_could_not_reach_it_counts_as_a_probe() -> None:
    view = unreached(after(GOOD, REFUSED), "It broke the stream.", 2.1, SETTINGS)
    assert (view.settled_health, view.since) == (Health.UNREACHABLE, 2.1)


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
    assert expired.reasons(116, SETTINGS) == ("Its last capacity report came 16 s ago and has expired.",)


def test_a_member_drains_itself() -> None:
    drained = reported(after(GOOD), report(draining=True), 100, SETTINGS)
    status = drained.status(100, SETTINGS)
    assert (status.policy, status.available, status.state) == (Policy.DRAINING, False, "draining")
    assert drained.reasons(100, SETTINGS) == ("It drains itself.",)
    weightless = replace(after(GOOD), member=replace(NEW.member, weight=0))
    assert weightless.status(2, SETTINGS).policy == Policy.DRAINING
    assert weightless.reasons(2, SETTINGS) == ("Its weight is 0.",)
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


def launch(begun_at: float, repo: str = "r", name: str = "") -> Attempt:
    """A launch of its own."""
    return Attempt(begun_at, RepoKey(repo), name or f"launch-{begun_at}")


def failing_launches(view: MemberView, *times: float, settings: HealthSettings = SETTINGS) -> MemberView:
    """After launches that failed at these times, each begun a second before."""
    for at in times:
        view = failed(view, "It broke the stream.", launch(at - 1), at, 0.5, settings, sure=True)
    return view


def test_a_member_whose_launches_fail_leaves_rotation_and_returns_by_a_trial() -> None:
    view = failing_launches(after(GOOD), 10, 12)
    assert view.state == "available"
    view = failing_launches(view, 14)
    assert (view.state, view.since) == ("ejected", 14)
    assert view.reasons(20, SETTINGS) == (
        "3 launches in a row failed there: It broke the stream.",
        "It is tried again in 24 s.",
    )
    view = settled(probed(view, GOOD, 43.9, SETTINGS), 43.9, SETTINGS)
    assert view.state == "ejected"
    half_open = settled(view, 44, SETTINGS)
    assert half_open.state == "half_open"
    assert not half_open.on_trial(44)
    trial = reserved(half_open, Reservation("t", RepoKey("r"), "c", 45), 45, SETTINGS)
    assert trial.on_trial(100)
    assert not trial.on_trial(106)
    good = succeeded(released(trial, "t", True, 50, SETTINGS), launch(45), 50, SETTINGS)
    assert (good.state, good.returned_at) == ("available", 50)
    assert good.slow_start(50, SETTINGS) == 0.1
    assert good.slow_start(80, SETTINGS) == 0.5
    assert good.slow_start(110, SETTINGS) == 1.0
    assert [(item.before, item.after) for item in good.history] == [
        ("unknown", "available"),
        ("available", "ejected"),
        ("ejected", "half_open"),
        ("half_open", "available"),
    ]
    assert all(item.reason for item in good.history)
    assert good.history[-1].reason == "A trial launch has succeeded."


def test_each_ejection_in_a_row_lasts_longer_up_to_a_bound() -> None:
    view, lengths, now = failing_launches(after(GOOD), 10, 12, 14), [], 14.0
    for _ in range(12):
        ejection = view.outcomes.ejection
        assert ejection is not None
        lengths.append(ejection.until - ejection.at)
        now = ejection.until + 5
        view = failing_launches(settled(view, now - 2, SETTINGS), now)
    assert lengths[:4] == pytest.approx([30, 60, 90, 120])
    assert lengths[-1] == pytest.approx(300)
    # Well for long enough, it starts from the beginning; before that, where it was.
    for well, length in ((500.0, 300.0), (700.0, 30.0)):
        back = succeeded(view, launch(now + 400), now + 410, SETTINGS)
        assert back.outcomes.ejection is None
        again = failing_launches(back, *(now + 410 + well + n for n in (2, 4, 6)))
        assert again.outcomes.ejection is not None
        assert again.outcomes.ejection.until - again.outcomes.ejection.at == pytest.approx(length)


def test_what_kills_many_launches_at_once_has_happened_once() -> None:
    view = failing_launches(after(GOOD), *(10 + n / 100 for n in range(50)))
    assert view.state == "available"
    assert failing_launches(view, 12, 14).state == "ejected"


def test_successes_between_failures_keep_a_member_until_most_fail() -> None:
    view = after(GOOD)
    for n in range(20):
        at = 10.0 + 4 * n
        view = succeeded(failing_launches(view, at), launch(at), at + 2, SETTINGS)
    assert view.state == "available"
    for n in range(2):
        at = 500.0 + 8 * n
        view = succeeded(failing_launches(view, at, at + 2), launch(at + 3), at + 4, SETTINGS)
    view = failing_launches(view, 520)
    assert view.state == "ejected"
    assert view.reasons(520, SETTINGS)[0] == "5 of 7 launches failed there: It broke the stream."


def test_failures_in_a_row_count_however_rarely_a_launch_goes_there() -> None:
    view = failing_launches(after(GOOD), 10, 1000)
    assert view.state == "available"
    assert failing_launches(view, 2000).state == "ejected"
    well = succeeded(view, launch(1500), 1500, SETTINGS)
    assert failing_launches(well, 2000, 3000).state == "available"


def test_a_repository_whose_server_never_starts_ejects_nobody() -> None:
    view = after(GOOD)
    for n in range(30):
        view = failed(
            view, "The server did not start.", launch(10 + 2 * n, "bad"), 11 + 2 * n, 0.5, SETTINGS, sure=False
        )
    assert view.state == "available"
    # What became ready elsewhere was this member's failure after all, each launch once.
    for n in range(2):
        view = failed(
            view, "The server did not start.", launch(10 + 2 * n, "bad"), 80 + 2 * n, 0.5, SETTINGS, sure=True
        )
    assert view.state == "available"
    view = failed(view, "The server did not start.", launch(18, "bad"), 84, 0.5, SETTINGS, sure=True)
    assert view.state == "ejected"
    # Nor does it keep one out that is back on trial.
    on_trial = settled(view, 120, SETTINGS)
    assert failed(on_trial, "The server did not start.", launch(121, "bad"), 125, 0.5, SETTINGS, sure=False) == on_trial


def test_launches_of_several_repositories_that_do_not_start_eject_a_member_at_once() -> None:
    view = after(GOOD)
    for n in range(3):
        view = failed(view, "The server did not start.", launch(10, f"r{n}"), 11, 0.5, SETTINGS, sure=False)
    assert view.state == "ejected"


def test_launches_from_before_an_ejection_say_nothing_new() -> None:
    view = failing_launches(after(GOOD), 10, 12, 14)
    assert succeeded(view, launch(9), 20, SETTINGS).state == "ejected"
    assert failed(view, "It hung.", launch(13), 20, 0.5, SETTINGS, sure=True) == view
    assert succeeded(view, launch(15), 20, SETTINGS).state == "available"


@given(st.lists(st.tuples(st.floats(0.1, 200), st.booleans(), st.booleans()), max_size=60), st.floats(0, 0.999))
def test_an_ejected_member_always_gets_another_chance(steps: list[tuple[float, bool, bool]], draw: float) -> None:
    settings = HealthSettings(ejection=EjectionSettings(max_time=100))
    view, now = after(GOOD), 10.0
    for pause, ok, sure in steps:
        now += pause
        if ok:
            view = succeeded(view, launch(now - 0.05), now, settings)
        else:
            view = failed(view, "It failed.", launch(now - 0.05), now, draw, settings, sure=sure)
        assert view.state == view.status(now, settings).state
        assert view.health(now + 111) in (Health.HEALTHY, Health.HALF_OPEN)


def test_a_member_that_returns_starts_slowly_and_one_that_was_there_from_the_start_does_not() -> None:
    assert after(GOOD).slow_start(1, SETTINGS) == 1.0
    back = after(GOOD, REFUSED, REFUSED, GOOD)
    assert (back.returned_at, back.slow_start(4, SETTINGS)) == (4.0, 0.1)
    assert "slowly at first" in back.reasons(10, SETTINGS)[0]
    mended = after(GOOD, BROKEN, BROKEN, GOOD)
    assert (mended.returned_at, mended.history[-1].reason) == (4.0, "Its checks pass again.")


def test_what_befalls_a_member_that_drains_stands_in_its_history() -> None:
    view = settled(replace(after(GOOD), policy=Policy.DRAINING), 2, SETTINGS)
    for at, result in ((3, REFUSED), (4, REFUSED), (5, GOOD), (6, GOOD)):
        view = probed(view, result, at, SETTINGS)
    assert (view.state, view.since) == ("draining", 2)
    assert [(item.at, item.after, item.reason) for item in view.history[-3:]] == [
        (2, "draining", "An operator has set it to draining: it gets no new launches."),
        (4, "draining", f"An operator has set it to draining: it gets no new launches. {REFUSED.reason}"),
        (5, "draining", "It answers again."),
    ]


def test_a_member_that_starts_with_its_gateway_does_not_start_slowly_the_first_time() -> None:
    starting = replace(NEW, starting_until=60.0)
    view = probed(probed(probed(starting, REFUSED, 0, SETTINGS), BROKEN, 1, SETTINGS), GOOD, 10, SETTINGS)
    view = probed(probed(view, GOOD, 11, SETTINGS), GOOD, 12, SETTINGS)
    assert (view.state, view.returned_at, view.starting_until) == ("available", None, None)
    again = probed(probed(view, REFUSED, 20, SETTINGS), REFUSED, 21, SETTINGS)
    assert probed(again, GOOD, 22, SETTINGS).returned_at == 22
    late = probed(probed(starting, REFUSED, 0, SETTINGS), GOOD, 61, SETTINGS)
    assert late.returned_at == 61


def test_a_refusal_for_want_of_room_makes_it_full_until_it_reports() -> None:
    view = refused(reported(after(GOOD), report(0), 100, SETTINGS), 101, SETTINGS)
    assert (view.state, view.free(101, SETTINGS)) == ("full", 0)
    assert reported(view, report(1), 102, SETTINGS).state == "available"
    assert settled(view, 116, SETTINGS).state == "available"


def test_sessions_that_a_probe_counts_stand_for_a_report() -> None:
    view = after(GOOD, replace(GOOD, sessions=Sessions(running=3, limit=5, free=2)))
    assert view.free(2, SETTINGS) == 2
    view = reserved(view, Reservation("l", RepoKey("r"), "c", 3), 3, SETTINGS)
    ready = released(view, "l", True, 4, SETTINGS)
    assert ready.free(5, SETTINGS) == 1
    assert settled(ready, 65, SETTINGS).reservations == ()
    assert view.status(30, SETTINGS).capacity == CapacityState.UNKNOWN


def test_a_binderhubs_ready_sessions_count_once() -> None:
    counts = replace(GOOD, sessions=Sessions(running=0, limit=10, free=10))
    view = probed(NEW, counts, 1, SETTINGS)
    for n in range(5):
        view = reserved(view, Reservation(f"l{n}", RepoKey("r"), "c", 2), 2, SETTINGS)
        view = released(view, f"l{n}", True, 5, SETTINGS)
    taken = replace(GOOD, sessions=Sessions(running=5, limit=10, free=5))
    # Its count may be a minute old.
    for at in (10, 30, 64):
        view = probed(view, taken, at, SETTINGS)
        assert view.free(at, SETTINGS) == 0
    assert probed(view, taken, 66, SETTINGS).free(66, SETTINGS) == 5


def test_a_binderhub_that_counts_no_more_is_of_unknown_capacity_at_once() -> None:
    full = replace(GOOD, sessions=Sessions(running=10, limit=10, free=0))
    view = probed(probed(NEW, full, 1, SETTINGS), GOOD, 2, SETTINGS)
    assert (view.state, view.status(2, SETTINGS).capacity) == ("available", CapacityState.UNKNOWN)
    # One that did not answer has not taken it back.
    assert probed(probed(NEW, full, 1, SETTINGS), REFUSED, 2, SETTINGS).free(2, SETTINGS) == 0


def test_a_member_drains_itself_for_as_long_as_it_says_so() -> None:
    view = reported(after(GOOD), report(draining=True), 100, SETTINGS)
    assert (view.status(101, SETTINGS).policy, view.reasons(101, SETTINGS)[0]) == (Policy.DRAINING, "It drains itself.")
    assert settled(view, 200, SETTINGS).status(200, SETTINGS).policy == Policy.ACTIVE


def test_what_a_member_calls_its_versions_does_not_pile_up() -> None:
    view = NEW
    for n in range(50):
        view = probed(view, replace(GOOD, versions={f"part-{n}": "1"}), n, SETTINGS)
        view = reported(view, report(n, versions={f"piece-{n}": "1"}), n, SETTINGS)
    assert view.versions == {"part-49": "1", "piece-49": "1"}
    assert probed(view, GOOD, 60, SETTINGS).versions == view.versions


def test_launches_sent_to_an_ejected_member_for_want_of_others_do_not_lengthen_its_ejection() -> None:
    view = failing_launches(after(GOOD), 10, 12, 14)
    assert failed(view, "It hung.", launch(20), 25, 0.5, SETTINGS, sure=True) == view
    trial = failed(view, "It hung.", launch(45), 50, 0.5, SETTINGS, sure=True)
    assert trial.outcomes.ejection is not None
    assert trial.outcomes.ejection.times == 2


def test_a_member_near_its_limit_does_not_drown_its_history() -> None:
    view = failing_launches(after(GOOD), 10, 12, 14)
    view = succeeded(view, launch(50), 60, SETTINGS)
    for n in range(500):
        view = reported(view, report(n, sessions=Sessions(limit=10, free=n % 2)), 100 + n, SETTINGS)
        assert view.history[-1].after == view.state
    assert "ejected" in [item.after for item in view.history]
    assert len(view.history) < 10


def test_of_a_long_history_the_latest_transitions_are_kept() -> None:
    view = after(GOOD)
    for n in range(2, 500, 3):
        for at, result in ((n, REFUSED), (n + 1, REFUSED), (n + 2, GOOD)):
            view = probed(view, result, at, SETTINGS)
    assert len(view.history) == KEEP_HISTORY
    assert [(item.at, item.after) for item in view.history[-2:]] == [(498, "unreachable"), (499, "available")]
