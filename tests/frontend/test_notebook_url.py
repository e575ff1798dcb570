"""One table of cases for the Python and the JavaScript that say where a visitor is sent."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from frontend.notebook_url import notebook_url
from tests.node import computed

SESSION = "https://hub.example/user/visitor-1234/"
CASES = json.loads(Path(__file__).with_name("notebook_url_cases.json").read_text())

# Texts made of what matters in URLs, and any others.
HOSTILE = st.lists(
    st.sampled_from(
        [*"./\\%#?:@ \t\n&=a", "..", "%2e", "%2F", "%5c", "%25", "http:", "//", "ü", "\ud800", "%ff", "%00"]
    ),
    max_size=12,
).map("".join)
TEXTS = HOSTILE | st.text()
QUERIES = st.dictionaries(st.sampled_from(["urlpath", "labpath", "filepath"]), TEXTS, max_size=2)


def expected(case: dict[str, Any]) -> str:
    return case.get("session", SESSION) + case["path"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_cases_in_python(case: dict[str, Any]) -> None:
    assert notebook_url(case.get("session", SESSION), case.get("token", "t"), case["query"]) == expected(case)


def stays_below(url: str) -> bool:
    """Whether a URL that needs no repair is below the session's, however its path is decoded."""
    if not url.startswith(SESSION) or not url.isascii() or any(c in url for c in '\\ \t\r\n<>"'):
        return False
    path = urlsplit(url).path.removeprefix("/user/visitor-1234/")
    while True:
        if any(part in (".", "..") for part in path.replace("\\", "/").split("/")):
            return False
        if unquote(path) == path:
            return True
        path = unquote(path)


@given(QUERIES, TEXTS)
@example({"urlpath": "%25252e%25252e/"}, "t")
def test_never_leaves_the_session(query: dict[str, str], token: str) -> None:
    token = token.encode("utf-8", "replace").decode()
    assert stays_below(notebook_url(SESSION, token, query))


@pytest.mark.parametrize(
    "session", ["javascript:alert(1)", "//evil", "/user/a/", "ftp://h/", "http://", "https://u:p@h/", "http://h\\@e/"]
)
def test_session_urls_that_are_none(session: str) -> None:
    with pytest.raises(ValueError, match="not the URL of a session"):
        notebook_url(session, "t", {})


def in_javascript(cases: list[tuple[str, str | None, dict[str, str]]]) -> list[tuple[str, str]]:
    """What the browser's side makes of the cases: the URL, and the URL as a browser reads it."""
    script = """given.map(([session, token, query]) => {
      const url = notebookUrl(session, token, new Map(Object.entries(query)));
      return [url, new URL(url).href];
    })"""
    return [(url, href) for url, href in computed("notebook-url.js", "notebookUrl", script, cases)]


def test_cases_in_javascript() -> None:
    cases = [(case.get("session", SESSION), case.get("token", "t"), case["query"]) for case in CASES]
    for case, (url, href) in zip(CASES, in_javascript(cases), strict=True):
        assert url == expected(case), case["why"]
        assert href.startswith(case.get("session", SESSION)), case["why"]


@given(st.lists(QUERIES, min_size=200, max_size=200))
@settings(max_examples=3, deadline=None)
def test_javascript_agrees_with_python(queries: list[dict[str, str]]) -> None:
    cases = [(SESSION, "t", query) for query in queries]
    for (session, token, query), (url, href) in zip(cases, in_javascript(cases), strict=True):
        assert url == notebook_url(session, token, query), query
        assert href.startswith(SESSION), query
