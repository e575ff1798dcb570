"""What becomes of results: where standard output cannot be written, and off a terminal."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import pytest

from manybinder.errors import Exit
from tests.fakes.gateway import FakeGateway
from tests.manybinder.test_cli_client import LAUNCHING, MEMBERS, READY, manybinder

COMMANDS = [
    ["--help"],
    ["completion", "bash"],
    ["status"],
    ["status", "--json"],
    ["status", "--watch"],
    ["status", "--watch", "--json"],
    ["explain", "org/repo"],
    ["launch", "org/repo"],
    ["launch", "org/repo", "--json"],
]


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as gateway:
        gateway.members, gateway.events = MEMBERS, [*LAUNCHING, READY]
        gateway.decision = {"sentence": "member-1 takes it.", "candidates": [{"member": "member-1", "reason": "room"}]}
        yield gateway


async def told_of(stdout: int, gateway: FakeGateway, *arguments: str) -> list[str]:
    """What standard error has of a command that fails at its output, which is then closed."""
    try:
        process = await asyncio.create_subprocess_exec(
            # In this mode what Python swallows at a process's end would be seen as well.
            *(sys.executable, "-X", "dev", "-m", "manybinder", *arguments),
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "MANYBINDER_GATEWAY": gateway.url},
        )
    finally:
        os.close(stdout)
    _, err = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode == Exit.FAILED, err
    return err.decode().splitlines()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_an_output_that_takes_nothing_is_an_error_in_one_line(gateway: FakeGateway, arguments: list[str]) -> None:
    lines = await told_of(os.open("/dev/full", os.O_WRONLY), gateway, *arguments)
    assert lines.pop() == "manybinder: cannot write to standard output: No space left on device"
    # A launch has told its phases before.
    assert (lines != []) == (arguments == ["launch", "org/repo"])
    assert "Traceback" not in "".join(lines)


async def test_so_is_one_that_has_no_room_and_does_not_wait(gateway: FakeGateway) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        os.write(writer, bytes(1 << 20))
        lines = await told_of(writer, gateway, "status")
    finally:
        os.close(reader)
    assert lines == ["manybinder: cannot write to standard output: Resource temporarily unavailable"]


@pytest.mark.parametrize("arguments", [["status"], ["status", "--watch", "--json"]], ids=" ".join)
async def test_a_pipe_that_nobody_reads_any_more_ends_a_command_without_a_word(
    gateway: FakeGateway, arguments: list[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert await told_of(writer, gateway, *arguments) == []


async def test_off_a_terminal_no_line_ends_in_blanks(gateway: FakeGateway) -> None:
    gateway.status = {"level": "partly", "text": "Members taking launches: 1 of 2."}
    for arguments in (["status"], ["explain", "org/repo"], ["simulate", "--days", "0.01"]):
        result = await manybinder(*arguments, environ={"MANYBINDER_GATEWAY": gateway.url})
        assert len(result.out.splitlines()) > 2
        assert [line for line in result.out.splitlines() if line != line.rstrip()] == []
