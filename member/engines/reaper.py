"""Clears away what ended sessions have left: users of the Hub without a server."""

import asyncio
import logging
from collections.abc import Callable, Collection

from member.clients.hub import HubClient, HubError

logger = logging.getLogger(__name__)

#: Seconds that the Hub gets to remove a user.
_REMOVE_TIMEOUT_S = 60.0


class Reaper:
    """Deletes a user that had no server at two looks in a row: the first may fall between user and server."""

    def __init__(self, hub: HubClient, under_way: Callable[[], Collection[str]]) -> None:
        self._hub, self._under_way = hub, under_way
        self._suspects: set[str] = set()

    async def sweep(self) -> None:
        """Look once; raises nothing that the Hub causes."""
        try:
            idle = {user.name for user in await self._hub.users() if not user.has_server}
        except HubError as error:
            logger.info("cannot clear ended sessions away: %s", error)
            return
        idle -= set(self._under_way())
        doomed, self._suspects = idle & self._suspects, idle
        for name in sorted(doomed):
            try:
                async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                    await self._hub.remove(name)
            except (HubError, TimeoutError) as error:
                # The others are not to wait for this one.
                logger.info("cannot remove the user %s: %s", name, str(error) or "the Hub takes too long")
            else:
                self._suspects.discard(name)
                logger.debug("removed the user %s, whose session has ended", name)
