"""Gateways and members for a test, ended with it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.chromium import browser, page
from tests.gateway.harness import Starter, until
from tests.gateway.stores import make

__all__ = ["browser", "make", "page", "start"]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts what a test needs; afterwards no task is left."""
    before = asyncio.all_tasks()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        starter = Starter(tmp_path, http)
        yield starter
        for stop in reversed(starter.running):
            await stop()
    known = {*before, asyncio.current_task()}
    await until(lambda: not asyncio.all_tasks() - known)
