"""Durations, sizes, launch ids."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import launches
from contract.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("1h30m", 5400), ("7d", 604800), ("0.5s", 0.5), (" 2m ", 120)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512Mi", 2**29), ("2Gi", 2**31), ("10G", 10**10), ("1.5k", 1500)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("parse", [parse_duration, parse_size])
def test_a_number_beyond_all_numbers(parse: Callable[[str], float]) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse("9" * 400 + ("s" if parse is parse_duration else "Gi"))


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "10 parsecs", "1e3s", "NaN", "10s!", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "2gib", "1 Gi", "two"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


def test_sizes_for_people() -> None:
    assert [format_size(size) for size in (0, 1023, 1024, 1.5 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "1.5 GiB"]


@given(st.binary(min_size=16, max_size=16), st.integers(0, 10**9 - 1))
def test_event_ids(entropy: bytes, n: int) -> None:
    launch = launches.launch_id(entropy)
    assert launches.is_launch_id(launch)
    assert launches.parse_event_id(launches.event_id(launch, n)) == (launch, n)
    assert launches.short(launch) not in launch


@given(st.text(max_size=50))
def test_what_is_no_event_id(text: str) -> None:
    parsed = launches.parse_event_id(text)
    assert parsed is None or launches.event_id(*parsed) == text


def test_a_launch_id_needs_its_bits() -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        launches.launch_id(b"few")
