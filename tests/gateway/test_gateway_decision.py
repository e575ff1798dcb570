"""The rules of ``decide``: properties that hold for every fleet."""

import itertools
import string
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contract.reports import CapacityReport, Image, Sessions
from contract.repos import RepoKey
from gateway.core.decision import Decision, LaunchRequest, Tier, decide
from gateway.core.fleet import FleetSnapshot, Layer, Member, MemberView, Policy, Received, Reservation
from gateway.core.policies import uniform
from gateway.core.settings import ProbeSettings, RoutingSettings

NOW = 1000.0
PROBES = ProbeSettings()
ROUTING = RoutingSettings()

names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
repos = st.text(min_size=1, max_size=20).map(RepoKey)
weights = st.floats(0.01, 1000)
draws = st.floats(0, 1, exclude_max=True)


def up(name: str, weight: float = 1.0, free: int | None = None, **changes: Any) -> MemberView:
    """A healthy member."""
    view = MemberView(
        Member(name, f"http://{name}/", weight=weight), since=0.0, reachable=Layer(True), passing=Layer(True)
    )
    if free is not None:
        report = CapacityReport(name, "boot", 0, NOW, "", sessions=Sessions(limit=100, free=free))
        view = replace(view, received=Received(report, NOW))
    return replace(view, **changes)


def fleet(*views: MemberView) -> FleetSnapshot:
    """A snapshot of them."""
    return FleetSnapshot(views, PROBES)


def choose(snapshot: FleetSnapshot, repo: str, draw: float = 0.5, **request: Any) -> Decision:
    """The decision for a repository."""
    return decide(snapshot, LaunchRequest(RepoKey(repo), **request), ROUTING, NOW, draw)


layers = st.builds(Layer, st.sampled_from([None, True, False]), st.just("It is broken."))


@st.composite
def views(draw: st.DrawFn, name: str) -> MemberView:
    """A member in any state."""
    view = up(name, draw(weights | st.just(0.0)), draw(st.none() | st.integers(0, 100)))
    received = view.received and replace(view.received, at=NOW - draw(st.sampled_from([0.0, 10.0, 100.0])))
    return replace(
        view,
        received=received,
        reachable=draw(layers),
        passing=draw(layers),
        policy=draw(st.sampled_from(list(Policy))),
        slow_start=draw(st.floats(0.01, 1)),
        reservations=tuple(
            Reservation(f"launch-{n}", RepoKey("other"), "c", NOW) for n in range(draw(st.integers(0, 3)))
        ),
    )


fleets = st.lists(names, max_size=6, unique=True).flatmap(
    lambda chosen: st.tuples(*[views(name) for name in chosen]).map(lambda items: fleet(*items))
)


@given(fleets, repos, draws)
def test_no_unavailable_member_is_chosen_while_an_available_one_exists(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float
) -> None:
    decision = choose(snapshot, repo, draw)
    available = {view.name for view in snapshot.members if snapshot.status(view, NOW).available}
    order = [item.member in available for item in decision.candidates]
    assert order == sorted(order, reverse=True)
    assert available <= {item.member for item in decision.candidates}
    mentioned = [item.member for item in decision.candidates] + [item.member for item in decision.rejected]
    assert sorted(mentioned) == sorted(view.name for view in snapshot.members)
    sentence = decision.explain()
    assert all(name in sentence for name in mentioned)
    assert all(item.reason for item in decision.rejected)


@given(fleets, repos, draws)
def test_full_members_come_after_those_with_room(snapshot: FleetSnapshot, repo: RepoKey, draw: float) -> None:
    tiers = [item.tier for item in choose(snapshot, repo, draw).candidates]
    assert tiers == sorted(tiers)


@given(fleets, repos, draws, st.randoms())
def test_the_same_decision_whatever_the_order_of_the_members(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, random: Any
) -> None:
    shuffled = list(snapshot.members)
    random.shuffle(shuffled)
    again = choose(replace(snapshot, members=tuple(shuffled)), repo, draw)
    assert again == choose(snapshot, repo, draw)


