"""The rules of ``decide``: properties that hold for every fleet."""

import string
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.rendezvous import uniform
from contract.reports import CapacityReport, Image, Sessions
from contract.repos import RepoKey
from gateway.core.decision import Decision, LaunchRequest, Standing, decide
from gateway.core.fleet import FleetSnapshot, Layer, Member, MemberView, Policy, Received, Reservation
from gateway.core.outcomes import Ejection, Outcomes
from gateway.core.policies import POLICIES, Option, Tier, tiered
from gateway.core.settings import HealthSettings, RoutingSettings, RuleSettings

NOW = 1000.0
HEALTH = HealthSettings()
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
    return FleetSnapshot(views, HEALTH)


def choose(
    snapshot: FleetSnapshot, repo: str, draw: float = 0.5, routing: RoutingSettings = ROUTING, **request: Any
) -> Decision:
    """The decision for a repository."""
    return decide(snapshot, LaunchRequest(RepoKey(repo), **request), routing, NOW, draw)


def order(decision: Decision) -> list[str]:
    """The candidates' names."""
    return [item.member for item in decision.candidates]


layers = st.builds(Layer, st.sampled_from([None, True, False]), st.just("It is broken."))
ejections = st.floats(-100, 100).map(lambda until: Outcomes(ejection=Ejection(NOW - 100, NOW + until, 1, "It failed.")))
policies = st.sampled_from(sorted(POLICIES)).map(lambda name: RoutingSettings(policy=name))
images = st.frozensets(st.tuples(st.sampled_from([RepoKey("a"), RepoKey("b")]), st.just("c")), max_size=2)


@st.composite
def views(draw: st.DrawFn, name: str) -> MemberView:
    """A member in any state."""
    view = up(name, draw(weights | st.just(0.0)), draw(st.none() | st.integers(0, 100)))
    received = view.received and replace(view.received, at=NOW - draw(st.sampled_from([0.0, 10.0, 100.0])))
    held = draw(images)
    return replace(
        view,
        received=received,
        reachable=draw(layers),
        passing=draw(layers),
        outcomes=draw(st.just(Outcomes()) | ejections),
        policy=draw(st.sampled_from(list(Policy))),
        returned_at=draw(st.none() | st.floats(NOW - 100, NOW)),
        warm=held,
        warm_repos=frozenset(repo for repo, _ in held),
        reservations=tuple(
            Reservation(f"launch-{n}", RepoKey("other"), "c", NOW) for n in range(draw(st.integers(0, 3)))
        ),
    )


fleets = st.lists(names, max_size=6, unique=True).flatmap(
    lambda chosen: st.tuples(*[views(name) for name in chosen]).map(lambda items: fleet(*items))
)


def idle(name: str, size: int, weight: float = 1.0) -> MemberView:
    """A healthy member of which nothing is taken."""
    report = CapacityReport(name, "boot", 0, NOW, "", sessions=Sessions(limit=size, free=size))
    return replace(up(name, weight), received=Received(report, NOW))


idle_fleets = st.lists(names, min_size=1, max_size=6, unique=True).flatmap(
    lambda chosen: st.tuples(*[st.builds(idle, st.just(name), st.integers(10, 300), weights) for name in chosen]).map(
        lambda items: fleet(*items)
    )
)


@given(fleets, repos, draws, policies)
def test_no_unavailable_member_is_chosen_while_one_in_rotation_has_room(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, routing: RoutingSettings
) -> None:
    decision = choose(snapshot, repo, draw, routing)
    statuses = {view.name: snapshot.status(view, NOW) for view in snapshot.members}
    if any(status.state == "available" for status in statuses.values()):
        assert decision.chosen is not None
        chosen = statuses[decision.chosen.member]
        assert chosen.available
        assert chosen.state == "available" or decision.chosen.standing == Standing.TRIAL
    assert {name for name, status in statuses.items() if status.available} <= set(order(decision))
    for item in decision.candidates:
        assert statuses[item.member].policy == Policy.ACTIVE
        assert statuses[item.member].health != "unreachable"
    mentioned = order(decision) + [item.member for item in decision.rejected]
    assert sorted(mentioned) == sorted(statuses)
    sentence = decision.explain()
    assert all(name in sentence for name in mentioned)
    assert all(item.reason for item in decision.rejected)


@given(fleets, repos, draws, policies, st.randoms())
def test_the_same_decision_whatever_the_order_of_the_members(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, routing: RoutingSettings, random: Any
) -> None:
    shuffled = list(snapshot.members)
    random.shuffle(shuffled)
    again = choose(replace(snapshot, members=tuple(shuffled)), repo, draw, routing)
    assert again == choose(snapshot, repo, draw, routing)


