"""`launch`, `status` and `explain` as processes, against a gateway with set answers."""

import asyncio
import json
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.gateway import LAUNCH, FakeGateway
from tests.federation import free_port

READY = {
    "phase": "ready",
    "message": "server running at http://127.0.0.1:9002/user/me/\n",
    "url": "http://127.0.0.1:9002/user/me/",
    "token": "s3cret",
    "member": "member-1",
}
LAUNCHING = [
    {"phase": "waiting", "message": "Waiting for build to start...\n"},
    {"phase": "building", "message": "Step 1\n", "member": "member-1"},
    {"message": "a log line without a phase\n"},
    {"phase": "built", "message": "Built image, launching...\n", "imageName": "i"},
    {"phase": "launching", "message": "Launching server...\n"},
]


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


async def manybinder(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "manybinder",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environ or {})},
    )
    out, err = await asyncio.wait_for(process.communicate(), 150)
    assert process.returncode is not None
    assert b"Traceback" not in err
    return Result(process.returncode, out.decode(), err.decode())


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway() as gateway:
        yield gateway


async def test_a_launch_prints_the_notebook_s_url_and_nothing_else(gateway: FakeGateway) -> None:
    gateway.events = [*LAUNCHING, READY]
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url, "--path", "a b.ipynb")
    assert result.out == "http://127.0.0.1:9002/user/me/doc/tree/a%20b.ipynb?token=s3cret\n"
    assert result.code == 0
    assert gateway.specs == ["gh/org/repo/HEAD"]
    assert gateway.tokens == ["page-token"]
    assert "text/event-stream" in gateway.connections[0]["Accept"]
    phases = [line.split()[2].rstrip(":") for line in result.err.splitlines()]
    assert phases == ["waiting", "building", "built", "launching", "ready"]
    assert "s3cret" not in result.err


@pytest.mark.parametrize(
    ("url", "ref", "spec"),
    [
        ("https://github.com/org/repo", "v1", "gh/org/repo/v1"),
        ("https://gitlab.com/group/project", "", "git/https%3A%2F%2Fgitlab.com%2Fgroup%2Fproject.git/HEAD"),
        ("http://127.0.0.1:9/some.git", "a/b", "git/http%3A%2F%2F127.0.0.1%3A9%2Fsome.git/a/b"),
    ],
)
async def test_addresses_reach_the_gateway_encoded_as_specs_are(
    gateway: FakeGateway, url: str, ref: str, spec: str
) -> None:
    gateway.events = [READY]
    result = await manybinder("launch", url, "--ref", ref, environ={"MANYBINDER_GATEWAY": gateway.url})
    assert result.code == 0, result.err
    assert gateway.specs == [spec]


async def test_json_is_one_event_a_line_and_nothing_else(gateway: FakeGateway) -> None:
    gateway.events = [*LAUNCHING, {"phase": "unheard-of", "message": "half a pair: \ud83d"}, READY]
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url, "--json")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["phase"] for event in events] == [
        "waiting",
        "building",
        "unknown",
        "built",
        "launching",
        "unknown",
        "ready",
    ]
    assert events[-1] == {**READY, "notebook_url": "http://127.0.0.1:9002/user/me/?token=s3cret"}
    assert (result.code, result.err) == (0, "")


async def test_a_cut_stream_goes_on_where_it_was(gateway: FakeGateway) -> None:
    gateway.events = [*LAUNCHING, READY]
    gateway.cut_after = [2, 3, 3]
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url, "--json")
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == len(gateway.events)
    assert [headers.get("Last-Event-ID") for headers in gateway.connections] == [
        None,
        f"{LAUNCH}.1",
        f"{LAUNCH}.2",
        f"{LAUNCH}.2",
    ]


async def test_a_cut_stream_without_ids_is_no_reason_to_launch_again(gateway: FakeGateway) -> None:
    gateway.events, gateway.with_ids, gateway.cut_after = [*LAUNCHING, READY], False, [2]
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url)
    assert (result.code, result.out, len(gateway.connections)) == (3, "", 1)


