"""Keeps the records: on this replica's disk, in step with the other replicas through the shared state.

Every replica holds all of them, so each can refill a store that was emptied; and none needs the store to serve.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from gateway.clients.record_file import RecordFile, RecordFileError
from gateway.clients.state.protocol import (
    RECORDS_AT_ONCE,
    RecordCursor,
    SharedState,
    StateUnavailableError,
    StoredRecord,
)
from gateway.core.ports import RecordsAwayError
from gateway.core.records import Book, Change, Record, dump_record, load_record, stamp_after
from servicekit.sealing import BrokenSealError, Seal

logger = logging.getLogger(__name__)

#: Seconds between two looks at what other replicas have written.
SYNC_EVERY = 0.5


class Records:
    """``known`` is what ``file`` holds, ``seal`` the federation's, ``replica`` names this one; ``wall`` is Unix time.

    ``book`` is what is known here; it changes in this object only.
    """

    def __init__(
        self,
        file: RecordFile,
        known: Iterable[Record],
        state: SharedState,
        seal: Seal,
        replica: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file, self._state, self._seal, self._replica, self._wall = file, state, seal, replica, wall
        self.book = Book(known)
        self._cursor = RecordCursor()
        self._life = ""
        self._untold: dict[str, Record] = {record.name: record for record in self.book.all()}
        """What the store may not have yet."""
        self._strange: dict[str, str] = {}
        """The stamps of what the store has under known names, and nobody can read."""
        self._writing: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call it after each change of the book, until what is returned is called.

        What was decided is in force before whoever decided it hears so.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def seal_anew(self) -> None:
        """Look at all that the store holds, soon; what no key opens any more is written anew.

        To be called where the federation's keys have changed: who comes later does not know the old one.
        """
        self._cursor = RecordCursor()

    async def write(self, *changes: Change, merged: Sequence[Record] = ()) -> None:
        """Write records, all or none: they are on the disk, and on their way to all replicas, on return.

        ``merged`` were written elsewhere; of them those count that are newer than what there is.

        Raises :class:`RecordsAwayError`.
        """
        writing = asyncio.create_task(self._write(changes, merged))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        # Who asked may go away: what is on the disk is in force, and not only after the next start.
        await asyncio.shield(writing)
        await self.sync()

    async def _write(self, changes: Sequence[Change], merged: Sequence[Record]) -> None:
        async with self._lock:
            now = self._wall()
            records = [
                Record(kind, key, stamp_after(self.book.get(kind, key), now, self._replica), value)
                for kind, key, value in changes
            ]
            records += [record for record in merged if self._is_newer(record)]
            try:
                await self._keep(records)
            except RecordFileError as error:
                raise RecordsAwayError(str(error)) from error
            self._untold.update({record.name: record for record in records})

    async def sync(self) -> None:
        """Take in what other replicas have written, and write what the store does not have."""
        try:
            async with self._lock:
                await self._hear()
            while self._untold:
                # One batch at a time: whoever decides something meanwhile does not wait for a whole refill.
                async with self._lock:
                    await self._tell()
        except StateUnavailableError:
            # It may come back as an older copy of itself.
            self._life, self._cursor = "", RecordCursor()
        except RecordFileError as error:
            logger.error("what other replicas have written cannot be kept: %s", error)  # noqa: TRY400 - says all

    async def close(self) -> None:
        """Close the file."""
        if self._writing:
            await asyncio.wait(self._writing)
        async with self._lock:
            await asyncio.to_thread(self._file.close)

    async def _hear(self) -> None:
        while True:
            stored, cursor = await self._state.get_records(self._cursor)
            self._met(cursor.life)
            records = [record for item in stored if (record := self._opened(item)) is not None]
            await self._keep([record for record in records if self._is_newer(record)])
            for record in records:
                known = self._untold.get(record.name)
                if known is not None and known.stamp <= record.stamp:
                    del self._untold[record.name]
            self._cursor = cursor
            if len(stored) < RECORDS_AT_ONCE:
                return

    async def _tell(self) -> None:
        some = list(self._untold.values())[:RECORDS_AT_ONCE]
        self._met(await self._state.put_records([self._sealed(record) for record in some]))
        for record in some:
            if self._untold.get(record.name) is record:
                del self._untold[record.name]
                self._strange.pop(record.name, None)

    def _met(self, life: str) -> None:
        """A store that is new, or was emptied, may miss whatever is known here."""
        if life != self._life:
            self._life = life
            self._untold = {record.name: record for record in self.book.all()}

    async def _keep(self, records: Iterable[Record]) -> None:
        """On the disk first: what is not there is not said to hold."""
        new = list(records)
        if not new:
            return
        await asyncio.to_thread(self._file.save, new)
        for record in new:
            self.book.take(record)
        for listener in list(self._listeners):
            try:
                listener()
            except Exception:
                # What is kept is kept, whoever cannot go by it.
                logger.exception("a change of the records is not taken in")

    def _is_newer(self, record: Record) -> bool:
        known = self.book.get(record.kind, record.key)
        return known is None or known.stamp < record.stamp

    def _sealed(self, record: Record) -> StoredRecord:
        body = self._seal.close(dump_record(record), _about(record.name, record.stamp))
        return StoredRecord(record.name, record.stamp, body, self._strange.get(record.name, ""))

    def _opened(self, item: StoredRecord) -> Record | None:
        try:
            record = load_record(self._seal.open(item.body, _about(item.name, item.stamp)))
        except (BrokenSealError, ValueError) as error:
            logger.warning("a record in the shared state is not believed: %s", error)
            self._replace(item)
            return None
        return record

    def _replace(self, item: StoredRecord) -> None:
        """Put what is known here in the place of what no replica has written, or one under a key that is gone."""
        known = self.book.named(item.name)
        if known is not None:
            self._strange[item.name], self._untold[item.name] = item.stamp, known


def _about(name: str, stamp: str) -> str:
    return f"the record {name} of {stamp}"
