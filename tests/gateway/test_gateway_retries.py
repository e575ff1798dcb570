"""The retry budget, in virtual time."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.retries import SAVED, RetryBudget
from gateway.core.settings import LaunchSettings

SETTINGS = LaunchSettings(retry_share=0.2, retries_per_second=2.0)


def test_a_burst_is_let_through_and_what_is_beyond_it_keeps_its_turn() -> None:
    budget = RetryBudget(SETTINGS, 100.0)
    waits = [budget.spend(SETTINGS, 100.0) for _ in range(30)]
    assert waits[:20] == [0.0] * 20
    # Two a second from then on, in the order in which they came.
    assert waits[20:] == [n / 2 for n in range(1, 11)]
    assert budget.spend(SETTINGS, 200.0) == 0.0


def test_launches_allow_retries_in_proportion() -> None:
    budget = RetryBudget(SETTINGS, 0.0)
    for _ in range(50):
        budget.launched(SETTINGS)
    # What is saved up has a bound.
    assert sum(budget.spend(SETTINGS, 0.0) == 0.0 for _ in range(40)) == 20
    for _ in range(1000):
        budget.launched(SETTINGS)
        budget.spend(SETTINGS, 0.0)
    assert budget.spend(SETTINGS, 0.0) > 100


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 5), st.integers(0, 5)), max_size=50))
def test_retries_never_come_faster_than_the_budget_allows(steps: list[tuple[float, int, int]]) -> None:
    budget, now, launched = RetryBudget(SETTINGS, 0.0), 0.0, 0
    goes_on: list[float] = []
    for pause, launches, retries in steps:
        now += pause
        for _ in range(launches):
            budget.launched(SETTINGS)
        launched += launches
        goes_on += [now + budget.spend(SETTINGS, now) for _ in range(retries)]
    for at in goes_on:
        due = sum(other <= at for other in goes_on)
        assert due <= SETTINGS.retries_per_second * (SAVED + at) + SETTINGS.retry_share * launched + 1e-6


def test_a_turn_that_was_not_used_is_given_back() -> None:
    budget = RetryBudget(SETTINGS, 0.0)
    for _ in range(520):
        budget.spend(SETTINGS, 0.0)
    for _ in range(510):
        budget.give_back()
    assert budget.spend(SETTINGS, 0.0) == 0.0
