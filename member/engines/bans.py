"""The bans of the operator and of the federations that this member belongs to: kept, and put in force."""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from contract.bans import Ban, BanError, BanKind, ban_text, dump_bans, find_ban, parse_bans
from contract.repos import RepoKey
from contract.signatures import BanList
from member.clients.hub import HubClient, HubError, HubUser
from member.core.ports import OlderBansError
from member.engines.launches import Launches

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether there is something to end.
ENFORCE_EVERY_S = 2.0

#: Seconds that the Hub gets to remove a user.
_REMOVE_TIMEOUT_S = 60.0

#: Sessions that are ended at a time.
_ENDED_AT_ONCE = 10

#: Federations whose lists are kept; a member belongs to few.
_MOST_ISSUERS = 20


class Bans:
    """``path`` is where the lists are kept; ``own`` are the operator's; ``wall`` is Unix time.

    ``keep_users``: the Hub's users are people, of whom a ban ends no more than their sessions.
    """

    def __init__(
        self,
        path: Path,
        hub: HubClient,
        launches: Launches,
        own: tuple[Ban, ...] = (),
        wall: Callable[[], float] = time.time,
        *,
        keep_users: bool = False,
    ) -> None:
        self._keep_users = keep_users
        self._path, self._hub, self._launches, self._own, self._wall = path, hub, launches, own, wall
        self._writing = asyncio.Lock()
        self._lists: dict[str, tuple[float, tuple[Ban, ...]]] = _read(path)

    def find(self, spec: str, repo: RepoKey, client: str) -> Ban | None:
        """The ban in force that hits a launch."""
        now = self._wall()
        return next((ban for bans in self._all() if (ban := find_ban(bans, spec, repo, client, now))), None)

    def find_client(self, client: str) -> Ban | None:
        """The ban in force that hits all launches of a visitor."""
        networks = (ban for bans in self._all() for ban in bans if ban.kind is BanKind.NETWORK)
        return find_ban(networks, "", RepoKey(""), client, self._wall())

    async def take(self, told: BanList) -> None:
        """Take a gateway's list in place of its last one; raises :class:`member.core.ports.OlderBansError`."""
        known = self._lists.get(told.issuer)
        if known is not None and told.issued_at < known[0]:
            raise OlderBansError
        self._lists[told.issuer] = (told.issued_at, told.bans)
        while len(self._lists) > _MOST_ISSUERS:
            del self._lists[min(self._lists, key=lambda issuer: self._lists[issuer][0])]
        if known is None or known[1] != told.bans:
            logger.info("%d bans are in force for %s", len(told.bans), told.issuer)
        # Every replica of a gateway tells its bans, all at the same moment.
        async with self._writing:
            await asyncio.to_thread(_write, self._path, dict(self._lists))

    async def enforce(self) -> None:
        """End the launches and sessions that a ban hits; what the Hub cannot do now is done at the next look."""
        if not any(self._all()):
            return
        for launch in self._launches.under_way:
            order = launch.order
            if (ban := self.find(order.spec, order.repo, order.client_ip)) is not None:
                logger.warning("launch %s: ended by the ban %s", launch.short, ban.name)
                self._launches.refuse(launch, ban_text(ban, order.spec))
        try:
            users = [user for user in await self._hub.users() if user.has_server]
        except HubError as error:
            logger.info("cannot look for sessions that a ban hits: %s", error)
            return
        for begin in range(0, len(users), _ENDED_AT_ONCE):
            await asyncio.gather(*map(self._end_if_hit, users[begin : begin + _ENDED_AT_ONCE]))

    def _all(self) -> list[tuple[Ban, ...]]:
        return [self._own, *(bans for _, bans in self._lists.values())]

    async def _end_if_hit(self, user: HubUser) -> None:
        if not user.repo_url or not user.spec or user.key in self._launches.servers:
            return
        ban = self.find(user.spec, user.repo, user.client_ip)
        if ban is None:
            return
        try:
            async with asyncio.timeout(_REMOVE_TIMEOUT_S):
                await self._hub.remove(user.name, user.server, keep_user=self._keep_users)
        except (HubError, TimeoutError) as error:
            logger.warning("the session of %s is to end by the ban %s: %s", user.key, ban.name, error or "no answer")
        else:
            logger.warning("the session of %s was ended by the ban %s", user.key, ban.name)


def _read(path: Path) -> dict[str, tuple[float, tuple[Ban, ...]]]:
    """The lists by issuer; a file that cannot be read is as good as none, for gateways tell their bans again."""
    try:
        wire = json.loads(path.read_text())
        return {issuer: (float(item["issued_at"]), parse_bans(item["bans"])) for issuer, item in wire.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, BanError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read, and no ban is in force until a gateway tells them: %s", path, error)
        return {}


def _write(path: Path, lists: dict[str, tuple[float, tuple[Ban, ...]]]) -> None:
    wire = {issuer: {"issued_at": at, "bans": dump_bans(bans)} for issuer, (at, bans) in lists.items()}
    new = path.with_suffix(".new")
    try:
        new.write_text(json.dumps(wire))
        new.replace(path)
    except OSError as error:
        logger.error("the bans cannot be kept over a restart: %s", error)  # noqa: TRY400 - the text says all
