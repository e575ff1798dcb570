"""Server-sent events survive any chunking and any line ending."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import sse

DATA = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r"), max_size=60)
IDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n\0"), max_size=20)


def _chunks(data: st.DataObject, whole: bytes) -> list[bytes]:
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=12).map(sorted))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def _parse(chunks: list[bytes]) -> list[sse.ServerSentEvent]:
    parser = sse.Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@given(st.lists(st.tuples(DATA, IDS), max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_what_is_written_is_read_wherever_it_is_cut(
    events: list[tuple[str, str]], line_end: str, data: st.DataObject
) -> None:
    text = b"".join(sse.encode(item, event_id=event_id) for item, event_id in events).decode()
    whole = text.replace("\n", line_end).encode()
    read = _parse(_chunks(data, whole))
    assert [(event.data, event.id) for event in read] == events


def test_comments_unknown_fields_and_empty_events_are_passed_over() -> None:
    stream = b":keepalive\n\nfoo: bar\n\nid: 7\n\ndata\n\ndata: x\ndata:y\nevent: z\n\n"
    assert _parse([stream]) == [
        sse.ServerSentEvent("", "message", "7"),
        sse.ServerSentEvent("x\ny", "z", "7"),
    ]


def test_a_byte_order_mark_a_retry_and_a_null_in_an_id() -> None:
    parser = sse.Parser()
    assert parser.feed("\ufeffid: a\0b\nretry: 1500\nretry: x\ndata: 1\n\n".encode()) == [sse.ServerSentEvent("1")]
    assert parser.retry_ms == 1500
    assert parser.last_event_id == ""


def test_what_is_not_ended_is_not_dispatched() -> None:
    assert _parse([b"data: half\n"]) == []


def test_an_id_counts_once_its_event_is_whole() -> None:
    parser = sse.Parser()
    parser.last_event_id = "a"
    assert parser.feed(b"data: 1\n\nid: b\nda") == [sse.ServerSentEvent("1", id="a")]
    # Cut here, a reconnect must ask for b again.
    assert parser.last_event_id == "a"
    assert parser.feed(b"ta: 2\n\n") == [sse.ServerSentEvent("2", id="b")]
    assert parser.last_event_id == "b"


def test_an_absurd_retry_is_passed_over() -> None:
    parser = sse.Parser()
    assert parser.feed(b"retry: 20\nretry: " + b"9" * 5000 + b"\n\n") == []
    assert parser.retry_ms == 20


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert _parse([b"data: \xff\n\n"]) == [sse.ServerSentEvent("\ufffd")]
    # What Python makes of a file name that is no UTF-8.
    assert _parse([sse.encode(b"caf\xe9".decode(errors="surrogateescape"))]) == [sse.ServerSentEvent("caf?")]


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_no_stream_crashes_the_parser(chunks: list[bytes]) -> None:
    parser = sse.Parser()
    assert [item for chunk in chunks for item in parser.feed(chunk)] == sse.Parser().feed(b"".join(chunks))


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 2000, b"data: x\n" * 1000])
def test_an_endless_event_is_refused(stream: bytes) -> None:
    parser = sse.Parser(max_bytes=1000)
    with pytest.raises(sse.StreamTooLongError, match="1000"):
        parser.feed(stream)


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b"])
def test_what_the_format_cannot_carry_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="id"):
        sse.encode("x", event_id=bad)


def test_a_carriage_return_in_data_does_not_forge_a_field() -> None:
    assert _parse([sse.encode("a\rid: forged")]) == [sse.ServerSentEvent("a\nid: forged")]
