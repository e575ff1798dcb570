"""Server-sent events, written and read incrementally.

Source: the WHATWG HTML standard, "9.2.6 Interpreting an event stream".
"""

import codecs
from dataclasses import dataclass

#: The type that ``Accept`` must name and that a stream answers with.
CONTENT_TYPE = "text/event-stream"

#: What BinderHub sends while a stream is silent, so that proxies keep it open.
KEEPALIVE = b":keepalive\n\n"


#: Digits of a ``retry`` that is believed: ten days, in milliseconds.
_RETRY_DIGITS = 9


class StreamTooLongError(ValueError):
    """A peer sent an event larger than the parser was told to hold."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event as it was dispatched.

    ``id`` is the stream's last event id, which persists over events that carry none ("" before the first).
    """

    data: str
    event: str = "message"
    id: str = ""


def encode(data: str, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Write one event.

    Raises ``ValueError`` if ``event`` or ``event_id`` holds what the format cannot carry (a line break, or U+0000 in
    the id).  What is no Unicode text (a lone surrogate) becomes ``?``.
    """
    lines = []
    for name, value in (("id", event_id), ("event", event)):
        if value is not None:
            if any(character in value for character in "\r\n\0"):
                raise ValueError(f"a server-sent event's {name} cannot hold a line break or a null")
            lines.append(f"{name}: {value}")
    # A bare CR and a CRLF are line ends of the format, like LF: each begins a new data line.
    text = data.replace("\r\n", "\n").replace("\r", "\n")
    lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


def encode_retry(milliseconds: int) -> bytes:
    """Tell a client how long to wait before it connects again."""
    return f"retry: {milliseconds}\n\n".encode()


class Parser:
    """Reads a stream chunk by chunk, wherever the chunks are cut.

    ``max_bytes`` bounds what one event may hold before it is dispatched (its data and its longest line).
    ``retry_ms`` is the stream's latest value.  ``last_event_id`` is that of the latest event that was dispatched: a
    client that reconnects with it gets an event again that was cut in the middle.
    """

    def __init__(self, max_bytes: int = 1024 * 1024) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        self._id: str | None = None
        self._max = max_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._line: list[str] = []
        self._line_length = 0
        self._after_cr = False
        self._data: list[str] = []
        self._data_length = 0
        self._event = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take a chunk and return the events that it completes.

        Raises :class:`StreamTooLongError` if an event grows beyond the bound; the parser is of no use after that.
        """
        text = self._decode(chunk)
        if self._after_cr and text:
            self._after_cr = False
            text = text.removeprefix("\n")
        if text.endswith("\r"):
            self._after_cr = True
        *complete, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        events = []
        for part in complete:
            self._append(part)
            line = "".join(self._line)
            self._line, self._line_length = [], 0
            if line:
                self._field(line)
            elif (dispatched := self._dispatch()) is not None:
                events.append(dispatched)
        self._append(rest)
        return events

    def _append(self, part: str) -> None:
        if part:
            self._line.append(part)
            self._line_length += len(part)
            if self._line_length + self._data_length > self._max:
                raise StreamTooLongError(f"an event is longer than {self._max} bytes")

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._data_length += len(value) + 1
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) <= _RETRY_DIGITS:
                self.retry_ms = int(value)
            case _:  # a comment or an unknown field
                pass

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event
        if self._id is not None:
            self.last_event_id, self._id = self._id, None
        self._data, self._data_length, self._event = [], 0, ""
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self.last_event_id)
