"""Logs of builds: whole while they grow, bounded when they are long, gone when they are old."""

import asyncio
import os
from pathlib import Path

import pytest

from member.engines import build_logs
from member.engines.build_logs import BuildLog, BuildLogs


def logs_in(directory: Path, most_bytes: int = 2**20, max_age_s: float = 3600) -> BuildLogs:
    logs = BuildLogs(directory, "https://member.example/hub/", most_bytes=most_bytes, max_age_s=max_age_s)
    logs.start()
    return logs


async def text_of(logs: BuildLogs, log_id: str, *, live: bool = True) -> str:
    async with asyncio.timeout(30):
        return b"".join([chunk async for chunk in logs.follow(log_id, live=live)]).decode()


def written(logs: BuildLogs, text: str) -> BuildLog:
    log = logs.open()
    log.write(text)
    log.close()
    return log


async def test_a_log_is_followed_while_it_grows_and_read_afterwards(tmp_path: Path) -> None:
    logs = logs_in(tmp_path)
    log = logs.open()
    assert log.url == f"https://member.example/hub/api/v1/builds/{log.id}/log"
    log.write("one\n")
    following = asyncio.create_task(text_of(logs, log.id))
    await asyncio.sleep(0.05)
    assert await text_of(logs, log.id, live=False) == "one\n"
    log.write("two, without an end of line")
    log.write("")
    await asyncio.sleep(0.05)
    assert not following.done()
    log.close()
    log.close()
    log.write("too late")
    whole = "one\ntwo, without an end of line\n"
    assert await following == await text_of(logs, log.id) == whole
    # Another start of the member finds it.
    assert await text_of(logs_in(tmp_path), log.id) == whole


async def test_of_a_long_log_its_beginning_and_its_end_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_logs, "HEAD_BYTES", 1000)
    monkeypatch.setattr(build_logs, "TAIL_BYTES", 500)
    logs = logs_in(tmp_path)
    log = logs.open()
    for n in range(10_000):
        log.write(f"line {n}\n")
    log.write("the error\n")
    log.close()
    text = await text_of(logs, log.id)
    assert text.startswith("line 0\nline 1\n")
    assert text.endswith("line 9999\nthe error\n")
    assert "bytes are left out here" in text
    assert len(text) < 2000


async def test_the_oldest_logs_go_when_there_are_too_many_and_all_in_the_end(tmp_path: Path) -> None:
    logs = logs_in(tmp_path, most_bytes=2500)
    kept = []
    for n in range(5):
        log = written(logs, "x" * 999)
        os.utime(tmp_path / f"{log.id}.log", (1000 + n, 1000 + n))
        kept.append(log.id)
    growing = logs.open()
    growing.write("y" * 5000)
    later = BuildLogs(tmp_path, "", most_bytes=2500, max_age_s=100, wall=lambda: 1050.0)
    await later.clean()
    assert [logs.find(log_id) for log_id in kept] == [False, False, False, True, True]
    assert logs.find(growing.id)
    later = BuildLogs(tmp_path, "", most_bytes=2500, max_age_s=100, wall=lambda: 5000.0)
    await later.clean()
    assert not any(logs.find(log_id) for log_id in kept)
    growing.close()


async def test_a_crash_leaves_a_log_that_says_so(tmp_path: Path) -> None:
    log = logs_in(tmp_path).open()
    log.write("half of it\n")
    again = logs_in(tmp_path)
    text = await text_of(again, log.id)
    assert text.startswith("half of it\n")
    assert "restarted" in text
    log.close()


async def test_nothing_but_an_id_finds_a_log(tmp_path: Path) -> None:
    logs = logs_in(tmp_path / "logs")
    (tmp_path / "secret.log").write_text("secret")
    for log_id in ("../secret", "", "0" * 32, "*", "A" * 32):
        assert not logs.find(log_id)
        assert await text_of(logs, log_id) == ""


async def test_a_build_goes_on_whose_log_cannot_be_written(tmp_path: Path) -> None:
    logs = logs_in(tmp_path / "logs")
    (tmp_path / "logs").rmdir()
    log = logs.open()
    log.write("nowhere to go\n")
    log.close()
    assert not logs.find(log.id)
