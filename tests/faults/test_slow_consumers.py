"""Visitors who read slowly, or never: bounded memory, and nobody else is the worse for it."""

import asyncio
import contextlib
import resource
import socket
from pathlib import Path

import pytest

from contract.events import Phase
from tests.gateway.harness import SPEC, spec_of
from tests.gateway.test_incidents import Federation, federation

CONSUMERS = 500

#: What one of them may cost the gateway: a buffer of 64 KiB, objects, and what the allocator does not give back.
EACH_KB = 200

#: What as many more may add when the first have gone: an allocator gives little back, but uses it again.
MORE_KB = 25_000


def resident_kb(running: Federation) -> int:
    """What the gateway has in memory."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


async def streams(running: Federation) -> float:
    """How many streams are open."""
    _, text = await running.get("metrics")
    line = next(line for line in text.splitlines() if line.startswith("manybinder_gateway_event_streams "))
    return float(line.split()[1])


async def consume(address: tuple[str, int], last_id: str, every_s: float | None) -> None:
    """Ask for a stream, and read a little now and then, or never (``None``)."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, address)
        head = f"GET /build/{SPEC} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nAccept: text/event-stream\r\n"
        await loop.sock_sendall(connection, f"{head}Last-Event-ID: {last_id}\r\n\r\n".encode())
        while every_s is None:
            await asyncio.sleep(3600)
        with contextlib.suppress(ConnectionError):
            while await loop.sock_recv(connection, 300):
                await asyncio.sleep(every_s)


async def come(running: Federation, address: tuple[str, int], last_id: str) -> list[asyncio.Task[None]]:
    """All of them, half slow and half dead, once the gateway has them."""
    before = await streams(running)
    consumers = [asyncio.create_task(consume(address, last_id, None if n % 2 else 0.2)) for n in range(CONSUMERS)]
    async with asyncio.timeout(120):
        while await streams(running) < before + CONSUMERS:
            await asyncio.sleep(0.2)
    return consumers


async def go(running: Federation, consumers: list[asyncio.Task[None]], left: int) -> None:
    """End them all, and see that the gateway notices."""
    for task in consumers:
        task.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    async with asyncio.timeout(120):
        while await streams(running) > left:
            await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_five_hundred_slow_and_dead_consumers_for_a_minute(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    async with federation(tmp_path, 1) as running:
        (member,) = running.members.values()
        assert (await running.launch(spec_of("before")))[-1].phase == Phase.READY
        member.lines = 400
        member.line = "x" * 8000
        member.knobs.gate_at = 400
        watching = asyncio.create_task(running.launch(patience=550))
        async with asyncio.timeout(120):
            while len(member.sent) < 399:
                await asyncio.sleep(0.05)
        baseline, last_id = resident_kb(running), f"{member.launches[-1]}.0"
        address = ("127.0.0.1", int(running.url.rsplit(":", 1)[1].rstrip("/")))
        consumers = await come(running, address, last_id)
        peak = 0
        for n in range(60):
            peak = max(peak, resident_kb(running))
            if n % 15 == 5:
                # Whoever reads gets a launch meanwhile.
                member.lines, member.knobs.gate_at = 3, None
                async with asyncio.timeout(60):
                    assert (await running.launch(spec_of(f"meanwhile-{n}")))[-1].phase == Phase.READY
            await asyncio.sleep(1)
        assert peak - baseline < CONSUMERS * EACH_KB, (baseline, peak)
        # Who reads nothing for a minute is cut off; who reads slowly is not.
        async with asyncio.timeout(120):
            while await streams(running) > CONSUMERS / 2 + 1:
                await asyncio.sleep(0.5)
        assert not any(task.done() for task in consumers[::2])
        await go(running, consumers, left=1)
        consumers = await come(running, address, last_id)
        again = resident_kb(running)
        assert again - peak < MORE_KB, (baseline, peak, again)
        member.gate.set()
        assert (await watching)[-1].phase == Phase.READY
        await go(running, consumers, left=0)
