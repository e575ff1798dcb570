"""How long launches of a repository usually take."""

from contract.events import BuildEvent, Phase, event
from contract.repos import RepoKey
from gateway.core.durations import MOST_LAUNCHES, MOST_REPOS, Durations, Stretches

REPO = RepoKey("github.com/org/repo")


def taken(*events: tuple[float, BuildEvent]) -> dict[str, float]:
    stretches = Stretches()
    for at, item in events:
        stretches.heard(item, at)
    return stretches.taken


def test_stretches_of_a_launch_that_builds() -> None:
    assert taken(
        (0, event(Phase.WAITING)),
        (10, event(Phase.FETCHING)),
        (15, event(Phase.BUILDING)),
        (16, event(Phase.UNKNOWN, "a line\n")),
        (60, event(Phase.BUILT)),
        (61, event(Phase.LAUNCHING)),
        (70, event(Phase.READY)),
    ) == {"building": 50, "launching": 10}


def test_a_queue_says_nothing_of_the_repository() -> None:
    assert taken(
        (0, event(Phase.BUILT)),
        (2, event(Phase.LAUNCHING, position=3)),
        (50, event(Phase.LAUNCHING, position=1)),
        (80, event(Phase.LAUNCHING)),
        (86, event(Phase.READY)),
    ) == {"launching": 8}


def test_a_failure_teaches_nothing() -> None:
    assert taken((0, event(Phase.BUILDING)), (9, event(Phase.LAUNCHING)), (10, event(Phase.FAILED))) == {}


def test_the_median_of_the_last() -> None:
    durations = Durations()
    assert durations.usual(REPO) == {}
    for seconds in (1000.0,) * MOST_LAUNCHES + (10.0,) * MOST_LAUNCHES:
        durations.note(REPO, {"building": seconds})
    assert durations.usual(REPO) == {"building": 10.0}
    durations.note(REPO, {})
    assert durations.usual(REPO) == {"building": 10.0}


def test_no_more_repositories_than_there_is_room_for() -> None:
    durations = Durations()
    for number in range(MOST_REPOS + 1):
        durations.note(RepoKey(f"h/{number}"), {"launching": 1.0})
    assert durations.usual(RepoKey("h/0")) == {}
    assert durations.usual(RepoKey("h/1")) == {"launching": 1.0}
