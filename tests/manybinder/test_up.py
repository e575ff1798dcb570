"""`manybinder up` as a whole: how it ends, and what is left of it."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from manybinder.up import READY_DEADLINE_S
from tests.federation import Federation, free_port, shared_cache_dir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "members.yaml"
    path.write_text(f"builder:\n  cache_dir: {shared_cache_dir(tmp_path)}\n")
    return path


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_killed_outright_it_leaves_nothing_and_can_be_started_again_at_once(
    tmp_path: Path, config: Path, http: aiohttp.ClientSession
) -> None:
    first = Federation.start(tmp_path / "up", "--member-config", str(config))
    processes = first.processes()
    assert len(processes) >= 9
    first.process.kill()
    first.process.communicate()
    second = await asyncio.to_thread(Federation.start, tmp_path / "up", "--member-config", str(config))
    _, alive = psutil.wait_procs(processes, timeout=0)
    assert not alive
    assert set(await second.members(http)) == {"member-1", "member-2"}
    second.stop()


async def test_every_process_is_restarted_and_ctrl_c_ends_all(
    tmp_path: Path, config: Path, http: aiohttp.ClientSession
) -> None:
    federation = Federation.start(tmp_path / "up", "--members", "1", "--member-config", str(config))
    before = federation.processes()
    for process in before:
        # With one of ours goes what it had begun.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    async with asyncio.timeout(180):
        while True:
            await asyncio.sleep(0.2)
            try:
                healthy = [item["health"] == "healthy" for item in (await federation.members(http)).values()]
            except aiohttp.ClientError:
                continue
            if all(healthy) and len(federation.processes()) >= len(before):
                break
    federation.process.send_signal(signal.SIGINT)
    started = federation.processes()
    assert federation.process.wait(120) == 130
    _, alive = psutil.wait_procs(started, timeout=0)
    assert not alive
    assert federation.process.stdout is not None
    assert federation.process.stdout.read() == ""
    federation.process.stdout.close()


def test_interrupted_before_it_is_ready_it_ends_what_it_has_started(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "manybinder", "up", "--port", str(free_port()), "--data-dir", str(tmp_path / "up")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "hub is starting" not in process.stderr.readline():
        pass
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=READY_DEADLINE_S / 2)
    assert (process.returncode, out) == (0, "")
    _, alive = psutil.wait_procs(started, timeout=0)
    assert not alive


@pytest.fixture
async def replicated(tmp_path: Path, config: Path) -> AsyncIterator[Federation]:
    arguments = ("--gateways", "2", "--members", "1", "--member-config", str(config))
    federation = await asyncio.to_thread(Federation.start, tmp_path / "up", *arguments)
    yield federation
    federation.stop()


async def test_several_gateways_share_a_redis_of_their_own_which_may_die(replicated: Federation) -> None:
    async def agree() -> None:
        """Wait until both replicas see each other, whichever answers."""
        seen: set[str] = set()
        async with asyncio.timeout(120):
            while len(seen) < 2:
                # Each time by a connection of its own, for that is what goes to one replica or another.
                async with aiohttp.ClientSession() as own, own.get(f"{replicated.url}/api/v1/federation") as response:
                    wire = await response.json()
                if len(wire["replicas"]) == 2 and wire["degraded_since"] is None:
                    seen |= {item["name"] for item in wire["replicas"] if item["this"]}
                await asyncio.sleep(0.1)

    def redis() -> list[psutil.Process]:
        # It writes over its command line.
        titles = ("redis-server", "valkey-server")
        return [it for it, command in replicated.commands() if command and any(name in command[0] for name in titles)]

    await agree()
    (before,) = redis()
    # It answers only those who have its password.
    (port,) = {c.laddr.port for c in before.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PING\r\n")
    assert (await reader.readline()).startswith(b"-NOAUTH")
    writer.close()
    before.kill()
    async with asyncio.timeout(60):
        while before in redis() or not redis():
            await asyncio.sleep(0.1)
    await agree()
    for name in ("gateway-1", "gateway-2"):
        assert (replicated.data_dir / name / "records.sqlite3").exists()