async def test_an_upstream_binderhub_will_do(gateway: FakeGateway) -> None:
    gateway.events, gateway.with_ids = [*LAUNCHING, READY], False
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url.rstrip("/"))
    assert (result.code, result.out) == (0, "http://127.0.0.1:9002/user/me/?token=s3cret\n")


@pytest.mark.parametrize(
    ("final", "code", "said"),
    [
        ({"message": "requirements do not resolve\n", "failure": "user"}, 1, "requirements do not resolve"),
        ({"message": "it went away\n", "failure": "member"}, 1, "the member failed: it went away"),
        ({"message": "full\n", "failure": "refused", "retry_after_s": 30}, 4, "refused: full (try again in 30 s)"),
        ({"message": "Rate limit exceeded.\n", "status_code": 429}, 4, "Rate limit exceeded."),
        ({"message": "\x1b[2J\x1b]0;owned\x07evil\r\n"}, 1, "failed: evil"),
    ],
)
async def test_a_failure_is_told_with_its_log(
    gateway: FakeGateway, final: dict[str, Any], code: int, said: str
) -> None:
    gateway.events = [*LAUNCHING, {"phase": "failed", **final}]
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url)
    assert (result.code, result.out) == (code, "")
    assert said in result.err.splitlines()[-1]
    assert "a log line without a phase" in result.err
    assert "\x1b" not in result.err
    as_json = await manybinder("launch", "org/repo", "--gateway", gateway.url, "--json")
    assert as_json.code == code
    assert json.loads(as_json.out.splitlines()[-1])["phase"] == "failed"
    assert as_json.err == result.err.splitlines()[-1] + "\n"


async def test_the_log_is_shown_as_it_comes_where_it_is_asked_for(gateway: FakeGateway) -> None:
    gateway.events = [*LAUNCHING[:2], {"message": "in "}, {"message": "pieces\n"}, READY]
    shown = await manybinder("launch", "org/repo", "--gateway", gateway.url, "--log")
    hidden = await manybinder("launch", "org/repo", "--gateway", gateway.url)
    assert "    in pieces\n" in shown.err
    assert "pieces" not in hidden.err


@pytest.mark.parametrize("command", [["launch", "org/repo"], ["status"], ["explain", "org/repo"]])
async def test_a_gateway_that_is_not_there(command: list[str]) -> None:
    result = await manybinder(*command, "--gateway", f"http://127.0.0.1:{free_port()}")
    assert (result.code, result.out) == (3, "")
    assert "cannot reach" in result.err
    assert "refused" in result.err


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"build_status": 429, "problem": "Slower, please."}, 4, "Slower, please."),
        ({"build_status": 503}, 3, "503"),
        ({"build_status": 500}, 1, "500"),
        ({"build_status": 204}, 1, "has ended"),
        ({"page_status": 404, "api_status": 400, "problem": "No provider found"}, 1, "No provider found"),
        ({"page_status": 403}, 4, "403"),
        ({"events": []}, 1, "without saying how"),
        ({"events": [{"phase": "ready", "url": "javascript:alert(1)", "token": "t"}]}, 1, "cannot be opened"),
    ],
)
async def test_what_a_gateway_may_answer_instead(
    gateway: FakeGateway, changes: dict[str, Any], code: int, said: str
) -> None:
    gateway.events, gateway.with_ids = [READY], False
    for name, value in changes.items():
        setattr(gateway, name, value)
    result = await manybinder("launch", "org/repo", "--gateway", gateway.url)
    assert (result.code, result.out) == (code, "")
    assert said in result.err


async def test_a_page_without_a_token_is_no_obstacle(gateway: FakeGateway) -> None:
    gateway.events, gateway.token = [READY], ""
    assert (await manybinder("launch", "org/repo", "--gateway", gateway.url)).code == 0
    assert gateway.tokens == [""]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_cancels_the_launch(gateway: FakeGateway, number: signal.Signals) -> None:
    gateway.events, gateway.hang = LAUNCHING, True
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "manybinder",
        "launch",
        "org/repo",
        "--gateway",
        gateway.url,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(150):
        await gateway.streaming.wait()
        assert process.stderr is not None
        while b"launching" not in (line := await process.stderr.readline()):
            assert line, "it ended by itself"
        process.send_signal(number)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"the launch is cancelled" in err
    assert gateway.cancelled == [LAUNCH]


