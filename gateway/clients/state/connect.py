"""The shared state that the settings ask for."""

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel

from gateway.clients.state.memory import MemoryState
from gateway.clients.state.protocol import SharedState, Terms
from gateway.clients.state.redis import RedisState
from gateway.settings import RedisSettings


def connect(settings: RedisSettings | None, terms: Terms) -> SharedState:
    """Redis, or this process's memory; does not wait for a connection."""
    if settings is None:
        return MemoryState(terms)
    return RedisState(_client(settings), settings.prefix, settings.timeout, terms)


def _client(settings: RedisSettings) -> Redis:
    options: dict[str, Any] = {
        "username": settings.username or None,
        "password": settings.password.get_secret_value() or None,
        "socket_connect_timeout": settings.timeout,
        "socket_timeout": settings.timeout,
    }
    if settings.url.startswith("rediss://") and settings.ca_file is not None:
        options["ssl_ca_certs"] = str(settings.ca_file)
    given = {name: value for name, value in options.items() if value is not None}
    if not settings.sentinels:
        return Redis.from_url(settings.url, **given)
    # Of the URL all but the host counts: the database, and who asks, unless that is set by itself.
    url = {name: value for name, value in parse_url(settings.url).items() if name in ("db", "username", "password")}
    given = {**url, **given}
    addresses = [(host, int(port)) for host, _, port in (text.rpartition(":") for text in settings.sentinels)]
    password = settings.sentinel_password.get_secret_value()
    own: dict[str, Any] = {"socket_timeout": settings.timeout, "socket_connect_timeout": settings.timeout}
    if password:
        own["password"] = password
    if settings.url.startswith("rediss://"):
        for options in (given, own):
            options["ssl"] = True
            if settings.ca_file is not None:
                options["ssl_ca_certs"] = str(settings.ca_file)
    sentinel: Any = Sentinel(addresses, sentinel_kwargs=own, **given)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(settings.sentinel_service)
    return client
