"""A BinderHub and the clients of it that a gateway has: what tests of members that are BinderHubs share."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from contract.events import BuildEvent
from gateway.clients.binderhub import BinderHubClient
from gateway.clients.faults import MemberFault
from gateway.clients.orders import LaunchOrder
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from tests.fakes.binderhub import SPEC, FakeBinderHub

QUICK = LaunchSettings(connect_timeout=0.5, first_event_timeout=2, silence_timeout=1)
PUBLIC_URL = "https://binder.example.org/"


class Pair:
    """A BinderHub and clients of it."""

    def __init__(self, hub: FakeBinderHub, session: aiohttp.ClientSession) -> None:
        self.hub, self.session = hub, session
        self.secrets: dict[str, str | bytes] = {}

    @property
    def member(self) -> Member:
        return Member("m", self.hub.url, kind="binderhub")

    def client(self, public_url: str = PUBLIC_URL, **changes: Any) -> BinderHubClient:
        return BinderHubClient(self.session, lambda: QUICK, self.secrets, public_url=public_url, **changes)

    async def launch(self, spec: str = SPEC, client: BinderHubClient | None = None) -> list[BuildEvent]:
        order = LaunchOrder(spec, "0" * 32)
        async with asyncio.timeout(30):
            return [told.event async for told in (client or self.client()).build(self.member, order)]

    async def fault(self) -> MemberFault:
        with pytest.raises(MemberFault) as caught:
            await self.launch()
        return caught.value

    async def findings(self, public_url: str = PUBLIC_URL) -> list[tuple[str, bool]]:
        found = await self.client(public_url).conformance(self.member, 3)
        assert all(item.what.endswith(".") and item.advice.endswith(".") for item in found)
        return [(item.what, item.serious) for item in found]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    hub = await FakeBinderHub().start()
    async with aiohttp.ClientSession() as session:
        yield Pair(hub, session)
    await hub.stop()