async def test_on_a_terminal_the_phase_and_the_time_are_seen_to_move(gateway: FakeGateway) -> None:
    gateway.events, gateway.hang = LAUNCHING, True
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "manybinder", "launch", "org/repo", "--gateway", gateway.url),
        stdin=slave,
        stdout=asyncio.subprocess.PIPE,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"},
    )
    os.close(slave)
    seen = b""

    async def until(sign: Callable[[bytes], bool]) -> None:
        nonlocal seen
        async with asyncio.timeout(150):
            while not sign(seen):
                seen += await asyncio.to_thread(os.read, master, 4096)

    # Whether every second is shown depends on the machine's speed.
    await until(lambda text: len(set(re.findall(rb"launching on member-1, (\d+) s", text))) >= 2)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 60)
    os.close(master)
    assert process.returncode == 130


MEMBERS = [
    {
        "name": "member-1",
        "state": "healthy",
        "health": "healthy",
        "reasons": [],
        "capacity": {"sessions": {"running": 3, "limit": 10, "free": 7}, "builds": {"running": 1, "limit": 2}},
        "capacity_age_s": 1.4,
        "believed_free": 6,
    },
    {"name": "member-2", "state": "unreachable", "health": "unreachable", "reasons": ["Connection \x1b[31mrefused."]},
]


async def test_status_is_a_table_or_a_member_a_line(gateway: FakeGateway) -> None:
    gateway.members = MEMBERS
    table = await manybinder("status", "--gateway", gateway.url)
    assert table.code == 0
    _, one, two = table.out.splitlines()
    assert one.split()[:6] == ["member-1", "healthy", "3", "of", "10", "6"]
    assert two.split()[:2] == ["member-2", "unreachable"]
    assert two.rstrip().endswith("Connection refused.")
    lines = await manybinder("status", "--gateway", gateway.url, "--json")
    assert [json.loads(line) for line in lines.out.splitlines()] == MEMBERS
    assert lines.err == ""


async def lines(stream: asyncio.StreamReader, count: int) -> list[str]:
    """The next lines."""
    return [(await stream.readline()).decode().rstrip() for _ in range(count)]


@asynccontextmanager
async def watching(gateway: FakeGateway, *options: str, **given: Any) -> AsyncIterator[Process]:
    """``status --watch`` that runs, until it is interrupted."""
    streams: dict[str, Any] = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **given}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "manybinder", "status", "--watch", *options, "--gateway", gateway.url),
        # What runs in the background of a shell ignores it, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **streams,
    )
    async with asyncio.timeout(150):
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            await process.communicate()
    assert process.returncode == 130


