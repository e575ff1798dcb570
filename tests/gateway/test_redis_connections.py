"""The shared state in a Redis as operators run it: behind TLS, with users and passwords, with Sentinel, shared."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redisserver import RedisServer, redis_program, valkey_program

from gateway.clients.state.connect import connect
from gateway.clients.state.protocol import (
    Hold,
    QueueTerms,
    Quota,
    RecordCursor,
    SharedState,
    StateUnavailableError,
    StoredRecord,
    Terms,
    Writing,
)
from gateway.settings import RedisSettings

#: What the ACL user of a gateway needs; docs/replicas.md tells operators the same.
COMMANDS = (
    "+@connection +@read +@write +@scripting +@transaction +time -@dangerous -@admin -flushall -flushdb -keys -sort"
)


@asynccontextmanager
async def state_of(**settings: Any) -> AsyncIterator[SharedState]:
    """A replica's end of a store, as its settings ask for it."""
    state = connect(RedisSettings.model_validate({"timeout": "10s", **settings}), Terms())
    try:
        yield state
    finally:
        await state.close()


@pytest.fixture(params=[redis_program, valkey_program])
async def server(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[RedisServer]:
    """A Redis or Valkey that is ended with the test, whatever it was started with."""
    server = RedisServer(tmp_path / "redis", program=request.param)
    yield server
    await server.stop()


async def use(state: SharedState, key: str = "k") -> None:
    """Everything that a gateway asks of its store."""
    assert await state.write(key, "a", Writing(b"m", whole=True)) is Hold.MINE
    await state.renew([key], "a")
    await state.adopt(key, "a")
    await state.ask_to_cancel(key)
    await state.watch([key])
    assert (await state.read({key: -1}))[key].meta == b"m"
    await state.give_up([key], "a")
    await state.tell([b"fact"])
    await state.hear((await state.hear(""))[1])
    await state.beat("replica", b"lives")
    await state.leave("replica")
    await state.take("bucket", 1, 1)
    await state.claim("launch", [Quota("total", 1)], 1)
    await state.give_back("launch", ["total"])
    await state.enter("q", "ticket", "c", "r", QueueTerms(1, 1, 1))
    await state.line("q", ["ticket"], QueueTerms(1, 1, 1), 1)
    await state.leave_queue("q", "ticket", served=True)
    await state.put_records([StoredRecord("ban/x", f"{1:017d}-a", b"x")])
    await state.get_records(RecordCursor())


async def test_an_acl_user_with_a_password_needs_the_prefix_and_no_more(server: RedisServer) -> None:
    server.arguments = ("--user", *f"manybinder on >s3cret ~manybinder:* resetchannels {COMMANDS}".split())
    await server.start()
    async with state_of(url=server.url, username="manybinder", password="s3cret") as state:
        await use(state)
    async with state_of(url=server.url, username="manybinder", password="s3cret", prefix="other:") as elsewhere:
        with pytest.raises(StateUnavailableError, match=r"(?i)permission|NOPERM"):
            await elsewhere.take("bucket", 1, 1)
    async with state_of(url=server.url, username="manybinder", password="wrong") as stranger:
        with pytest.raises(StateUnavailableError, match=r"(?i)password"):
            await stranger.take("bucket", 1, 1)


async def test_a_password_alone_will_do(server: RedisServer) -> None:
    server.arguments = ("--user", *["default", "on", ">s3cret", "~*", "&*", "+@all"])
    server.password = "s3cret"
    await server.start()
    async with state_of(url=server.url, password="s3cret") as state:
        await use(state)
    async with state_of(url=server.url) as stranger:
        with pytest.raises(StateUnavailableError, match=r"(?i)auth"):
            await stranger.take("bucket", 1, 1)


async def test_two_federations_share_a_redis_under_different_prefixes(server: RedisServer) -> None:
    await server.start()
    async with state_of(url=server.url, prefix="one:") as one, state_of(url=server.url, prefix="two:") as two:
        await use(one)
        assert await two.read({"k": -1}) == {}
        assert (await two.get_records(RecordCursor()))[0] == []
        assert await two.beat("replica", b"") == {"replica": b""}
        await use(two)
    client = server.client()
    keys = [key async for key in client.scan_iter()]
    await client.aclose()
    assert keys
    assert all(key.startswith((b"one:", b"two:")) for key in keys)


async def test_what_redis_refuses_is_an_outage_and_no_error(server: RedisServer) -> None:
    await server.start()
    client = server.client()
    async with state_of(url=server.url) as state:
        await use(state)
        for setting, value, usual in (("maxmemory", "1", "0"), ("min-replicas-to-write", "3", "0")):
            await client.config_set(setting, value)
            with pytest.raises(StateUnavailableError):
                await patiently(lambda: _until_it_fails(state))
            await client.config_set(setting, usual)
            await patiently(lambda: state.take("bucket", 1, 100))
        await use(state, "another")
    await client.aclose()


async def _until_it_fails(state: SharedState) -> None:
    for _ in range(3):
        await state.write("other", "a", Writing(b"m", whole=True))


async def patiently(ask: Callable[[], Awaitable[Any]]) -> Any:
    """An answer, as soon as the store is not left alone any more."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except StateUnavailableError as error:
                if "a moment ago" not in str(error):
                    raise
                await asyncio.sleep(0.1)


async def test_behind_tls_only_the_right_certificate_is_spoken_to(server: RedisServer, tmp_path: Path) -> None:
    await server.start()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    async with tls_front(server.port, ours.server_context()) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        async with state_of(url=url, ca_file=ours.path) as state:
            await use(state)
        for settings in ({"ca_file": theirs.path}, {}):
            async with state_of(url=url, **settings) as stranger:
                with pytest.raises(StateUnavailableError, match=r"(?i)certificate"):
                    await stranger.take("bucket", 1, 1)
        async with state_of(url=f"redis://127.0.0.1:{port}/0", timeout="2s") as plain:
            with pytest.raises(StateUnavailableError):
                await plain.take("bucket", 1, 1)


class Authority:
    """A certificate authority with one server, 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path, self._server = directory / "ca.pem", directory / "server.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"authority of {directory.name}")])
        authority = self._certificate(name, name, key, key, ca=True)
        self.path.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        own = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
        certificate = self._certificate(subject, name, own, key, ca=False)
        pem = own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._server.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self) -> ssl.SSLContext:
        """What a server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._server)
        return context

    @staticmethod
    def _certificate(
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        signer: ec.EllipticCurvePrivateKey,
        *,
        ca: bool,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signer, hashes.SHA256())


@asynccontextmanager
async def tls_front(to_port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS terminator before a server that has none, as stunnel is; its port."""
    relays: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", to_port)
        try:
            ways = [asyncio.create_task(relay(reader, inner_writer)), asyncio.create_task(relay(inner_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            writer.close()
            inner_writer.close()
            relays.discard(task)

    # Who speaks no TLS, or trusts somebody else, is no news here.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1]
    finally:
        front.close()
        for task in list(relays):
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


@pytest.mark.slow
async def test_sentinel_names_another_server_and_the_state_goes_on(tmp_path: Path) -> None:
    primary = await RedisServer(tmp_path / "primary").start()
    copy = await RedisServer(tmp_path / "copy", ("--replicaof", "127.0.0.1", str(primary.port))).start()
    sentinel = RedisServer(tmp_path / "sentinel")
    sentinel.directory.mkdir()
    config = sentinel.directory / "sentinel.conf"
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\ndir {sentinel.directory}\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n"
    )
    sentinel.config = config
    await sentinel.start()
    try:
        async with state_of(url="redis://ignored", sentinels=[f"127.0.0.1:{sentinel.port}"], timeout="5s") as state:
            await use(state)
            watcher = copy.client()
            async with asyncio.timeout(60):
                while not await watcher.exists("manybinder:records"):
                    await asyncio.sleep(0.1)
            client = sentinel.client()
            async with asyncio.timeout(60):
                while not await client.execute_command("SENTINEL", "REPLICAS", "mymaster"):
                    await asyncio.sleep(0.2)
            await primary.stop()
            async with asyncio.timeout(120):
                while True:
                    try:
                        records, _ = await state.get_records(RecordCursor())
                        await state.take("after", 1, 100)
                        break
                    except StateUnavailableError:
                        await asyncio.sleep(0.2)
            assert [record.name for record in records] == ["ban/x"]
            await watcher.aclose()
            await client.aclose()
    finally:
        for server in (sentinel, copy, primary):
            await server.stop()