@given(idle_fleets, repos, draws, policies)
def test_removing_a_member_moves_only_its_own_repositories(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, routing: RoutingSettings
) -> None:
    before = order(choose(snapshot, repo, draw, routing))
    for view in snapshot.members:
        rest = fleet(*(other for other in snapshot.members if other is not view))
        after = order(choose(rest, repo, draw, routing))
        assert after == [name for name in before if name != view.name]


@given(fleets, repos, draws, policies)
def test_a_member_that_has_failed_a_launch_is_asked_last_and_the_others_as_before(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, routing: RoutingSettings
) -> None:
    for view in snapshot.members:
        tried = choose(snapshot, repo, draw, routing, tried=(view.name,))
        assert view.name not in order(tried)[:-1]
        refused = choose(snapshot, repo, draw, routing, refused=frozenset({view.name}))
        assert view.name not in order(refused)


@given(fleets, repos, draws, policies, st.floats(1, 100))
def test_more_weight_never_costs_a_member_a_place(
    snapshot: FleetSnapshot, repo: RepoKey, draw: float, routing: RoutingSettings, factor: float
) -> None:
    before = order(choose(snapshot, repo, draw, routing))
    for view in snapshot.members:
        if view.name not in before:
            continue
        heavier = replace(view, member=replace(view.member, weight=view.member.weight * factor))
        members = tuple(heavier if other is view else other for other in snapshot.members)
        after = order(choose(replace(snapshot, members=members), repo, draw, routing))
        assert after.index(view.name) <= before.index(view.name)


@given(repos, names)
def test_the_number_that_scores_are_made_of_is_strictly_between_zero_and_one(repo: RepoKey, name: str) -> None:
    assert 0 < uniform(repo, name) < 1


options = st.builds(
    lambda name, weight, limit, used, warm: Option(name, weight, min(used, limit), limit, warm),
    names,
    st.floats(0.1, 10),
    st.integers(1, 300),
    st.integers(0, 300),
    st.booleans(),
)


@given(st.lists(options, min_size=1, max_size=8, unique_by=lambda option: option.name), repos)
def test_a_cold_image_goes_to_no_member_above_its_bound(members: list[Option], repo: RepoKey) -> None:
    size = sum(option.weight * option.limit for option in members)
    load = sum(option.used for option in members) + 1
    for option, (tier, _) in zip(members, tiered(members, repo, 0.5, ROUTING), strict=True):
        fair = load * option.weight * option.limit / size
        if tier in (Tier.COLD, Tier.PULL):
            assert option.used + 1 <= max(1.25 * fair, 0.3 * option.limit) * (1 + 1e-9)
        if tier == Tier.WARM:
            assert option.warm
            assert option.used + 1 <= 0.85 * option.limit


def test_launches_spread_by_weight_and_free_capacity() -> None:
    snapshot = fleet(up("a", free=30), up("b", free=10), up("c", weight=2, free=10))
    count = 3000
    for policy in ("random", "rendezvous"):
        routing = RoutingSettings(policy=policy)
        draw = [uniform(str(n), "draw") for n in range(count)]
        first = [order(choose(snapshot, f"repo-{n}", draw[n], routing))[0] for n in range(count)]
        for name, share in (("a", 1 / 2), ("b", 1 / 6), ("c", 1 / 3)):
            assert abs(first.count(name) / count - share) < 0.04


def test_a_repository_stays_with_its_member_and_chance_does_not_move_it() -> None:
    snapshot = fleet(idle("a", 100), idle("b", 100), idle("c", 100))
    for policy in ("rendezvous", "tiered"):
        routing = RoutingSettings(policy=policy)
        assert len({order(choose(snapshot, "repo", n / 10, routing))[0] for n in range(10)}) == 1
    chance = {order(choose(snapshot, "repo", n / 100, RoutingSettings(policy="random")))[0] for n in range(100)}
    assert chance == {"a", "b", "c"}


def test_unknown_capacity_counts_by_weight() -> None:
    snapshot = fleet(idle("a", 20), up("b"), up("c", weight=2))
    first = [order(choose(snapshot, f"repo-{n}"))[0] for n in range(2000)]
    assert abs(first.count("a") / 2000 - 1 / 4) < 0.04
    assert abs(first.count("c") / 2000 - 2 / 4) < 0.04


def test_a_full_member_is_asked_last_and_one_that_is_down_never() -> None:
    down = up("down", free=50, reachable=Layer(False, "It could not be reached: connection refused."))
    decision = choose(fleet(down, up("full", weight=100, free=0), up("room", free=1)), "repo")
    assert [(item.member, item.standing) for item in decision.candidates] == [
        ("room", Standing.IN_ROTATION),
        ("full", Standing.FULL),
    ]
    assert decision.rejected[0].reason == "is unreachable: It could not be reached: connection refused"
    assert decision.rejected[0].for_now


