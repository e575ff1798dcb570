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


@pytest.mark.parametrize(
    "data",
    [
        "",
        "[]",
        "3",
        "{",
        '{"a": NaN}',
        '{"a": [-1e999]}',
        "[" * 100_000,
        '{"a":' + "[" * 200 + "]" * 200 + "}",
        b"\xff",
    ],
)
def test_what_is_no_object_is_refused(data: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_event(data)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?", fullmatch=True))
def test_every_number_that_is_read_can_be_passed_on(number: str) -> None:
    try:
        read = parse_event(f'{{"phase":"building","progress":{number}}}')
    except ValueError:
        return
    assert parse_event(read.to_json()) == read


def test_many_brackets_side_by_side_are_no_depth() -> None:
    wide = {"phase": "built", "list": [[] for _ in range(500)], "text": "[" * 500}
    assert parse_event(json.dumps(wide)).fields["list"] == wide["list"]


def test_a_message_that_is_no_text_is_shown_as_it_is() -> None:
    assert parse_event('{"message": {"a": 1}}').message == '{"a":1}'
    assert parse_event('{"message": null}').message == ""


@pytest.mark.parametrize("name", ["self", "fields", "item", "failure", "cls"])
def test_a_field_may_have_any_name(name: str) -> None:
    assert parse_event(json.dumps({"phase": "built", name: "x"})).fields == {name: "x"}


def test_half_a_character_cannot_break_who_passes_it_on() -> None:
    read = parse_event(r'{"phase":"building","message":"a\ud800b \ud83d\ude00","\udfff":["\udc00"]}')
    assert (read.message, dict(read.fields)) == ("a?b 😀", {"?": ["?"]})
    read.to_json().encode()


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
