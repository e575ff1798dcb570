"""What the gateway's tests in a browser share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.gateway.harness import Starter, starting


@pytest_asyncio.fixture(loop_scope="session")
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts what a test needs, in the loop that the browser is in; afterwards no task is left."""
    async with starting(tmp_path) as starter:
        yield starter
