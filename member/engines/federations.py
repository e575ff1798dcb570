"""The federations that this member belongs to: whose orders it takes, and to whom it reports."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from contract.joining import read_notice
from contract.signatures import (
    BanList,
    LaunchClaims,
    SignatureRefusedError,
    UnknownKeyError,
    verify_bans,
    verify_launch,
)
from member import joined
from member.core.membership import Membership, share_problem
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds between two looks at what was joined or left.
LOOK_EVERY_S = 1.0

#: Launch tokens that are remembered; each for as long as it would be good.
_MOST_TOKENS = 100_000


class Reports(Protocol):
    """Reports to one federation."""

    async def run(self) -> None:
        """Report for ever."""


class Federations:
    """``configured`` are those of the settings, beside those in ``data_dir``; ``wall`` is Unix time.

    ``interval`` and ``leeway`` (seconds) are for federations that were joined.  ``configure`` makes those of the
    settings anew, of keys as their files have them now; may raise ``ValueError``.
    """

    def __init__(
        self,
        configured: Sequence[Membership],
        data_dir: Path,
        *,
        interval: float = 3.0,
        leeway: float = 8.0,
        configure: Callable[[], Sequence[Membership]] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._configured, self._data_dir, self._configure = tuple(configured), data_dir, configure
        self._interval, self._leeway, self._wall = interval, leeway, wall
        self._joined: dict[str, joined.Joined] = {}
        self._marks: object = None
        self._used: dict[bytes, float] = {}
        self._since = wall()
        self._policies: dict[str, str] = {}
        self._reporting: dict[str, asyncio.Task[None]] = {}
        self._read()

    @property
    def memberships(self) -> tuple[Membership, ...]:
        """Those of now."""
        found = [item.membership(self._interval, self._leeway) for item in self._joined.values()]
        return (*self._configured, *found)

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._configured or self._joined)

    @property
    def require_launch_token(self) -> bool:
        """Whether only gateways may start launches here."""
        return any(item.require_launch_token for item in self.memberships)

    def get(self, federation: str) -> Membership | None:
        """A membership, as long as there is one."""
        return next((item for item in self.memberships if item.federation == federation), None)

    def verify_launch(self, token: str) -> LaunchClaims:
        """The order in a launch token, which is good once; raises :class:`SignatureRefusedError`."""
        now = self._wall()
        membership, claims = self._first(
            lambda item: verify_launch(token, item.keys, member=item.member, now=now, leeway=item.leeway)
        )
        if self._is_of_another(claims.launch_host, membership):
            # Its sessions would count for the other one's share.
            raise SignatureRefusedError("the launch token is in the name of another federation")
        if claims.issued_at < self._since - membership.leeway:
            # What was used is remembered in memory only.
            raise SignatureRefusedError("the launch token is older than this process: it may have been used before")
        self._use(token, claims.expires_at + membership.leeway)
        return claims

    def verify_bans(self, token: str) -> BanList:
        """The bans in a token; raises :class:`SignatureRefusedError`."""
        now = self._wall()
        membership, bans = self._first(
            lambda item: verify_bans(token, item.keys, member=item.member, now=now, leeway=item.leeway)
        )
        if self._is_of_another(bans.issuer, membership):
            raise SignatureRefusedError("the bans are in the name of another federation")
        return bans

    def heard(self, federation: str, notice: str) -> None:
        """Take in what a gateway has answered to a report: its keys, and how we stand there."""
        # What a command has written since is not to be undone.
        self._read()
        membership = self.get(federation)
        if membership is None:
            return
        try:
            told = read_notice(notice, membership.keys, member=membership.member)
        except SignatureRefusedError as error:
            logger.warning("what the gateway of %s has told is not believed: %s", federation, error)
            return
        off = told.sent_at - self._wall()
        if abs(off) > membership.leeway:
            # Of keys that are told in the future, no later word would ever count.
            logger.warning(
                "what the gateway of %s has told is not believed: its time is %+.0f s from ours", federation, off
            )
            return
        if told.policy != self._policies.get(federation):
            self._policies[federation] = told.policy
            logger.info("%s is %s in %s", membership.member, told.policy or "not known", federation)
        known = self._joined.get(federation)
        # Keys of the settings are changed there.
        if known is None or told.sent_at <= known.keys_at or told.keys == known.keys:
            return
        changed = replace(known, keys=told.keys, keys_at=told.sent_at)
        try:
            joined.keep(self._data_dir, changed)
        except joined.JoinedError as error:
            logger.error("the gateway's keys of %s cannot be kept: %s", federation, error)  # noqa: TRY400 - says all
        self._joined[federation] = changed
        logger.info("the gateway of %s has told its keys: %d are good now", federation, len(told.keys))

    def refused(self) -> None:
        """A gateway does not know our key: take keys of the settings whose files have changed."""
        if self._configure is None:
            return
        try:
            self._configured = tuple(self._configure())
        except ValueError as error:
            logger.warning("the keys of the settings cannot be read again: %s", error)

    def start(self, tasks: Tasks, reports: Callable[[str], Reports]) -> None:
        """Report to each federation, from the moment on at which it is joined; ``reports`` gives what does so."""

        async def look() -> None:
            self._read()
            present = {item.federation for item in self.memberships}
            for federation in self._reporting.keys() - present:
                logger.info("no more reports go to %s", federation)
                self._reporting.pop(federation).cancel()
            for federation in present - self._reporting.keys():
                self._reporting[federation] = tasks.spawn(f"report to {federation}", reports(federation).run())

        tasks.every("look for federations", LOOK_EVERY_S, look)

    def _read(self) -> None:
        """Look at the files again, if one of them has changed."""
        marks = joined.marks(self._data_dir)
        if marks == self._marks:
            return
        self._marks = marks
        configured = {item.federation for item in self._configured}
        self._joined = {
            item.federation: item for item in joined.read_all(self._data_dir) if item.federation not in configured
        }
        if problem := share_problem(self.memberships):
            logger.warning("%s", problem)

    def _first(self, verify: Callable[[Membership], T]) -> tuple[Membership, T]:
        """What the first membership makes of a token that knows its key."""
        refusal = SignatureRefusedError("this member belongs to no federation")
        known = False
        for membership in self.memberships:
            try:
                return membership, verify(membership)
            except UnknownKeyError as error:
                refusal = refusal if known else error
            except SignatureRefusedError as error:
                refusal, known = error, True
        raise refusal

    def _is_of_another(self, issuer: str, membership: Membership) -> bool:
        return issuer != membership.issuer and any(item.issuer == issuer for item in self.memberships)

    def _use(self, token: str, good_until: float) -> None:
        # Of what was signed: one signature can be written in several ways.
        signed = token.rpartition(".")[0]
        digest, now = hashlib.sha256(signed.encode()).digest(), self._wall()
        if self._used.get(digest, 0.0) > now:
            raise SignatureRefusedError("the launch token was used before")
        if len(self._used) >= _MOST_TOKENS:
            self._used = {known: until for known, until in self._used.items() if until > now}
        self._used[digest] = good_until
