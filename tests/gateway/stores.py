"""All stores behind one face: what holds of one must hold of the others."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redisserver import RedisServer, redis_program, valkey_program

from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import SharedState, Terms
from gateway.clients.state.redis import RedisState

#: Short, so that a test can wait for an end; what must not end in between is prolonged by what the test does.
LEASE = 1.0
SHORT = Terms(lease=LEASE)

Make = Callable[..., SharedState]


@pytest.fixture(params=["memory", "redis", "valkey"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes replicas' ends of one store."""
    made: list[SharedState] = []
    if request.param == "memory":
        alone: dict[Terms, MemoryState] = {}

        def make_memory(terms: Terms = SHORT) -> SharedState:
            return alone.setdefault(terms, MemoryState(terms))

        yield make_memory
        return
    programs = {"redis": redis_program, "valkey": valkey_program}
    server = await RedisServer(tmp_path / "redis", program=programs[request.param]).start()

    def make_redis(terms: Terms = SHORT) -> SharedState:
        client = server.client(socket_timeout=90, socket_connect_timeout=90)
        made.append(RedisState(client, "test:", timeout=90, terms=terms))
        return made[-1]

    yield make_redis
    for state in made:
        await state.close()
    await server.stop()