def with_image(name: str, free: int, **changes: Any) -> MemberView:
    """A member that holds the image of the commit ``ccc…`` of ``repo``."""
    image = (RepoKey("repo"), "c" * 40)
    return replace(up(name, free=free, **changes), warm=frozenset({image}), warm_repos=frozenset({image[0]}))


def test_an_image_keeps_a_repository_where_it_is_until_little_is_free() -> None:
    def first(free: int) -> str:
        return order(choose(fleet(with_image("warm", free), up("cold", free=100)), "repo", commit="c" * 40))[0]

    assert {first(free) for free in range(100, 15, -1)} == {"warm"}
    assert {first(free) for free in range(15, 0, -1)} == {"cold"}


def test_who_shares_a_registry_with_a_holder_comes_before_who_must_build() -> None:
    registries = frozenset({"registry.example/federation"})
    holder = with_image("holder", 0, registries=registries)
    puller = up("puller", free=90, registries=registries)
    decision = choose(fleet(holder, puller, up("cold", weight=100, free=100)), "repo", commit="c" * 40)
    assert [(item.member, item.tier) for item in decision.candidates[:2]] == [
        ("puller", Tier.PULL),
        ("cold", Tier.COLD),
    ]


def test_a_crowd_on_one_repository_spreads_before_it_drowns_a_member() -> None:
    """200 launches in a minute: the image is built where it must be, and no member is filled while another has room."""
    members = {name: up(name, free=100) for name in ("a", "b", "c")}
    built: set[str] = set()
    for n in range(200):
        decision = choose(fleet(*members.values()), "repo", commit="c" * 40)
        assert decision.chosen is not None
        assert decision.chosen.standing == Standing.IN_ROTATION
        name = decision.chosen.member
        built |= set() if decision.chosen.warm else {name}
        launch = Reservation(f"launch-{n}", RepoKey("repo"), "c" * 40, NOW)
        members[name] = replace(members[name], reservations=(*members[name].reservations, launch))
    loads = sorted(len(view.reservations) for view in members.values())
    assert loads[-1] <= 85
    assert loads[0] >= 25
    assert built == {"a", "b", "c"}


def test_too_few_members_in_rotation_bring_ejected_ones_before_full_ones() -> None:
    out = Outcomes(ejection=Ejection(NOW - 1, NOW + 100, 1, "3 launches failed."))
    ejected = [up(name, free=50, outcomes=out) for name in ("x", "y")]
    room, full = up("room", free=1), up("room", free=0)
    assert order(choose(fleet(*ejected, room), "repo"))[0] == "room"
    panic = choose(fleet(*ejected, full), "repo")
    assert panic.panic
    assert [item.standing for item in panic.candidates] == [Standing.PANIC, Standing.PANIC, Standing.FULL]
    calm = choose(fleet(ejected[0], full, replace(full, member=replace(full.member, name="z"))), "repo")
    assert not calm.panic
    assert calm.candidates[-1].standing == Standing.LAST_RESORT


def test_an_ejected_member_gets_one_trial_launch_at_a_time() -> None:
    out = Outcomes(ejection=Ejection(NOW - 50, NOW - 10, 1, "3 launches failed."))
    back, other = up("back", free=50, outcomes=out), up("other", free=90)
    assert choose(fleet(back, other), "repo").candidates[0].standing == Standing.TRIAL
    busy = replace(back, reservations=(Reservation("trial", RepoKey("r"), "c", NOW - 5),))
    assert order(choose(fleet(busy, other), "repo")) == ["other", "back"]
    # Who has had one failure is not sent on trial.
    for request in ({"tried": ("third",)}, {"avoid": frozenset({"third"})}):
        assert order(choose(fleet(back, other), "repo", **request)) == ["other", "back"]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_slow_start_is_a_growing_share(policy: str) -> None:
    routing = RoutingSettings(policy=policy)

    def share(age: float) -> float:
        snapshot = fleet(replace(idle("back", 300), returned_at=NOW - age), idle("b", 300))
        draws = [uniform(str(n), "draw") for n in range(1000)]
        first = [order(choose(snapshot, f"repo-{n}", draw, routing))[0] for n, draw in enumerate(draws)]
        return first.count("back") / 1000

    shares = [share(age) for age in (0, 15, 30, 60)]
    for found, expected in zip(shares, (0.05, 0.125, 0.25, 0.5), strict=True):
        assert abs(found - expected) < 0.04
    alone = replace(up("back", free=10), returned_at=NOW)
    assert order(choose(fleet(alone), "repo")) == ["back"]


