"""The simulator: every launch ends once, nothing is overfilled, the same seed gives the same, and rules can be seen."""

import gzip
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.repos import RepoKey
from gateway.core.policies import POLICIES
from gateway.core.settings import RoutingSettings
from gateway.simulator.replay import _Replay, replay
from gateway.simulator.results import Ending, Results, quantile
from gateway.simulator.setup import Assumptions, Outage, Outages, Setup, Trouble
from gateway.simulator.trace import DAY, Arrival, Shape, TraceError, at_load, generate, read_trace

#: Troubles many times a day, so that short simulations meet them.
STORMY = Outages(every=1800, lasting=300, grey_every=1800, grey_lasting=300)

policies = st.sampled_from(sorted(POLICIES)).map(lambda name: RoutingSettings(policy=name))
arrivals = st.lists(
    st.builds(
        lambda at, repo, ref: Arrival(at, RepoKey(f"git.example/{repo}"), f"c{ref}"),
        st.floats(0, 4 * 3600),
        st.integers(0, 5),
        st.integers(0, 1),
    ),
    max_size=60,
).map(sorted)
setups = st.builds(
    Setup,
    limits=st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 1000),
    shared_registry=st.booleans(),
    outages=st.none() | st.just(STORMY),
    assumptions=st.builds(Assumptions, build_slots=st.integers(1, 3), images=st.integers(1, 6)),
    routing=policies,
)


@dataclass(frozen=True, slots=True)
class Troubled(Outages):
    """Troubles that are set out beforehand."""

    troubles: tuple[Outage, ...] = ()

    def schedule(self, members: int, until: float, seed: int) -> list[Outage]:  # noqa: ARG002 - as it is called
        """As set out."""
        return list(self.troubles)


def steady(count: int, every: float, repos: int) -> list[Arrival]:
    """Launches at even distances."""
    return [Arrival(n * every, RepoKey(f"git.example/{n % repos}"), "c") for n in range(count)]


@settings(deadline=None, max_examples=40)
@given(setups, arrivals)
def test_each_launch_ends_once_and_no_member_is_overfilled(setup: Setup, launches: list[Arrival]) -> None:
    results = replay(setup, launches)
    assert results.launches == len(launches)
    assert len(results.times_to_ready) == results.endings[Ending.READY]
    assert min(results.times_to_ready, default=10.0) >= setup.assumptions.start
    assert results.avoidable <= results.endings[Ending.REFUSED]
    for name, limit in zip(setup.names, setup.limits, strict=True):
        assert results.most[name] <= limit
    if setup.outages is None:
        assert (results.failovers, results.endings[Ending.FAILED], results.into_grey) == (0, 0, 0)
        assert results.builds <= results.attempts


@settings(deadline=None, max_examples=15)
@given(setups, arrivals)
def test_the_same_seed_gives_the_same(setup: Setup, launches: list[Arrival]) -> None:
    assert replay(setup, launches) == replay(setup, launches)


@settings(deadline=None, max_examples=25)
@given(setups, arrivals)
def test_reports_that_are_taken_in_only_when_needed_change_nothing(setup: Setup, launches: list[Arrival]) -> None:
    eager = _Replay(setup, launches)

    def look(now: float) -> None:
        for item in eager._all_believed:
            item.view(now)

    for second in range(int(launches[-1].at) if launches else 0):
        eager._timeline.schedule(float(second), look)
    assert eager.run() == replay(setup, launches)


def test_another_seed_gives_something_else() -> None:
    launches = steady(200, 30.0, 20)
    assert replay(Setup(seed=1), launches).times_to_ready != replay(Setup(seed=2), launches).times_to_ready


def test_no_launches_give_empty_results() -> None:
    wire = replay(Setup(), []).to_wire()
    assert (wire["launches"], wire["ready_p99_s"], wire["spread_p50"]) == (0, None, None)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_member_that_fails_everything_is_left(policy: str) -> None:
    launches = steady(2000, 3.0, 30)
    grey = Troubled(troubles=(Outage(0, Trouble.GREY, 600.0, 3600.0),))
    results = replay(Setup(limits=(300, 300, 300), outages=grey, routing=RoutingSettings(policy=policy)), launches)
    # Of the thousand launches of that time a third would have gone there.
    assert 3 <= results.into_grey <= 40
    assert results.endings == Counter({Ending.READY: 2000})
    assert results.failovers == results.into_grey


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.CUT_OFF])
def test_who_is_on_the_way_to_a_member_that_goes_away_arrives_elsewhere(trouble: Trouble) -> None:
    launches = steady(600, 2.0, 30)
    gone = Troubled(troubles=(Outage(1, trouble, 700.0, 1000.0),))
    setup = Setup(limits=(300, 300, 300), outages=gone, routing=RoutingSettings(policy="random"))
    results = replay(setup, launches)
    assert results.endings == Counter({Ending.READY: 600})
    assert results.failovers >= 1
    assert (results.lost_sessions > 0) == (trouble == Trouble.LOST)


