"""Gateways and members for a test, ended with it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.harness import Starter, starting
from tests.gateway.stores import make

__all__ = ["make", "start"]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts what a test needs; afterwards no task is left."""
    async with starting(tmp_path) as starter:
        yield starter