def test_rules_say_who_may_take_what() -> None:
    campus = replace(
        up("campus", free=50), member=replace(up("campus").member, labels={"site": "campus", "gpu": "a100"})
    )
    cloud = up("cloud", free=50)
    snapshot = fleet(campus, cloud)

    def chosen(*rules: RuleSettings, **request: Any) -> list[str]:
        return order(
            choose(snapshot, request.pop("repo", "git.example/r"), routing=RoutingSettings(rules=rules), **request)
        )

    only = RuleSettings("campus only", {"site": "campus"}, clients=("10.0.0.0/8",), effect="reserve")
    assert chosen(only, client="10.1.2.3") != ["cloud"]
    assert chosen(only, client="192.0.2.1") == ["cloud"]
    assert chosen(only, client="::ffff:10.1.2.3") != ["cloud"]
    assert chosen(only, client="not an address") == ["cloud"]
    gpu = RuleSettings("gpu", {"gpu": "*"}, repos=(r"git\.example/ml-",))
    assert chosen(gpu, repo="git.example/ML-course") == ["campus"]
    assert len(chosen(gpu, repo="git.example/other")) == 2
    docs = RuleSettings("docs", {"site": "campus"}, origins=("https://docs.example/",), effect="prefer")
    assert chosen(docs, origin="https://docs.example") == ["campus", "cloud"]
    rejected = choose(snapshot, "r", routing=RoutingSettings(rules=(only,)), client="192.0.2.1").rejected
    assert rejected[0].reason == "is kept for others by the rule 'campus only'"


def test_a_member_gets_only_what_its_providers_serve_and_what_visitors_ask_of_it() -> None:
    git_only = replace(up("a", free=50), member=replace(up("a").member, providers=("git",)))
    snapshot = fleet(git_only, up("b", free=50))
    assert order(choose(snapshot, "r", provider="gh")) == ["b"]
    assert sorted(order(choose(snapshot, "r", provider="git"))) == ["a", "b"]
    asked = choose(snapshot, "r", asked="a")
    assert order(asked) == ["a"]
    assert asked.rejected[0].reason == "is not a, which the visitor asks for"


def test_of_members_that_have_failed_a_launch_the_one_that_did_so_least_is_asked_again() -> None:
    snapshot = fleet(up("a", free=50), up("b", free=50))
    assert order(choose(snapshot, "r", tried=("a", "b", "a")))[0] == "b"
    assert order(choose(snapshot, "r", tried=("b", "a", "b")))[0] == "a"


def test_a_failure_that_the_visitor_has_just_had_outranks_where_it_was_last() -> None:
    snapshot = fleet(up("a", free=50), up("b", free=50), up("c", free=50))
    for name in ("a", "b", "c"):
        assert order(choose(snapshot, "r", sticky=name))[0] == name
        assert order(choose(snapshot, "r", sticky=name, avoid=frozenset({name})))[-1] == name


def test_what_is_on_its_way_counts_until_the_member_counts_it() -> None:
    view = up("a", free=2)
    launches = [Reservation(f"launch-{n}", RepoKey("repo"), "c", NOW) for n in range(2)]
    assert replace(view, reservations=tuple(launches)).free(NOW, HEALTH) == 0
    seen = tuple(replace(item, seen=True) for item in launches)
    assert replace(view, reservations=seen).free(NOW, HEALTH) == 2


def test_the_sentence_says_who_and_why_and_why_not() -> None:
    image = Image(RepoKey("repo"), "c" * 40)
    warm = replace(up("a", free=90), warm_repos=frozenset({image.repo}))
    down = up("b", reachable=Layer(False, "It did not answer within 2 s."))
    sentence = choose(fleet(warm, down), "repo").explain()
    assert sentence.startswith("a takes repo: it has the image, or builds it, has 90 of 100 sessions free and scores ")
    assert sentence.endswith("not asked: b (is unreachable: It did not answer within 2 s).")
    nobody = choose(fleet(down), "repo")
    assert nobody.chosen is None
    assert nobody.explain() == "Nobody can take repo; not asked: b (is unreachable: It did not answer within 2 s)."


def test_a_full_member_gets_no_trial_launch() -> None:
    back = Outcomes(ejection=Ejection(NOW - 100, NOW - 10, 1, "It failed."))
    roomy, full = up("a", free=5, outcomes=back), up("a", free=0, outcomes=back)
    assert order(choose(fleet(roomy, up("b", free=5)), "r")) == ["a", "b"]
    assert order(choose(fleet(full, up("b", free=5)), "r")) == ["b", "a"]