def test_a_flash_crowd_leads_to_few_builds_spread_load_and_no_refusal() -> None:
    launches = [Arrival(3600 + n * 0.3, RepoKey("git.example/crowd"), "c") for n in range(200)]
    results = replay(Setup(limits=(120, 120, 120), outages=None), launches)
    assert results.endings == Counter({Ending.READY: 200})
    assert results.builds <= 3
    assert max(results.most.values()) <= 0.86 * 120
    shared = replay(Setup(limits=(120, 120, 120), outages=None, shared_registry=True), launches)
    assert shared.endings == Counter({Ending.READY: 200})
    assert shared.builds <= 3


def test_a_full_federation_refuses_and_none_of_it_was_avoidable() -> None:
    launches = [Arrival(float(n), RepoKey("git.example/r"), "c") for n in range(60)]
    results = replay(Setup(limits=(10, 5), outages=None), launches)
    assert results.endings[Ending.READY] == 15
    assert results.endings[Ending.REFUSED] == 45
    assert results.avoidable == 0
    assert results.most == {"member-1": 10, "member-2": 5}


def test_a_shared_registry_turns_builds_into_pulls() -> None:
    launches = steady(600, 20.0, 40)
    random = Setup(outages=None, routing=RoutingSettings(policy="random"))
    apart, shared = replay(random, launches), replay(replace(random, shared_registry=True), launches)
    assert apart.pulls == 0
    assert shared.builds < apart.builds
    assert shared.pulls > 0


def test_row_12_rendezvous_overloaded_one_member_and_random_rebuilt_everything_everywhere() -> None:
    launches = generate(1, seed=3)
    found = {
        name: replay(Setup(limits=(60, 60, 60), outages=None, routing=RoutingSettings(policy=name)), launches)
        for name in ("random", "rendezvous", "tiered")
    }
    # Locality and balance together.
    assert found["tiered"].builds < 0.75 * found["random"].builds
    assert found["tiered"].builds < found["rendezvous"].builds
    uneven = {name: results.to_wire()["spread_p50"] for name, results in found.items()}
    assert uneven["tiered"] < uneven["rendezvous"]
    assert uneven["tiered"] < 1.1


def write(path: Path, text: str) -> Path:
    """A trace, gzipped if its name says so."""
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


TRACE = "minute,repo,spec,demo\n0,1,1,0\n0,2,2,1\n5,1,3,0\n1500,4,5,0\n"


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz"])
def test_a_trace_is_read(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, TRACE)
    launches = read_trace(path, seed=7)
    assert [item.at // 60 for item in launches] == [0, 5, 1500]
    assert [item.commit for item in launches] == ["c1", "c3", "c5"]
    assert launches[0].repo == launches[1].repo == "git.example/7/1"
    assert len(read_trace(path, demo=True)) == 4
    assert len(read_trace(path, days=1)) == 2
    assert launches == read_trace(path, seed=7)
    assert [item.at for item in at_load(launches, 2.0)] == [item.at / 2 for item in launches]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "", "line 1 names no column 'minute'"),
        ("t.csv", "minute,repo,spec\n", "line 1 names no column 'demo'"),
        ("t.csv", TRACE + "1,2,x,0\n", "line 6 is not understood: '1,2,x,0'"),
        ("t.csv", TRACE + "1\n", "line 6 is not understood"),
        ("t.csv", TRACE + "-1,1,1,0\n", "before the first"),
        ("t.csv", "minute,repo,spec,demo\n", "has no launches"),
    ],
)
def test_a_trace_that_is_not_one(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read_trace(write(tmp_path / name, text))


def test_a_trace_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "plain.csv.gz").write_text(TRACE)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(TRACE.encode())[:-4])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("none.csv", "plain.csv.gz", "cut.csv.gz", "binary.csv"):
        with pytest.raises(TraceError, match="cannot be read"):
            read_trace(tmp_path / name)


def test_a_generated_trace_has_the_statistics_asked_for() -> None:
    launches = generate(7, seed=1)
    assert launches == generate(7, seed=1)
    assert launches != generate(7, seed=2)
    assert [item.at for item in launches] == sorted(item.at for item in launches)
    assert 4500 < len(launches) / 7 < 5600
    by_repo = sorted(Counter(item.repo for item in launches).values(), reverse=True)
    assert 0.09 < by_repo[0] / len(launches) < 0.2
    assert 0.3 < sum(by_repo[:10]) / len(launches) < 0.5
    assert 0.55 < sum(by_repo[:100]) / len(launches) < 0.78
    hours = Counter(int(item.at // 3600) % 24 for item in launches)
    assert 1.3 < max(hours.values()) * 24 / len(launches) < 1.7
    last: dict[tuple[str, str], float] = {}
    soon = day = 0
    for item in launches:
        since = item.at - last.get((item.repo, item.commit), float("-inf"))
        soon, day = soon + (since <= 600), day + (since <= DAY)
        last[item.repo, item.commit] = item.at
    assert 0.45 < soon / len(launches) < 0.62
    assert 0.82 < day / len(launches) < 0.95
    calm = Shape(crowds_per_day=0.0)
    assert len(generate(7, seed=1, shape=calm)) < len(launches)


def test_results_of_nothing_and_of_little() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert Results("tiered").to_wire()["refused_percent"] == 0
