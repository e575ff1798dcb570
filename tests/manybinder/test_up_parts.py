"""What `up` is made of: ports, the data directory, the settings of a federation."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.signatures import load_private_key, load_public_key, public_pem
from gateway.settings import GatewaySettings
from manybinder.datadir import DataDir
from manybinder.errors import CommandError, Exit
from manybinder.plan import MemberPlan, Plan, merged
from manybinder.ports import check_port, free_ports
from manybinder.terminal import plain
from member.settings import MemberSettings
from servicekit import config


def test_free_ports_are_free_and_differ() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        check_port(port)


def test_a_port_in_use_names_its_user() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CommandError, match=rf"port {port} is in use by process {os.getpid()} ") as caught:
            check_port(port)
    assert caught.value.code == Exit.USAGE


def test_a_data_directory_is_locked_and_private(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path / "a" / "data")
    try:
        with pytest.raises(CommandError, match=f"is in use by process {os.getpid()}$"):
            DataDir.open(tmp_path / "a" / "data")
        assert first.path.stat().st_mode & 0o777 == 0o700
        for path in (first.write("x.yaml", "secret"), first.secret("token"), *first.key_pair("gateway")):
            assert path.stat().st_mode & 0o777 == 0o600
    finally:
        first.close()
    DataDir.open(tmp_path / "a" / "data").close()


def test_what_a_dead_run_has_left_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that inherited the lock holds it, and lets go by ending."""
    gate, sleep = tmp_path / "gate", time.sleep
    gate.touch()
    program = (
        "import os, subprocess, sys; from pathlib import Path; from manybinder.datadir import DataDir\n"
        "data = DataDir.open(Path(sys.argv[1]))\n"
        "wait = 'while [ -e gate ]; do sleep 0.1; done'\n"
        "subprocess.Popen(['sh', '-c', wait], cwd=data.path, pass_fds=[data.lock_fd])\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)

    def wait(seconds: float) -> None:
        gate.unlink(missing_ok=True)
        sleep(seconds)

    monkeypatch.setattr("manybinder.datadir.time.sleep", wait)
    DataDir.open(tmp_path).close()
    assert not gate.exists()
    assert capsys.readouterr().err == "waiting for what an earlier run has left to end …\n"


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot use the data directory") as caught:
        DataDir.open(tmp_path / "file" / "data")
    assert caught.value.code == Exit.USAGE


def test_keys_and_secrets_last_and_a_broken_key_is_said_so(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    private, public = data.key_pair("gateway")
    first = private.read_text(), public.read_text(), data.secret("token").read_text()
    assert public_pem(load_private_key(first[0]).public_key()) == public_pem(load_public_key(first[1]))
    again = [path.read_text() for path in (*data.key_pair("gateway"), data.secret("token"))]
    assert again == list(first)
    private.write_text("nonsense")
    with pytest.raises(CommandError, match=r"gateway\.pem: not a readable PEM private key"):
        data.key_pair("gateway")
    data.close()


def test_the_services_accept_their_settings(tmp_path: Path) -> None:
    data = DataDir.open(tmp_path)
    members = [
        MemberPlan(name, (port, port + 1, port + 2, port + 3), *data.key_pair(name))
        for name, port in (("member-1", 11_000), ("member-2", 12_000))
    ]
    plan = Plan(tmp_path, 8585, *data.key_pair("gateway"), data.secret("build-token"), members)
    gateway = GatewaySettings.model_validate(_without_schema(plan.gateway({})))
    assert [member.origins for member in gateway.members] == [("http://127.0.0.1:11001",), ("http://127.0.0.1:12001",)]
    changes = {"sessions": {"limit": 3}, "builder": {"cache_dir": "/elsewhere"}}
    member = MemberSettings.model_validate(_without_schema(plan.member(members[0], changes)))
    assert (member.sessions.limit, member.builder.cache_dir) == (3, Path("/elsewhere"))
    assert member.federation is not None
    assert member.federation.require_launch_token
    for settings in (gateway, member):
        security = settings.security
        assert security.allowed_hosts == ("127.0.0.1", "localhost", "[::1]")
        assert security.require_build_token
        assert security.confirm_cross_site
        assert security.cors_allow_origin == ""
        assert settings.providers.git.allow_private_addresses
    data.close()


def _without_schema(tree: dict[str, object]) -> dict[str, object]:
    assert tree["schema"] == config.SCHEMA
    return {key: value for key, value in tree.items() if key != "schema"}


trees = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda below: st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)
sections = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


@given(sections, sections)
def test_changes_win_and_what_they_do_not_name_stays(base: dict[str, object], changes: dict[str, object]) -> None:
    result = merged(base, changes)
    assert merged(result, changes) == result
    for key in base.keys() | changes.keys():
        if key not in changes:
            assert result[key] == base[key]
        elif not isinstance(base.get(key), dict) or not isinstance(changes[key], dict):
            assert result[key] == changes[key]
    assert merged(base, {}) == base


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\x1b[]()0;m\x07\x9b\r\n\t")))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    shown = plain(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert plain(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("10%\r20%\r\n", "10%\n20%\n"),
        ("a\x08b\x9b2Jc", "ab2Jc"),
    ],
)
def test_colours_and_titles_are_left_out(text: str, shown: str) -> None:
    assert plain(text) == shown
