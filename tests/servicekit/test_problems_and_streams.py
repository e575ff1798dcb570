"""Errors as problem+json, journals as streams, tasks that are not lost, the lifeline."""

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from contract.events import Phase, event
from contract.journal import Journal
from contract.sse import Parser
from servicekit.problems import Problem, problem_middleware
from servicekit.streams import read_up_to, stream_entries
from servicekit.tasks import Tasks

LAUNCH = "0123456789abcdef" * 2


@pytest.fixture
async def client(aiohttp_client: object) -> TestClient[web.Request, web.Application]:
    async def refuse(_: web.Request) -> web.Response:
        raise Problem(429, "Too Many", "Wait a little.", retry_after_s=3)

    async def crash(_: web.Request) -> web.Response:
        raise RuntimeError("a secret")

    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        raise Problem(500, "Too Late", "a secret") if "problem" in request.query else RuntimeError("a secret")

    app = web.Application(middlewares=[problem_middleware])
    app.router.add_get("/break-off", break_off)
    app.router.add_get("/refuse", refuse)
    app.router.add_get("/crash", crash)
    client: TestClient[web.Request, web.Application] = await aiohttp_client(app)  # type: ignore[operator]
    return client


async def test_every_error_is_a_problem(
    client: TestClient[web.Request, web.Application], caplog: pytest.LogCaptureFixture
) -> None:
    for method, path, status in (
        ("GET", "/refuse", 429),
        ("GET", "/nowhere", 404),
        ("POST", "/refuse", 405),
        ("GET", "/crash", 500),
    ):
        async with client.request(method, path) as response:
            body = json.loads(await response.text())
            assert response.status == body["status"] == status
            assert response.content_type == "application/problem+json"
            assert body["detail"]
            assert "secret" not in body["detail"]
            if status == 405:
                assert "GET" in response.headers["Allow"]
    assert "a secret" in caplog.text


@pytest.mark.parametrize("query", ["", "?problem"])
async def test_an_answer_that_has_begun_is_cut_off_and_gets_no_second_head(
    client: TestClient[web.Request, web.Application], query: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = await asyncio.open_connection("127.0.0.1", client.port)
    writing.write(f"GET /break-off{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    async with asyncio.timeout(60):
        answer = await reading.read()  # to the end: the connection is closed
    writing.close()
    assert answer.count(b"HTTP/1.1") == 1
    # No last chunk: the client knows that something is missing.
    assert answer.endswith(b"begun\r\n")
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def _serve(
    aiohttp_client: object, journal: Journal, keepalive_s: float
) -> TestClient[web.Request, web.Application]:
    async def stream(request: web.Request) -> web.StreamResponse:
        return await stream_entries(request, journal.follow(), LAUNCH, keepalive_s=keepalive_s)

    app = web.Application()
    app.router.add_get("/", stream)
    client: TestClient[web.Request, web.Application] = await aiohttp_client(app)  # type: ignore[operator]
    return client


async def test_entries_arrive_one_by_one_with_ids_and_comments_in_silence(aiohttp_client: object) -> None:
    journal = Journal()
    client = await _serve(aiohttp_client, journal, 0.05)
    journal.append(event(Phase.WAITING, "1"))
    async with client.get("/") as response:
        assert response.content_type == "text/event-stream"
        parser, seen = Parser(), []
        raw = b""
        async for chunk in response.content.iter_any():
            raw += chunk
            seen += [item.id for item in parser.feed(chunk)]
            if raw.count(b":keepalive") >= 2 and journal.final is None:
                journal.append(event(Phase.READY, "2"))
    assert seen == [f"{LAUNCH}.0", f"{LAUNCH}.1"]


@pytest.mark.parametrize(("most", "body"), [(100, b"abcdef"), (6, b"abcdef"), (5, b"abcde")])
async def test_a_body_that_comes_in_pieces_is_read_whole_up_to_a_bound(
    aiohttp_client: object, most: int, body: bytes
) -> None:
    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b"ab", b"cd", b"ef"):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    app = web.Application()
    app.router.add_get("/", pieces)
    client: TestClient[web.Request, web.Application] = await aiohttp_client(app)  # type: ignore[operator]
    async with client.get("/") as response:
        assert await read_up_to(response.content, most) == body


async def test_a_client_that_leaves_ends_its_stream_and_no_task_is_left(aiohttp_client: object) -> None:
    journal = Journal()
    client = await _serve(aiohttp_client, journal, 0.02)
    before = len(asyncio.all_tasks())
    journal.append(event(Phase.WAITING))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), client.get("/") as response:
            await response.read()
    async with asyncio.timeout(60):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


async def test_a_client_that_never_reads_is_cut_off_and_holds_no_memory() -> None:
    journal, ended = Journal(), asyncio.Event()
    for n in range(300):
        journal.append(event(Phase.BUILDING, f"{n} {'x' * 50_000}\n"))
    transports: list[asyncio.BaseTransport | None] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        transports.append(request.transport)
        try:
            return await stream_entries(request, journal.follow(), LAUNCH, write_timeout_s=0.3)
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    before = asyncio.all_tasks()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, runner.addresses[0])
        await loop.sock_sendall(deaf, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            await ended.wait()
            while not transports[0] or transports[0].is_closing() is False or asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)
        assert isinstance(transports[0], asyncio.Transport)
        assert transports[0].get_write_buffer_size() == 0
    await runner.cleanup()


async def test_tasks_are_counted_guarded_and_ended(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks()

    async def crash() -> None:
        raise RuntimeError("expected")

    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        raise RuntimeError("again")

    with caplog.at_level(logging.ERROR):
        await asyncio.gather(tasks.spawn("crasher", crash()), return_exceptions=True)
        looping = tasks.every("looper", 0.001, step)
        async with asyncio.timeout(60):
            while rounds < 3:
                await asyncio.sleep(0.001)
        await tasks.close()
    assert tasks.crashes["crasher"] == 1
    assert tasks.crashes["looper"] >= 3
    assert looping.cancelled()
    assert len(tasks) == 0
    assert "crasher" in caplog.text


_CHILD = """
import asyncio, signal
from servicekit import lifeline
async def main():
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    lifeline.watch(loop, lifeline.inherited_fd())
    print("watching", flush=True)
    await stop.wait()
asyncio.run(main())
"""


def test_a_child_ends_when_its_supervisor_is_gone() -> None:
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        pass_fds=[reading],
        env={**os.environ, "MANYBINDER_LIFELINE_FD": str(reading)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.close(reading)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"watching\n"
        assert child.poll() is None
        os.close(writing)
        assert child.wait(60) == 0


def test_without_a_supervisor_there_is_no_lifeline() -> None:
    from servicekit.lifeline import inherited_fd

    assert inherited_fd({}) is None
    assert inherited_fd({"MANYBINDER_LIFELINE_FD": "x"}) is None
    assert inherited_fd({"MANYBINDER_LIFELINE_FD": "987654"}) is None