@given(fleets, repos, draws)
def test_removing_a_member_moves_only_its_own_repositories(snapshot: FleetSnapshot, repo: RepoKey, draw: float) -> None:
    before = [item.member for item in choose(snapshot, repo, draw).candidates]
    for view in snapshot.members:
        rest = fleet(*(other for other in snapshot.members if other is not view))
        after = [item.member for item in choose(rest, repo, draw).candidates]
        assert after == [name for name in before if name != view.name]
        tried = choose(snapshot, repo, draw, tried=frozenset({view.name}))
        assert [item.member for item in tried.candidates] == after


@given(fleets, repos, draws, st.floats(1, 100))
def test_more_weight_never_costs_a_member_a_place(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, factor: float
) -> None:
    before = [item.member for item in choose(snapshot, repo, draw).candidates]
    for view in snapshot.members:
        if view.name not in before:
            continue
        heavier = replace(view, member=replace(view.member, weight=view.member.weight * factor))
        members = tuple(heavier if other is view else other for other in snapshot.members)
        after = [item.member for item in choose(replace(snapshot, members=members), repo, draw).candidates]
        assert after.index(view.name) <= before.index(view.name)


@given(repos, names)
def test_the_number_that_scores_are_made_of_is_strictly_between_zero_and_one(repo: RepoKey, name: str) -> None:
    assert 0 < uniform(repo, name) < 1


def test_repositories_spread_by_weight_and_free_capacity() -> None:
    snapshot = fleet(up("a", free=30), up("b", free=10), up("c", weight=2, free=10))
    count = 3000
    first = [choose(snapshot, f"repo-{n}").candidates[0].member for n in range(count)]
    for name, share in (("a", 1 / 2), ("b", 1 / 6), ("c", 1 / 3)):
        assert abs(first.count(name) / count - share) < 0.04


def test_unknown_capacity_counts_by_weight() -> None:
    snapshot = fleet(up("a", free=10), up("b"), up("c", weight=2))
    first = [choose(snapshot, f"repo-{n}").candidates[0].member for n in range(2000)]
    assert abs(first.count("a") / 2000 - 1 / 4) < 0.04
    assert abs(first.count("c") / 2000 - 1 / 2) < 0.04


def test_a_full_member_is_asked_last_and_one_that_is_down_never() -> None:
    down = up("down", free=50, reachable=Layer(False, "It could not be reached: connection refused."))
    decision = choose(fleet(down, up("full", weight=100, free=0), up("room", free=1)), "repo")
    assert [(item.member, item.tier) for item in decision.candidates] == [("room", Tier.ROOM), ("full", Tier.FULL)]
    assert decision.rejected[0].reason == "unreachable: It could not be reached: connection refused"


def test_an_image_keeps_a_repository_where_it_is_until_little_is_free() -> None:
    def with_image(free: int) -> MemberView:
        image = (RepoKey("repo"), "c" * 40)
        return replace(up("warm", free=free), warm=frozenset({image}), warm_repos=frozenset({image[0]}))

    moved = [
        choose(fleet(with_image(free), up("cold", free=40)), "repo", commit="c" * 40).candidates[0].member
        for free in range(40, 0, -1)
    ]
    stays = list(itertools.takewhile(lambda name: name == "warm", moved))
    assert len(stays) >= 20
    assert moved[-1] == "cold"


def test_what_is_on_its_way_counts_until_the_member_counts_it() -> None:
    view = up("a", free=2)
    launches = [Reservation(f"launch-{n}", RepoKey("repo"), "c", NOW) for n in range(2)]
    assert replace(view, reservations=tuple(launches)).free(NOW, PROBES) == 0
    seen = tuple(replace(item, seen=True) for item in launches)
    assert replace(view, reservations=seen).free(NOW, PROBES) == 2


def test_the_sentence_says_who_and_why_and_why_not() -> None:
    image = Image(RepoKey("repo"), "c" * 40)
    warm = replace(up("a", free=9), warm_repos=frozenset({image.repo}))
    down = up("b", reachable=Layer(False, "It did not answer within 2 s."))
    sentence = choose(fleet(warm, down), "repo").explain()
    assert sentence.startswith(
        "a takes repo: it has an image of it, or builds one, has 9 of 100 sessions free and scores "
    )
    assert sentence.endswith("not asked: b (unreachable: It did not answer within 2 s).")
    nobody = choose(fleet(down), "repo")
    assert nobody.chosen is None
    assert nobody.explain() == "Nobody can take repo; not asked: b (unreachable: It did not answer within 2 s)."
