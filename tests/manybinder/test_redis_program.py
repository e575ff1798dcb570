"""Which Redis `up` starts for several gateways."""

import importlib.util
from pathlib import Path

import pytest

from manybinder.errors import CommandError, Exit
from manybinder.redis_program import redis_program


def test_a_server_that_is_installed_comes_first_and_valkey_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("valkey-server", "redis-server"):
        (tmp_path / name).touch(mode=0o755)
        assert redis_program() == str(tmp_path / name)


def test_where_there_is_none_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CommandError, match="apt install redis-server") as caught:
        redis_program()
    assert caught.value.code == Exit.USAGE
