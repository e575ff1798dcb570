"""A gate before the end of a build: it opens when a test has done what is to happen in the middle."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from federation import free_port


class Gate:
    """What builds wait for: nobody listens at its port until it is opened."""

    def __init__(self) -> None:
        self.port = free_port()
        self._server: asyncio.Server | None = None

    @property
    def post_build(self) -> str:
        """A ``postBuild`` that says once which build has begun, and ends when the gate is open."""
        ask = f"import socket; socket.create_connection(('127.0.0.1', {self.port}), 5)"
        return (
            '#!/bin/sh\necho "build $(od -An -N8 -tx8 /dev/urandom) begun"\n'
            f'until python -c "{ask}" 2>/dev/null; do sleep 0.3; done\n'
        )

    async def open(self) -> None:
        """Let builds end, from now on."""
        if self._server is None:
            self._server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", self.port)

    async def close(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """A gate that is closed."""
    made = Gate()
    yield made
    await made.close()
