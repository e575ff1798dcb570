"""Build events: read tolerantly, written strictly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import MAX_MESSAGE, Failure, Phase, event, failed, parse_event

VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
FIELDS = st.dictionaries(st.text(min_size=1, max_size=10), VALUES, max_size=5)


@given(st.sampled_from(Phase), st.text(max_size=50), FIELDS)
def test_an_event_comes_back_as_it_was(phase: Phase, message: str, fields: dict[str, object]) -> None:
    fields = {name: value for name, value in fields.items() if value is not None and name not in ("phase", "message")}
    before = event(phase, message, **fields)
    after = parse_event(before.to_json())
    assert (after.phase, after.message, dict(after.fields)) == (phase, message, fields)


@pytest.mark.parametrize(
    ("wire", "phase"),
    [
        ({"phase": "READY"}, Phase.READY),
        ({"phase": "imagining"}, Phase.UNKNOWN),
        ({"phase": 3}, Phase.UNKNOWN),
        ({"message": "a line of repo2docker without a phase"}, Phase.UNKNOWN),
    ],
)
def test_phases_as_others_write_them(wire: dict[str, object], phase: Phase) -> None:
    assert parse_event(json.dumps(wire)).phase == phase


@pytest.mark.parametrize("data", ["", "[]", "3", "{", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_object_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_event(data)


def test_a_message_that_is_no_text_is_shown_as_it_is() -> None:
    assert parse_event('{"message": {"a": 1}}').message == '{"a":1}'


def test_an_overlong_line_is_cut_and_says_so() -> None:
    cut = event(Phase.BUILDING, "x" * 10_000_000).message
    assert len(cut) < MAX_MESSAGE + 100
    assert cut.endswith(f"({10_000_000 - MAX_MESSAGE} more characters of this line are not shown)\n")


def test_failures_say_whose_they_are() -> None:
    assert failed(Failure.USER, "no").failure == Failure.USER
    assert parse_event('{"phase": "failed", "failure": "the moon\'s"}').failure is None
    assert parse_event('{"phase": "failed"}').failure is None
    assert failed(Failure.MEMBER, "no").is_final
    assert not event(Phase.BUILT).is_final
