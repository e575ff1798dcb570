"""The decisions and transitions that this replica has seen, on its own disk (SQLite): the latest so many of each.

Calls block, for as long as a disk takes: make them in a thread, one at a time.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from contract.json_types import dumps, loads_object
from gateway.core.log import Entry, Query

#: Entries of a kind that are kept; a decision takes about half a kilobyte.
KEEP = 100_000

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, at REAL NOT NULL, name TEXT NOT NULL, member TEXT NOT NULL,
    repo TEXT NOT NULL, body TEXT NOT NULL
)
"""
_INDEX = "CREATE INDEX IF NOT EXISTS entries_by_kind ON entries (kind, at)"
_INSERT = "INSERT INTO entries (kind, at, name, member, repo, body) VALUES (?, ?, ?, ?, ?, ?)"
_PRUNE = """
DELETE FROM entries WHERE kind = ? AND id <= (
    SELECT id FROM entries WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?
)
"""
# A repository's key, or all keys below an owner's: from "key/" to "key0", the character after "/".
_FIND = """
SELECT kind, at, name, member, repo, body FROM entries
WHERE kind = :kind AND at >= :since AND (:member = '' OR member = :member)
    AND (:repo = '' OR repo = :repo OR (repo >= :repo || '/' AND repo < :repo || '0'))
ORDER BY at DESC, id DESC LIMIT :limit
"""


class LogFileError(RuntimeError):
    """The file cannot be used; the text names it and says why."""


class LogFile:
    """One file; raises :class:`LogFileError` if it cannot be opened."""

    def __init__(self, path: Path, keep: int = KEEP) -> None:
        self._path, self._keep = path, keep
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            path.chmod(0o600)
            # What a crash may cost is the last second's entries, not the file.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_TABLE)
            self._connection.execute(_INDEX)
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise LogFileError(f"{path}: cannot be used: {error}") from error

    def add(self, entries: Iterable[Entry]) -> None:
        """Append entries, and drop the oldest beyond what is kept; raises :class:`LogFileError`."""
        rows = [
            (item.kind, item.at, item.name, item.member, item.repo.encode(errors="replace").decode(), dumps(item.body))
            for item in entries
        ]
        try:
            with self._connection:
                self._connection.executemany(_INSERT, rows)
                for kind in {row[0] for row in rows}:
                    self._connection.execute(_PRUNE, (kind, kind, self._keep))
        except sqlite3.Error as error:
            raise LogFileError(f"{self._path}: cannot be written: {error}") from error

    def find(self, query: Query) -> list[Entry]:
        """The latest entries that are wanted, of each kind so many; raises :class:`LogFileError`."""
        given = {"since": query.since, "member": query.member, "repo": query.repo, "limit": query.limit}
        found: list[Entry] = []
        try:
            for kind in query.kinds:
                rows = self._connection.execute(_FIND, {"kind": kind, **given})
                found += [
                    Entry(kind, at, name, member, repo, body=loads_object(body))
                    for kind, at, name, member, repo, body in rows
                ]
        except (sqlite3.Error, ValueError) as error:
            raise LogFileError(f"{self._path}: cannot be read: {error}") from error
        return found

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
