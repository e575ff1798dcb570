"""Launch events in a file of this member's, for its operator: one JSON object a line, in files of bounded size."""

import json
import logging
import sys
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from member.core.launch_events import launch_event
from member.core.launching import Launch

logger = logging.getLogger(__name__)

#: Bytes of one file, and how many older ones are kept.
_MOST_BYTES = 10 * 2**20
_KEPT = 5


class _File(RotatingFileHandler):
    """Says once that it cannot be written to, on the log."""

    complained = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - the base class's
        """Called where a line could not be written."""
        if not self.complained:
            logger.error("launch events cannot be written to %s: %s", self.baseFilename, sys.exc_info()[1])
        self.complained = True


class LaunchLog:
    """Writes to ``path``; what cannot be written is lost, and costs no launch anything."""

    def __init__(self, path: Path, host_url: str) -> None:
        self._host_url = host_url
        # Nobody's logger: what other libraries do to loggers is no business of these events.
        self._file = _File(path, maxBytes=_MOST_BYTES, backupCount=_KEPT, encoding="utf-8", delay=True)

    def record(self, launch: Launch) -> None:
        """Take a launch that has ended."""
        now, ended_at = time.time(), launch.finished_at or 0.0
        timestamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        event = launch_event(launch, self._host_url, timestamp, ended_at - launch.begun_at)
        self._file.handle(logging.makeLogRecord({"msg": "%s", "args": (json.dumps(event),)}))

    def close(self) -> None:
        """Nothing follows."""
        self._file.close()
