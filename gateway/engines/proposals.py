"""Keeps the bans that members propose until an operator decides on them."""

import logging
import time
from collections.abc import Callable

from contract.bans import Ban
from gateway.core.admission import PROPOSAL, ban_value, proposals_of
from gateway.core.ports import RecordsAwayError
from gateway.core.records import Change
from gateway.engines.records import Records

logger = logging.getLogger(__name__)

#: Proposals of one member that wait at a time; its next ones are passed over.
MOST = 100

#: Seconds for which a proposal that was dismissed is not made again.
DISMISSED_FOR = 86400.0


class Proposals:
    """``wall`` is Unix time."""

    def __init__(self, records: Records, wall: Callable[[], float] = time.time) -> None:
        self._records, self._wall = records, wall
        self._heard: dict[tuple[str, str], Ban] = {}

    def hear(self, member: str, bans: tuple[Ban, ...]) -> None:
        """Take in what a report proposes; :meth:`keep` writes it down."""
        for ban in bans:
            self._heard[member, ban.name] = ban

    async def keep(self) -> None:
        """Write down what is new."""
        heard, self._heard = self._heard, {}
        for (member, name), ban in heard.items():
            key = f"{member} {name}"
            known = self._records.book.get(PROPOSAL, key)
            if known is not None and (known.value or self._wall() - known.written_at < DISMISSED_FOR):
                continue
            if len(proposals_of(self._records.book, [member])) >= MOST:
                logger.warning("%s proposes more bans than an operator can look at; %s is passed over", member, name)
                continue
            logger.warning("%s proposes the ban %s: %s", member, name, ban.reason or "no reason given")
            try:
                await self._records.write(Change(PROPOSAL, key, {**ban_value(ban), "member": member}))
            except RecordsAwayError as error:
                logger.error("a proposal cannot be kept: %s", error)  # noqa: TRY400 - the text says all
            except Exception:
                # Whatever one member has proposed, the others' are kept.
                logger.exception("a proposal of %s cannot be kept", member)