async def test_status_watches_until_it_is_interrupted_and_outlives_a_hiccup(gateway: FakeGateway) -> None:
    gateway.members = MEMBERS
    async with watching(gateway, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        names = [json.loads(await process.stdout.readline())["name"] for _ in range(4)]
        assert names == ["member-1", "member-2"] * 2
        gateway.api_status = 503
        said = await process.stderr.readline()
        assert said.startswith(b"manybinder: cannot reach ")
        assert said.endswith(b": HTTP 503\n")
        gateway.api_status, gateway.members = 200, [{**MEMBERS[0], "name": "member-3"}]
        while json.loads(await process.stdout.readline())["name"] != "member-3":
            pass


async def two_looks(gateway: FakeGateway) -> None:
    """Wait for two looks at the federation; the first of them is then answered, read and told."""
    seen = gateway.looks
    while gateway.looks < seen + 2:
        await asyncio.sleep(0.05)


async def test_status_that_is_watched_off_a_terminal_prints_a_table_at_each_change(gateway: FakeGateway) -> None:
    gateway.members, gateway.status = MEMBERS, {"level": "partly", "text": "Members taking launches: 1 of 2."}
    async with watching(gateway) as process:
        assert process.stdout is not None
        first = await lines(process.stdout, 5)
        assert first[0] == "Members taking launches: 1 of 2."
        assert [line.split()[0] for line in first[2:]] == ["MEMBER", "member-1", "member-2"]
        # That a report has grown older is no news; that the gateway is away is told once.
        gateway.members = [{**MEMBERS[0], "capacity_age_s": 5.4}, MEMBERS[1]]
        await two_looks(gateway)
        gateway.api_status = 503
        await two_looks(gateway)
        gateway.api_status = 200
        gateway.members = [{**MEMBERS[0], "capacity_age_s": 0.4, "state": "full"}, MEMBERS[1]]
        second = await lines(process.stdout, 6)
        assert second[0] == ""
        assert second[4].split()[:2] == ["member-1", "full"]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
        assert (out, err.count(b"503")) == (b"", 1)


async def test_status_does_not_watch_a_gateway_that_never_answered() -> None:
    result = await manybinder("status", "--watch", "--gateway", f"http://127.0.0.1:{free_port()}")
    assert (result.code, result.out) == (3, "")


@pytest.mark.slow  # it waits for what a terminal shows
async def test_status_that_is_watched_on_a_terminal_is_one_table_that_changes(gateway: FakeGateway) -> None:
    gateway.members = MEMBERS
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "NO_COLOR": "1"}
    async with watching(gateway, stdin=slave, stdout=slave, stderr=slave, env=environment):
        os.close(slave)
        seen = b""
        for state in ("healthy", "full"):
            gateway.members = [{**MEMBERS[0], "state": state}, MEMBERS[1]]
            while state.encode() not in seen:
                seen += await asyncio.to_thread(os.read, master, 4096)
        # Cursor up: the table before is written over (ECMA-48, 8.3.22).
        assert b"\x1b[1A" in seen
    os.close(master)


async def test_explain_says_it_in_one_sentence_first(gateway: FakeGateway) -> None:
    gateway.decision = {
        "sentence": "member-1 takes it: it has room.",
        "candidates": [{"member": "member-1", "tier": "room", "reason": "has 3 sessions free"}],
        "rejected": [{"member": "member-2", "reason": "unreachable: it does not answer"}],
    }
    result = await manybinder("explain", "https://github.com/org/repo", "--ref", "v1", "--gateway", gateway.url)
    assert result.code == 0, result.err
    first, _, _, candidate, rejected = result.out.splitlines()
    assert first == "member-1 takes it: it has room."
    assert candidate.split() == ["1.", "member-1", "room", "has", "3", "sessions", "free"]
    assert rejected.split()[:2] == ["no", "member-2"]
    assert gateway.asked == ["gh/org/repo/v1"]
    as_json = await manybinder("explain", "org/repo", "--gateway", gateway.url, "--json")
    assert [json.loads(line) for line in as_json.out.splitlines()] == [gateway.decision]


@pytest.mark.parametrize(
    ("status", "problem", "code", "said"),
    [
        (404, "", 1, "is it a manybinder gateway?"),
        (400, "Name a repository.", 1, "Name a repository."),
        (503, "", 3, ""),
    ],
)
async def test_a_gateway_that_does_not_explain(
    gateway: FakeGateway, status: int, problem: str, code: int, said: str
) -> None:
    gateway.api_status, gateway.problem = status, problem
    result = await manybinder("explain", "org/repo", "--gateway", gateway.url, "--json")
    assert (result.code, result.out) == (code, "")
    assert said in result.err


WRONG = [
    ["launch"],
    ["launch", "not a repository"],
    ["launch", "./here"],
    ["launch", "org/repo", "--gateway", "ftp://example.org"],
    ["status", "--gateway", "http://host:port"],
    ["explain", "https://github.com/"],
    ["no-such-command"],
    ["up", "--port", "0"],
    ["up", "--members", "none"],
    ["gateway"],
    ["member", "--config", "x", "--only", "hub"],
]


async def test_wrong_usage() -> None:
    for arguments in WRONG:
        result = await manybinder(*arguments)
        assert (result.code, result.out) == (2, ""), arguments
        assert result.err


async def test_the_version_and_the_help() -> None:
    assert (await manybinder("--version")).out.startswith("manybinder, version ")
    assert "Exit codes" in (await manybinder("--help")).out
