"""What ``tiered`` keeps to, for any members: who holds the image, who has to build it."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from contract.repos import RepoKey
from gateway.core.policies import Option, Tier, tiered
from gateway.core.settings import RoutingSettings

ROUTING = RoutingSettings()

options = st.builds(
    lambda name, weight, limit, used, warm, pullable, builds: Option(
        name, weight, min(used, limit), limit, warm, pullable, builds
    ),
    st.text("abcdefgh", min_size=1, max_size=6),
    st.floats(0.1, 10),
    st.integers(1, 300),
    st.integers(0, 300),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
fleets = st.lists(options, min_size=1, max_size=8, unique_by=lambda option: option.name)
repos = st.text(min_size=1, max_size=10).map(RepoKey)


def order(members: list[Option], repo: RepoKey) -> list[str]:
    """The members' names, best first."""
    places = zip(tiered(members, repo, 0.5, ROUTING), members, strict=True)
    return [option.name for _, option in sorted(places, key=lambda item: (item[0][0], -item[0][1], item[1].name))]


@given(fleets, repos)
def test_of_those_that_hold_the_image_the_least_loaded_goes_first(members: list[Option], repo: RepoKey) -> None:
    places = dict(zip([option.name for option in members], tiered(members, repo, 0.5, ROUTING), strict=True))
    warm = [option for option in members if places[option.name][0] == Tier.WARM]
    # Exact, so that no rounding decides which of two almost equal loads is less.
    by_load = sorted(warm, key=lambda option: Fraction(option.used + 1) / Fraction(option.weight * option.limit))
    scores = [places[option.name][1] for option in by_load]
    assert scores == sorted(scores, reverse=True)


@given(fleets, repos, st.floats(1, 100))
def test_more_weight_never_costs_a_place(members: list[Option], repo: RepoKey, factor: float) -> None:
    before = order(members, repo)
    for option in members:
        heavier = [item._replace(weight=item.weight * factor) if item is option else item for item in members]
        assert order(heavier, repo).index(option.name) <= before.index(option.name)


@given(fleets, repos)
def test_in_an_idle_federation_a_member_that_goes_takes_only_its_own_along(
    members: list[Option], repo: RepoKey
) -> None:
    idle = [option._replace(used=0, limit=option.limit + 9) for option in members]
    before = order(idle, repo)
    for option in idle:
        rest = [item for item in idle if item is not option]
        assert order(rest, repo) == [name for name in before if name != option.name]


def test_what_must_be_built_goes_by_weight_and_not_by_limit() -> None:
    members = [Option("a", 1, 0, 300), Option("b", 1, 0, 60), Option("c", 2, 0, 60)]
    first = [order(members, RepoKey(f"repo-{n}"))[0] for n in range(4000)]
    for name, share in (("a", 1 / 4), ("b", 1 / 4), ("c", 1 / 2)):
        assert abs(first.count(name) / 4000 - share) < 0.03
