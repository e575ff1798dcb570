"""Clears away what ended sessions have left: users of the Hub without a server, or people's named servers."""

import asyncio
import logging
from collections.abc import Callable, Collection

from member.clients.hub import HubClient, HubError, HubUser
from member.core.launching import is_launch_name

logger = logging.getLogger(__name__)

#: Seconds that the Hub gets to remove a user.
_REMOVE_TIMEOUT_S = 60.0


class Reaper:
    """Deletes what had no server running at two looks in a row: the first may fall between user and server.

    ``under_way`` gives the keys of servers that launches are about to start.  ``keep_users``: the Hub's users are
    people, who stay; of theirs the named servers of launches are deleted, for the Hub keeps those that have ended.
    """

    def __init__(self, hub: HubClient, under_way: Callable[[], Collection[str]], *, keep_users: bool = False) -> None:
        self._hub, self._under_way, self._keep_users = hub, under_way, keep_users
        self._suspects: set[str] = set()

    async def sweep(self) -> None:
        """Look once; raises nothing that the Hub causes."""
        try:
            users = await self._hub.users(stopped=self._keep_users)
        except HubError as error:
            logger.info("cannot clear ended sessions away: %s", error)
            return
        idle = {user.key: user for user in users if not user.has_server and self._is_ours(user)}
        for key in self._under_way():
            idle.pop(key, None)
        doomed, self._suspects = idle.keys() & self._suspects, set(idle)
        for key in sorted(doomed):
            try:
                async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                    await self._hub.remove(idle[key].name, idle[key].server, keep_user=self._keep_users)
            except (HubError, TimeoutError) as error:
                # The others are not to wait for this one.
                logger.info("cannot remove %s: %s", key, str(error) or "the Hub takes too long")
            else:
                self._suspects.discard(key)
                logger.debug("removed %s, whose session has ended", key)

    def _is_ours(self, user: HubUser) -> bool:
        # What people have had started by other means is for them to delete, and may hold what they keep.
        return is_launch_name(user.server) if self._keep_users else True
