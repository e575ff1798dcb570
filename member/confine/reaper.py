"""Removes what sessions have left behind that could not do so themselves."""

import logging
import time
from pathlib import Path

from member.confine.files import Lock, remove_tree

logger = logging.getLogger(__name__)

#: A directory without a lock may be a session's that is just beginning.
_GRACE_S = 60.0


def sessions_dir(data_dir: Path) -> Path:
    """Where sessions have their directories."""
    return data_dir / "sessions"


def reap_sessions(data_dir: Path) -> int:
    """Remove the directories of sessions that have ended, however they did; returns how many."""
    directory = sessions_dir(data_dir)
    removed = 0
    for place in directory.iterdir() if directory.is_dir() else ():
        lock_file = place / "lock"
        try:
            young = time.time() - place.stat().st_mtime < _GRACE_S
        except OSError:
            continue
        if young and not lock_file.exists():
            continue
        lock = Lock.take(lock_file)
        if lock is None:
            continue
        try:
            remove_tree(place)
            removed += 1
        except OSError:
            logger.exception("what a session left behind stays")
        finally:
            lock.release()
    return removed
