"""Credentials for cloning: which server gets which, and what settings may say."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gitrepos import make_repo
from gitserver import GitServer
from pydantic import ValidationError

from providers.credentials import VARIABLE, git_credentials
from providers.settings import ProvidersSettings

WORD = "s3cr3t"
TEXT = "username=x-access-token\npassword=s3cr3t"

SETTINGS = ProvidersSettings.model_validate(
    {
        "gh": {"git_credentials": "username=x-access-token\\npassword=s3cr3t"},
        "gl": {"host": "gitlab.example:8443", "git_credentials": TEXT},
        "git": {
            "git_credentials": [{"url": "https://git.example", "username": "x-access-token", "password": "s3cr3t"}]
        },
    }
)


@pytest.mark.parametrize(
    ("provider", "url", "given"),
    [
        ("gh", "https://github.com/org/repo", True),
        ("gh", "https://github.com.evil.example/org/repo", False),
        ("gh", "http://github.com/org/repo", False),
        ("gl", "https://gitlab.example:8443/org/repo.git", True),
        ("gl", "https://gitlab.example/org/repo.git", False),
        ("git", "https://git.example/org/repo", True),
        ("git", "https://GIT.example:443/org/repo", True),
        ("git", "https://git.example:444/org/repo", False),
        ("git", "ssh://git@git.example/org/repo", False),
        # Each provider has its own rules of who may launch what.
        ("git", "https://github.com/org/repo", False),
        ("gist", "https://github.com/org/repo", False),
    ],
)
def test_only_the_server_that_they_are_for_gets_them(provider: str, url: str, given: bool) -> None:
    found = git_credentials(provider, url, SETTINGS)
    assert (found is not None) is given
    if found is not None:
        assert found.environ == {VARIABLE: TEXT}
        assert not any("s3cr3t" in part for item in found.config.items() for part in item)


def test_without_any_nobody_gets_any() -> None:
    assert git_credentials("gh", "https://github.com/org/repo", ProvidersSettings()) is None


def test_git_takes_them_from_its_environment(tmp_path: Path) -> None:
    commit = make_repo(tmp_path, "repo", {"README.md": "words"})
    with GitServer(tmp_path) as server:
        server.password = "x-access-token:s3cr3t"
        url = server.url("repo", "private")
        given = {"url": f"http://127.0.0.1:{server.port}", "username": "x-access-token", "password": "s3cr3t"}
        settings = ProvidersSettings.model_validate({"git": {"git_credentials": [given]}})
        found = git_credentials("git", url, settings)
        assert found is not None
        quiet = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        quiet |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true"}
        for environ, said in ((found.whole_environ, f"{commit}\tHEAD\n"), ({}, "")):
            argv = ["git", "ls-remote", url, "HEAD"]
            done = subprocess.run(argv, env={**quiet, **environ}, capture_output=True, text=True, check=False)
            assert done.stdout == said
            assert "s3cr3t" not in done.stderr


@pytest.mark.parametrize(
    ("section", "at"),
    [
        ({"gh": {"git_credentials": "s3cr3t"}}, "gh.git_credentials"),
        ({"gl": {"git_credentials": "username=someone"}}, "gl.git_credentials"),
        ({"gh": {"git_credentials": "username=a\npassword=s3cr3t\nhost=evil.example"}}, "gh.git_credentials"),
        ({"git": {"git_credentials": [{"url": "git.example", "username": "a", "password": "s3cr3t"}]}}, "git"),
        ({"git": {"git_credentials": [{"url": "https://a:b@git.example", "username": "a", "password": "b"}]}}, "git"),
        ({"git": {"git_credentials": [{"url": "https://g", "username": "a", "password": "s3cr3t\nhost=x"}]}}, "git"),
        ({"git": {"git_credentials": [{"url": "https://g", "username": "a\nb", "password": "s3cr3t"}]}}, "git"),
    ],
)
def test_what_cannot_be_is_refused_and_not_shown(section: dict[str, Any], at: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ProvidersSettings.model_validate(section)
    assert ".".join(map(str, caught.value.errors()[0]["loc"])).startswith(at)
    assert "s3cr3t" not in str(caught.value)
