"""Clears away what ended sessions have left: users of the Hub without a server."""

import logging
from collections.abc import Callable, Collection

from member.clients.hub import HubClient, HubError

logger = logging.getLogger(__name__)


class Reaper:
    """Deletes a user that had no server at two looks in a row: the first may fall between user and server."""

    def __init__(self, hub: HubClient, under_way: Callable[[], Collection[str]]) -> None:
        self._hub, self._under_way = hub, under_way
        self._suspects: set[str] = set()

    async def sweep(self) -> None:
        """Look once; raises nothing that the Hub causes."""
        try:
            idle = {user.name for user in await self._hub.users() if not user.has_server}
            idle -= set(self._under_way())
            for name in sorted(idle & self._suspects):
                await self._hub.remove(name)
                logger.debug("removed the user %s, whose session has ended", name)
            self._suspects = idle - self._suspects
        except HubError as error:
            logger.info("cannot look for ended sessions: %s", error)
