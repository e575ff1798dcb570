"""The gateway as a process: it starts, says what stands in its way, and ends."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import private_pem
from servicekit import lifeline
from tests.fakes.member import FakeMember
from tests.federation import free_port
from tests.gateway.harness import SPEC

PROGRAM = """
import sys
from pathlib import Path
from gateway.app import run
from servicekit.serving import CannotListenError
from gateway.settings import load
try:
    path = Path(sys.argv[1])
    run(load(path), path)
except CannotListenError as error:
    sys.exit(str(error))
"""


def config(tmp_path: Path, port: int, members: str = "[]") -> Path:
    (tmp_path / "key.pem").write_text(private_pem(Ed25519PrivateKey.generate()))
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"schema: 1\npublic_url: http://127.0.0.1:{port}/\nlisten: {{port: {port}}}\n"
        f"data_dir: {tmp_path}\nsigning_key_file: {tmp_path}/key.pem\nmembers: {members}\n"
        # Nobody looks up the address of a host that does not exist.
        "providers: {git: {allow_private_addresses: true}}\n"
    )
    return path


@contextlib.asynccontextmanager
async def running(
    path: Path, environ: Mapping[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        str(path),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
        pass_fds=pass_fds,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{url}readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


async def test_it_serves_until_it_is_told_to_end_and_open_streams_do_not_hold_it_up(tmp_path: Path) -> None:
    member = await FakeMember("member-1").start()
    member.knobs.gate_at = 1
    port = free_port()
    path = config(tmp_path, port, f'[{{name: member-1, url: "{member.url}"}}]')
    async with aiohttp.ClientSession() as http, running(path) as process:
        await ready(http, f"http://127.0.0.1:{port}/")
        headers = {"Accept": "text/event-stream"}
        async with http.get(f"http://127.0.0.1:{port}/build/{SPEC}", headers=headers) as response:
            await response.content.readany()
            process.send_signal(signal.SIGINT)
            assert b"being restarted" in await response.content.read()
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
    await member.stop()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


async def test_told_politely_it_waits_for_open_streams_and_takes_nobody_new(tmp_path: Path) -> None:
    member = await FakeMember("member-1").start()
    member.knobs.gate_at = 1
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    path = config(tmp_path, port, f'[{{name: member-1, url: "{member.url}"}}]')
    async with aiohttp.ClientSession() as http, running(path) as process:
        await ready(http, url)
        headers = {"Accept": "text/event-stream"}
        async with http.get(f"{url}build/{SPEC}", headers=headers) as response:
            await response.content.readany()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                while await _takes_connections(port):
                    await asyncio.sleep(0.05)
            assert process.returncode is None
            member.gate.set()
            assert b'"ready"' in await response.content.read()
        async with asyncio.timeout(60):
            _, errors = await process.communicate()
    await member.stop()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors


async def test_before_it_takes_nobody_new_it_gives_notice(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    path = config(tmp_path, port)
    path.write_text(path.read_text() + "drain: {notice: 1h}\n")
    async with aiohttp.ClientSession() as http, running(path) as process:
        await ready(http, url)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            while True:
                async with http.get(f"{url}readyz") as response:
                    if response.status == 503:
                        assert (await response.json())["draining"]
                        assert response.headers["Connection"] == "close"
                        break
                await asyncio.sleep(0.05)
        async with http.get(f"{url}livez") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await process.wait() == 0


async def _takes_connections(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # refused; or reset, when it met the socket as that was closed
        return False
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return True


async def test_a_port_in_use_is_told_in_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(config(tmp_path, port)) as process, asyncio.timeout(90):
            _, errors = await process.communicate()
    assert process.returncode == 1
    last = errors.decode().strip().splitlines()[-1]
    assert last.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in last
    assert b"Traceback" not in errors


async def test_it_ends_when_its_supervisor_is_gone(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    port = free_port()
    environ = {lifeline.ENV: str(reading)}
    async with aiohttp.ClientSession() as http, running(config(tmp_path, port), environ, (reading,)) as process:
        os.close(reading)
        await ready(http, f"http://127.0.0.1:{port}/")
        os.close(writing)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
