"""Launch events for a member's operator: every launch that has ended, failed ones too, and no secret."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from contract.events import Failure
from member.builders.base import BuildFailedError
from member.engines import launch_log
from member.engines.launch_log import LaunchLog
from tests.member.member_harness import COMMIT, order, rig, until


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_each_launch_is_one_event_however_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "launches.jsonl"
    log = LaunchLog(path, "https://member.example:8443/binder/")
    async with rig(on_end=log.record) as made:
        fine = order(with_token=True, request_origin="https://notes.example")
        await made.launch(fine)
        broken = order("broken")
        made.builder.fail(broken.image, BuildFailedError(Failure.USER, "no"))
        await made.launch(broken)
        made.hub.spawn_fails = "no luck"
        await made.launch(order())
        made.hub.spawn_fails, made.hub.gate = "", asyncio.Event()
        cancelled = made.launches.start(order())
        await until(lambda: made.hub.users.get(cancelled.user))
        made.launches.cancel(cancelled)
        await made.events(cancelled)
    log.close()
    ready, *failed = lines(path)
    assert ready.pop("timestamp").endswith("+00:00")
    assert ready.pop("seconds") >= 0
    assert len(ready.pop("launch_id")) == 12
    assert ready == {
        "schema": "binderhub.jupyter.org/launch",
        "version": 6,
        "provider": "GitHub",
        "spec": "org/repo/main",
        "ref": COMMIT,
        "status": "success",
        "build_token": True,
        "origin": "member.example:8443",
        "request_origin": "https://notes.example",
        "retries": 0,
    }
    assert [(event["failure"], event["phase"]) for event in failed] == [
        ("user", "building"),
        ("member", "launching"),
        ("cancelled", "launching"),
    ]
    assert {(event["schema"], event["status"]) for event in failed} == {("manybinder/launch-failure", "failure")}
    text = path.read_text()
    assert fine.launch_id not in text
    assert "192.0.2.7" not in text
    assert 'token":' not in text.replace('build_token":', "")


async def test_files_are_bounded_and_a_full_disk_costs_no_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launch_log, "_MOST_BYTES", 1000)
    path = tmp_path / "launches.jsonl"
    log = LaunchLog(path, "https://member.example/")
    async with rig(on_end=log.record) as made:
        for _ in range(20):
            await made.launch(order())
        kept = sorted(tmp_path.iterdir())
        assert len(kept) == 1 + 5
        assert all(file.stat().st_size <= 1000 for file in kept)
        log.close()
        lost = LaunchLog(tmp_path / "nowhere" / "launches.jsonl", "https://member.example/")
        made.launches._on_end = lost.record
        with caplog.at_level(logging.ERROR):
            for _ in range(2):
                assert (await made.launch(order()))[-1].fields["url"]
        assert caplog.text.count("launch events cannot be written") == 1
