"""The records on this replica's own disk (SQLite), where they outlive it and every store.

Calls block, for as long as a disk takes: make them in a thread.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from gateway.core.records import Record, dump_record, load_record

#: The version of the tables; a file of the next version can be read, for tables only ever grow.
VERSION = 1

_TABLE = "CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, stamp TEXT NOT NULL, body BLOB NOT NULL)"
_UPSERT = """
INSERT INTO records (name, stamp, body) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET stamp = excluded.stamp, body = excluded.body WHERE excluded.stamp > records.stamp
"""


class RecordFileError(RuntimeError):
    """The file cannot be used; the text names it and says why."""


class RecordFile:
    """One file; raises :class:`RecordFileError` if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=10)
            path.chmod(0o600)
            # What an operator was told is done must be on the disk.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA journal_mode = WAL")
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found > VERSION + 1:
                raise RecordFileError(f"{path}: was written by a version of this program that is too far ahead")
            self._connection.execute(_TABLE)
            if not found:
                self._connection.execute(f"PRAGMA user_version = {VERSION}")
            self._connection.commit()
        except (OSError, sqlite3.Error) as error:
            raise RecordFileError(f"{path}: cannot be used: {error}") from error

    def load(self) -> list[Record]:
        """All records; raises :class:`RecordFileError`."""
        try:
            return [load_record(body) for (body,) in self._connection.execute("SELECT body FROM records")]
        except (sqlite3.Error, ValueError) as error:
            raise RecordFileError(f"{self._path}: cannot be read: {error}") from error

    def save(self, records: Iterable[Record]) -> None:
        """Keep the latest writings; older ones than what is there change nothing.  Raises :class:`RecordFileError`."""
        rows = [(record.name, record.stamp, dump_record(record)) for record in records]
        try:
            with self._connection:
                self._connection.executemany(_UPSERT, rows)
        except sqlite3.Error as error:
            raise RecordFileError(f"{self._path}: cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
