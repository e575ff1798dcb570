"""Keeps the operators' log.  Nothing waits for it and nothing fails with it: what cannot be written is lost."""

import asyncio
import logging
from collections import deque

from gateway.clients.log_file import LogFile, LogFileError
from gateway.core.alerts import Alert
from gateway.core.decision import Decision
from gateway.core.fleet import Transition
from gateway.core.log import ACT, Entry, Query, act_entry, alert_entry, decision_entry, transition_entry
from gateway.core.ports import LogAwayError
from gateway.core.records import AUDIT
from gateway.engines.records import Records

logger = logging.getLogger(__name__)

#: Seconds between two writes.
WRITE_EVERY = 1.0

#: Entries that wait to be written; of more, the oldest are lost.
WAITING = 10_000


class Log:
    """Decisions and transitions of this replica in ``file``, acts of all replicas in the records."""

    def __init__(self, file: LogFile, records: Records) -> None:
        self._file, self._records = file, records
        self._waiting: deque[Entry] = deque(maxlen=WAITING)
        self._lock = asyncio.Lock()

    def changed(self, member: str, transition: Transition) -> None:
        """Note that a member's state has changed."""
        self._waiting.append(transition_entry(member, transition))

    def alerted(self, alert: Alert, begins: bool) -> None:
        """Note that an alert begins or ends."""
        if begins:
            logger.warning("%s of %s: %s", alert.name, alert.member, alert.said)
        else:
            logger.info("%s of %s is over", alert.name, alert.member)
        self._waiting.append(alert_entry(alert, begins=begins))

    def decided(self, launch: str, decision: Decision) -> None:
        """Note a decision; ``launch`` is the launch's short id."""
        self._waiting.append(decision_entry(launch, decision))

    async def write(self) -> None:
        """Write what waits."""
        async with self._lock:
            if not self._waiting:
                return
            entries = list(self._waiting)
            self._waiting.clear()
            try:
                await asyncio.to_thread(self._file.add, entries)
            except LogFileError as error:
                logger.error("%d entries of the log are lost: %s", len(entries), error)  # noqa: TRY400 - says all

    async def find(self, query: Query) -> list[Entry]:
        """The entries that are wanted, latest first; raises :class:`LogAwayError`."""
        found: list[Entry] = []
        if ACT in query.kinds:
            acts = (act_entry(record) for record in self._records.book.of(AUDIT).values())
            found += [entry for entry in acts if query.wants(entry)]
        if query.kinds - {ACT} and not query.who:
            await self.write()
            async with self._lock:
                try:
                    found += await asyncio.to_thread(self._file.find, query)
                except LogFileError as error:
                    raise LogAwayError(str(error)) from error
        return sorted(found, key=lambda entry: entry.at, reverse=True)[: query.limit]

    async def close(self) -> None:
        """Write what is left, and close the file."""
        await self.write()
        async with self._lock:
            await asyncio.to_thread(self._file.close)
