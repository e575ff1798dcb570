"""The client that talks to members: what it makes of answers, and of none."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.clients.faults import Fault, MemberFault
from gateway.clients.members import MAX_ANSWER, MemberClient
from gateway.clients.orders import LaunchOrder
from gateway.core.fleet import Member
from gateway.core.settings import LaunchSettings
from gateway.core.transitions import ProbeResult
from tests.fakes.member import FakeMember

#: Looking a name up may take a while, and belongs to the time until the first event.
SETTINGS = LaunchSettings(connect_timeout=0.3, first_event_timeout=120, silence_timeout=60)


@pytest.fixture
async def client() -> AsyncIterator[MemberClient]:
    async with aiohttp.ClientSession() as session:
        yield MemberClient(session, lambda: SETTINGS)


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """A port that lets nobody in and refuses nobody: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


async def fault_of(client: MemberClient, url: str) -> MemberFault:
    with pytest.raises(MemberFault) as caught:
        async for _ in client.build(Member("m", url), LaunchOrder("gh/a/b/c", "0" * 32, "token")):
            pass
    return caught.value


async def test_a_port_that_lets_nobody_in(client: MemberClient) -> None:
    with black_hole() as port:
        fault = await fault_of(client, f"http://127.0.0.1:{port}/")
        result = await client.probe(Member("m", f"http://127.0.0.1:{port}/"), 0.3)
    assert (fault.fault, str(fault)) == (Fault.CONNECT, "could not be reached within 0.3 s")
    assert result == ProbeResult(False, False, "It did not answer within 0.3 s.")


async def test_a_name_that_does_not_exist(client: MemberClient) -> None:
    fault = await fault_of(client, "http://nowhere.invalid/")
    assert fault.fault == Fault.CONNECT
    assert "nowhere.invalid" not in str(fault)


async def test_a_server_that_speaks_something_else(client: MemberClient) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert (await fault_of(client, url)).fault == Fault.ANSWER
        assert not (await client.probe(Member("m", url), 60)).reachable


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, '{"ok": true, "checks": []}', (True, True, "")),
        (200, "<html>", (True, False, "It answered its health check with HTTP 200 and no JSON.")),
        (200, "[]", (True, False, "It answered its health check with HTTP 200 and no JSON.")),
        (200, '{"ok": "yes"}', (True, False, "It says that it is not healthy: it does not say what.")),
        (200, '{"ok": false, "checks": [{"service": "Hub", "ok": false}, 3]}', (True, False, "healthy: Hub.")),
        (503, '{"ok": false, "checks": null}', (True, False, "it does not say what")),
        (502, "{}", (True, False, "It answered its health check with HTTP 502.")),
        (200, " " * (MAX_ANSWER + 1), (False, False, "longer than")),
        (200, "[" * 100_000, (True, False, "and no JSON")),
    ],
)
async def test_answers_to_a_probe(
    client: MemberClient, status: int, body: str, expected: tuple[bool, bool, str]
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get("/health", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    result = await client.probe(Member("m", f"http://127.0.0.1:{runner.addresses[0][1]}"), 60, versions=True)
    await runner.cleanup()
    assert (result.reachable, result.passing) == expected[:2]
    assert expected[2] in result.reason


async def test_a_member_that_does_not_hear_of_a_cancellation_is_no_error(client: MemberClient) -> None:
    await client.cancel(Member("m", "http://127.0.0.1:1/"), "0" * 32)


async def test_leaving_a_stream_closes_the_connection(client: MemberClient) -> None:
    member = await FakeMember("m").start()
    member.knobs.first = {"phase": "building", "message": "one"}
    member.knobs.end_after = None
    stream = client.build(Member("m", member.url), LaunchOrder("gh/a/b/c", "0" * 32, "token"))
    item = await anext(stream)
    assert item.event.message == "one"
    await stream.aclose()
    async with asyncio.timeout(60):
        while member.open_streams:
            await asyncio.sleep(0.01)
    await member.stop()


async def test_what_a_member_answers_instead_of_http_is_not_shown(client: MemberClient) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 abc\r\nevil: yes\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    fault = await fault_of(client, f"http://127.0.0.1:{port}/")
    result = await client.probe(Member("m", f"http://127.0.0.1:{port}/"), 30)
    server.close()
    await server.wait_closed()
    for text in (str(fault), result.reason):
        assert "its answer is not HTTP" in text
        assert "127.0.0.1" not in text


async def test_a_certificate_that_is_not_trusted_is_told(client: MemberClient, tmp_path: Path) -> None:
    context = self_signed(tmp_path)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    result = await client.probe(Member("m", f"https://127.0.0.1:{port}/"), 30)
    server.close()
    await server.wait_closed()
    assert result.reason.startswith("It could not be reached: its certificate is not trusted: self-signed certificate")


def self_signed(directory: Path) -> ssl.SSLContext:
    """For a server whose certificate nobody has vouched for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = directory / "server.pem"
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
