"""Members of every kind behind one face: each call goes to the client of the member's kind."""

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from gateway.clients.orders import LaunchOrder, Told
from gateway.core.fleet import Member
from gateway.core.transitions import ProbeResult


class MemberPort(Protocol):
    """How a kind of member is talked to."""

    async def probe(self, member: Member, timeout_s: float, *, versions: bool = False) -> ProbeResult:
        """Ask how it is, and for its versions if told so, within a deadline; never raises."""

    def build(self, member: Member, order: LaunchOrder) -> AsyncGenerator[Told, None]:
        """A launch's events, each as soon as it has arrived, up to the final one.

        Raises :class:`gateway.clients.faults.MemberFault`.  Closing the generator closes the connection.
        """

    async def cancel(self, member: Member, launch_id: str) -> None:
        """Tell it to end a launch; never raises."""

    async def put_bans(self, member: Member, token: str) -> str | None:
        """Tell it the bans of the federation; ``None``, or why it does not know them now."""


class Clients:
    """The clients by kind; ``guarded`` are those for members whose addresses are not to be trusted."""

    def __init__(self, kinds: Mapping[str, MemberPort], guarded: Mapping[str, MemberPort] | None = None) -> None:
        self._kinds, self._guarded = kinds, kinds if guarded is None else guarded

    def _of(self, member: Member) -> MemberPort:
        return (self._guarded if member.guarded else self._kinds)[member.kind]

    async def probe(self, member: Member, timeout_s: float, *, versions: bool = False) -> ProbeResult:
        """See :class:`MemberPort`."""
        return await self._of(member).probe(member, timeout_s, versions=versions)

    def build(self, member: Member, order: LaunchOrder) -> AsyncGenerator[Told, None]:
        """See :class:`MemberPort`."""
        return self._of(member).build(member, order)

    async def cancel(self, member: Member, launch_id: str) -> None:
        """See :class:`MemberPort`."""
        await self._of(member).cancel(member, launch_id)

    async def put_bans(self, member: Member, token: str) -> str | None:
        """See :class:`MemberPort`."""
        return await self._of(member).put_bans(member, token)
