"""The report of a failure that a page writes: whom it goes to, and that what tells most is in it."""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.node import computed

ISSUES = "https://github.com/org/repo/issues/new"
MAIL = "mailto:help@example.org"
LOG = "https://member.example/api/v1/builds/1/log"


def link(
    kind: str, log: str = "", message: str = "The build failed.\n", report: str = MAIL, issues: str = ISSUES
) -> str:
    told = {"title": "It failed", "message": message, "log": log, "logUrl": LOG, "member": "alps", "launch": "0123"}
    config = {"issuesUrl": issues, "reportUrl": report, "recent": {"label": "org/repo"}}
    call = "reportLink(given.kind, given.told, given.config)"
    return str(computed("report-link.js", "reportLink", call, {"kind": kind, "told": told, "config": config}))


def query(address: str) -> dict[str, Any]:
    """The fields of a form; the tests of mail look at the address itself, too."""
    return {name: values[-1] for name, values in parse_qs(urlsplit(address).query).items()}


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        *((kind, ISSUES) for kind in ("fault", "repository", "held")),
        *((kind, MAIL) for kind in ("ours", "full", "limited", "forbidden")),
        *((kind, "") for kind in ("cancelled", "abandoned", "not_found")),
    ],
)
def test_whom_it_goes_to(kind: str, start: str) -> None:
    address = link(kind)
    assert address.partition("?")[0] == start


def test_nobody_is_told_where_nobody_is_named() -> None:
    assert link("held", issues="") == link("ours", report="") == ""


def test_a_short_one_is_whole() -> None:
    told = query(link("held", "a\nb\n"))
    assert told["title"] == "It failed: org/repo"
    head, said, facts, log = told["body"].split("\n\n")
    assert (head, said) == ("https://binder.example/v2/gh/org/repo/main", "The build failed.")
    assert facts.startswith(f"Member: alps\nLaunch: 0123\nLog: {LOG}\nTime: ")
    assert log == "```\na\nb\n```"
    assert "```" not in query(link("held"))["body"]


@pytest.mark.parametrize(("kind", "most"), [("repository", 7000), ("ours", 2000)])
@pytest.mark.parametrize(
    "line", ["Collecting package {0}", "\u2500\u2570\u25b6 <{0}> & more of it;" * 12, "\U0001f4a5 {0}" * 40]
)
def test_a_long_log_keeps_its_end(kind: str, most: int, line: str) -> None:
    lines = [line.format(n) for n in range(200)]
    address = link(kind, "\n".join(lines) + "\n")
    assert len(address) <= most
    body = query(address)["body"]
    assert "The build failed." in body
    opened, *told, closed = body[body.index("```") :].split("\n")
    assert opened == closed == "```"
    assert told
    assert lines[-1].endswith(told[-1].removeprefix("\u2026"))
    assert told[:-1] == lines[-len(told) : -1]


@pytest.mark.parametrize(("kind", "most"), [("repository", 7000), ("ours", 2000)])
def test_what_has_no_end_is_cut(kind: str, most: int) -> None:
    for log, message in (("\U0001f4a5" * 100_001, "no"), ("x" * 9999, "\u2500" * 9999), ("", "x " * 9999)):
        address = link(kind, log, message)
        assert len(address) <= most
        body = query(address)["body"]
        assert message[:2] in body
        assert not log or body.endswith(f"{log[-1]}\n```")


def test_backticks_in_a_log_do_not_end_it() -> None:
    body = query(link("fault", "before\n````\nafter\n"))["body"]
    assert body.endswith("`````\nbefore\n````\nafter\n`````")


def test_mail_has_no_pluses_for_spaces() -> None:
    address = link("ours", "1 + 1\n", report=f"{MAIL}?cc=a@example.org")
    assert address.startswith(f"{MAIL}?cc=a@example.org&subject=It%20failed&body=")
    assert "+" not in address
    assert unquote(address).endswith("```\n1 + 1\n```")
