"""What the Hub remembers of sessions: where each can be launched again, for a while, and no secret."""

import json
import os
import re
import time
from pathlib import Path

import pytest

from member.core.launching import user_options
from member.hub import ended
from member.hub.ended import Sessions
from tests.member.member_harness import order


def test_a_session_is_remembered_by_its_user_without_its_token(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    assert sessions.find("org-repo-abc") is None
    sessions.remember("org-repo-abc", user_options(order(), "the-token"))
    assert Sessions(tmp_path / "sessions").find("org-repo-abc") == {
        "url": "https://gateway.example/v2/gh/org/repo/main",
        "repo_url": "https://git.example/org/repo",
    }
    (path,) = (tmp_path / "sessions").iterdir()
    assert "the-token" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("user", ["../../secret", "/etc/passwd", "a/../b", "", "x" * 5000, "ünïcode\N{SNOWMAN}"])
def test_whatever_is_asked_for_nothing_outside_is_read(tmp_path: Path, user: str) -> None:
    (tmp_path / "secret.json").write_text(json.dumps({"url": "secret"}))
    assert Sessions(tmp_path / "sessions").find(user) is None


def test_what_names_no_launch_is_not_remembered(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    for options in ({}, {"binder_launch_host": "javascript:alert(1)//", "binder_request": "v2/x"}):
        sessions.remember("user", options)
    assert sessions.find("user") is None


def test_old_ones_and_too_many_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "MOST_REMEMBERED", 3)
    monkeypatch.setattr(ended, "_LOOK_EVERY", 1)
    sessions = Sessions(tmp_path)
    options = user_options(order(), "t")
    sessions.remember("old", options)
    os.utime(tmp_path / "old.json", (time.time() - ended.REMEMBERED_S - 1,) * 2)
    for n in range(6):
        sessions.remember(f"user-{n}", options)
        os.utime(tmp_path / f"user-{n}.json", (time.time() - 100 + n,) * 2)
    assert sessions.find("old") is None
    assert [n for n in range(6) if sessions.find(f"user-{n}")] == [2, 3, 4, 5]


def test_a_file_that_is_spoilt_is_no_session(tmp_path: Path) -> None:
    (tmp_path / "user.json").write_text("{")
    assert Sessions(tmp_path).find("user") is None


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr,de;q=0.5", "de"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=x,;", "en"),
    ],
)
def test_a_page_is_said_in_the_language_that_the_browser_asks_for(accept: str, language: str) -> None:
    assert ended.language_of(accept) == language


def test_all_of_a_page_is_said_in_german() -> None:
    known = {"url": "https://gateway.example/v2/gh/org/repo/main", "repo_url": "https://git.example/<org>/repo"}
    bodies = [ended.STARTING, ended.UNKNOWN]
    shown = [ended.page(title, body, language="de") for title in list(ended._GERMAN)[:3] for body in bodies]
    for repo in (known, {**known, "repo_url": ""}, {**known, "repo_url": "https://me:secret@git.example/repo"}):
        shown.append(ended.page("This session has ended", ended.again(repo, "de"), language="de"))
        assert "secret" not in shown[-1]
    assert "Hier war eine Sitzung von <strong>https://git.example/&lt;org&gt;/repo</strong>." in shown[-3]
    for text in shown:
        assert '<html lang="de">' in text
        assert not [english for english in ended._GERMAN if re.sub("<.*?>", "", english) in text.split("<title>")[1]]
