"""The operator's word before a launch: a command or a function, what it is told, and what becomes of its answers."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.events import BuildEvent, Failure, Phase
from member.engines.hook import Hook
from member.settings import HookSettings
from tests.member.member_harness import order, rig

asked: list[dict[str, Any]] = []


def lenient(launch: dict[str, Any]) -> str | None:
    """An operator's function."""
    asked.append(launch)
    return None if "repo" in launch["repo_url"] else f"{launch['repo_url']} is for members of staff."


async def broken(launch: dict[str, Any]) -> None:
    """One that does not work."""
    raise KeyError("secret configuration")


def script(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "hook.py"
    path.write_text(f"import json, sys, time\nlaunch = json.load(sys.stdin)\n{text}\n")
    return [sys.executable, str(path)]


async def outcome(hook: dict[str, Any], name: str = "repo") -> BuildEvent:
    async with rig(hook=hook) as made:
        events = await made.launch(order(name))
        assert sum(event.is_final for event in events) == 1
        if events[-1].phase == Phase.FAILED:
            assert made.hub.count("make user") == 0
        return events[-1]


async def test_a_command_gets_the_launch_and_says_go_on(tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    event = await outcome({"command": script(tmp_path, f"open({str(seen)!r}, 'w').write(json.dumps(launch))")})
    assert event.phase == Phase.READY
    told = json.loads(seen.read_text())
    assert told["spec"] == "gh/org/repo/main"
    assert told["repo_url"] == "https://git.example/org/repo"
    assert told["client_ip"] == "192.0.2.7"
    assert len(told["launch_id"]) == 12
    assert set(told) == {
        *("launch_id", "spec", "persistent_spec", "repo_url", "resolved_ref", "image", "user", "server", "client_ip"),
        "launch_host",
    }


async def test_a_command_refuses_with_its_own_words(tmp_path: Path) -> None:
    event = await outcome({"command": script(tmp_path, "print('Not during the exam.'); sys.exit(1)")})
    assert (event.failure, event.message) == (Failure.REFUSED, "Not during the exam.\n")
    event = await outcome({"command": script(tmp_path, "sys.exit(1)")})
    assert event.message == "This launch is not wanted here.\n"


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        ("print('a traceback', file=sys.stderr); sys.exit(3)", "exit status 3: a traceback"),
        ("time.sleep(600)", "took longer than 0.5 s"),
        (None, "cannot be run"),
    ],
)
async def test_a_command_that_fails_is_the_members_failure(
    tmp_path: Path, text: str | None, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    command = script(tmp_path, text) if text else [str(tmp_path / "missing")]
    event = await outcome({"command": command, "timeout": "500ms" if text and "sleep" in text else "60s"})
    assert (event.failure, event.message) == (
        Failure.MEMBER,
        "This member could not check whether it may launch this.\n",
    )
    assert logged in caplog.text


async def test_a_function_is_asked_too() -> None:
    asked.clear()
    assert (await outcome({"python": f"{__name__}:lenient"})).phase == Phase.READY
    event = await outcome({"python": f"{__name__}:lenient"}, "other")
    assert (event.failure, event.message) == (
        Failure.REFUSED,
        "https://git.example/org/other is for members of staff.\n",
    )
    assert [launch["spec"] for launch in asked] == ["gh/org/repo/main", "gh/org/other/main"]


async def test_a_function_that_raises_tells_visitors_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    event = await outcome({"python": f"{__name__}:broken"})
    assert event.failure == Failure.MEMBER
    assert "secret" not in event.message
    assert "secret configuration" in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.at_all:function", "cannot be imported: No module named 'nowhere'"),
        (f"{__name__}:missing", f"cannot be imported: module '{__name__}' has no attribute 'missing'"),
        (f"{__name__}:asked", "is no function"),
        ("broken_hook:function", "cannot be imported: SyntaxError: "),
        ("leaving_hook:function", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_the_start(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_hook.py").write_text("def function(launch) return\n")
    (tmp_path / "leaving_hook.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=rf"^launch\.hook\.python: {re.escape(name)} {re.escape(said)}"):
        Hook(HookSettings(python=name))
    with pytest.raises(ValueError, match="python"):
        HookSettings(python="no function")
