"""Reading a container's log to its end over streams that break: each line once; pure."""

import re
from dataclasses import dataclass

_STAMP = re.compile(
    rb"(?P<date>\d{4}-\d\d-\d\d)T(?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d) ?"
)


@dataclass
class LogPosition:
    """Where in a log its reader is: the time of the last line that was read, and how many lines of that time were.

    A stream begins anew at a whole second, so that lines come again: each of them is left out once.  Times may go back
    (a node's clock is set), which matters only between two streams.
    """

    since: str = ""
    """What the next stream is to be asked for; empty before the first line."""
    _stamp: bytes = b""
    _same: int = 0
    _behind: bool = False
    _again: int = 0

    def reopen(self) -> None:
        """A new stream begins, from ``since``."""
        self._behind, self._again = bool(self._stamp), 0

    def take(self, line: bytes) -> str | None:
        """The text of a line that was not read before; ``None`` for any other, and for what is no line of the log."""
        match = _STAMP.match(line)
        if match is None:
            # The kubelet's own words between the lines, or the rest of a line that was cut.
            return None
        stamp = _normal(match)
        if self._behind and self._was_read(stamp):
            return None
        self._same = self._same + 1 if stamp == self._stamp else 1
        self._stamp = stamp
        self.since = f"{match['date'].decode()}T{match['time'].decode()}{match['zone'].decode()}"
        return line[match.end() :].decode(errors="replace")

    def _was_read(self, stamp: bytes) -> bool:
        if stamp < self._stamp:
            return True
        if stamp == self._stamp and self._again < self._same:
            self._again += 1
            return True
        self._behind = False
        return False


def _normal(match: re.Match[bytes]) -> bytes:
    # Within one log all times are of one zone, so that texts compare as times do.
    fraction = (match["fraction"] or b"").ljust(9, b"0")
    return b"%sT%s.%s" % (match["date"], match["time"], fraction)
