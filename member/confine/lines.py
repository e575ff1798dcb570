"""Cuts the output of a program into lines, as they appear, in bounded memory."""

#: Bytes that are kept of one line.
MAX_LINE = 16 * 1024


class LineSplitter:
    """Takes chunks of bytes and returns complete lines, without their ends.

    A carriage return ends a line too; of the lines that such a progress display writes over each other, only the
    last one in a chunk is returned.  A line beyond ``max_line`` bytes is cut and says so.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max = max_line
        self._kept = bytearray()
        self._dropped = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that this chunk completes."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if chunk.endswith(b"\r"):
            self._after_cr = True
        lines: list[str] = []
        rows = chunk.replace(b"\r\n", b"\n").split(b"\n")
        for number, row in enumerate(rows):
            *overwritten, last = row.split(b"\r")
            if overwritten:
                self._keep(overwritten[0])
                first = self._take()
                lines.append(_shown(overwritten[1:], first))
                if not last and number < len(rows) - 1:
                    continue  # a display that ends with its last state, then a new line
            self._keep(last)
            if number < len(rows) - 1:
                lines.append(self._take())
        return lines

    def flush(self) -> list[str]:
        """The rest, when the output has ended."""
        return [self._take()] if self._kept or self._dropped else []

    def _keep(self, part: bytes) -> None:
        room = self._max - len(self._kept)
        self._kept += part[:room]
        self._dropped += max(0, len(part) - room)

    def _take(self) -> str:
        text = bytes(self._kept).decode(errors="replace")
        if self._dropped:
            text += f"… ({self._dropped} more bytes of this line are not shown)"
        self._kept.clear()
        self._dropped = 0
        return text


def _shown(later: list[bytes], first: str) -> str:
    for part in reversed(later):
        if part:
            return part[:MAX_LINE].decode(errors="replace")
    return first
