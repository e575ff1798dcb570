"""Lets a member drain itself while its disk is nearly full: what runs goes on, and nothing new begins."""

import logging

from contract.units import format_size
from member.builders.base import Builder
from member.metrics import Metrics

logger = logging.getLogger(__name__)

#: Seconds between two looks.
LOOK_EVERY_S = 10.0

#: It is over once there is so many times as much room as where it began, so that it does not come and go.
_ENOUGH = 1.25


class DiskPressure:
    """``min_free`` in bytes; 0 = never."""

    def __init__(self, builder: Builder, min_free: int, metrics: Metrics) -> None:
        self._builder, self._min_free = builder, min_free
        self._short = False
        metrics.draining.set_function(lambda: self._short)

    @property
    def draining(self) -> bool:
        """Whether nothing new is to begin."""
        return self._short

    @property
    def reason(self) -> str:
        """Why no launch is taken, for its visitor; "" = they are."""
        if not self._short:
            return ""
        return "This BinderHub is short of disk space, and takes no launches for the moment. Try again later.\n"

    async def look(self) -> None:
        """Look once; what may go of old images goes first."""
        free = await self._free()
        if free is not None and free < self._min_free and not self._short:
            await self._builder.clean()
            free = await self._free()
        short = free is not None and free < self._min_free * (_ENOUGH if self._short else 1)
        if short != self._short:
            self._short = short
            if short:
                logger.warning("only %s of disk are free: no launches are taken", format_size(free or 0))
            else:
                logger.warning("there is room on the disk again: launches are taken")

    async def _free(self) -> float | None:
        disk = (await self._builder.resources()).disk
        return None if disk.limit is None else disk.limit - disk.used
