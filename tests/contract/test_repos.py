"""Repo keys: one repository, one key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.repos import repo_key

SPELLINGS = [
    "https://github.com/Org/Repo",
    "http://github.com/org/repo.git",
    "https://www.github.com/org/repo/",
    "https://user:word@GITHUB.com:443/org/repo.git/",
    "git@github.com:org/repo.git",
    "ssh://git@github.com/org/repo",
    "ssh://git@github.com:22/Org/repo.git",
    "git://github.com/org/repo",
    "github.com/org/repo",
    "  https://github.com/org/repo  ",
    "https://github.com/org/%72epo",
]


@pytest.mark.parametrize("url", SPELLINGS)
def test_every_spelling_of_a_repository_has_its_key(url: str) -> None:
    assert repo_key(url) == "github.com/org/repo"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://git.example.org/A/b.git", "git.example.org/A/b"),
        ("https://git.example.org/a/b.git", "git.example.org/a/b"),
        ("http://127.0.0.1:8080/x.git", "127.0.0.1:8080/x"),
        ("http://[::1]:8080/x", "[::1]:8080/x"),
        ("https://git.example.org/a/../b//c/./d", "git.example.org/b/c/d"),
        ("https://git.example.org/../../b/%2e%2e/c", "git.example.org/c"),
        ("10.5281/zenodo.3242074", "10.5281/zenodo.3242074"),
        ("/srv/repo", "/srv/repo"),
    ],
)
def test_keys(url: str, key: str) -> None:
    assert repo_key(url) == key


@given(
    host=st.sampled_from(["github.com", "gitlab.com", "git.example.org", "127.0.0.1"]),
    path=st.lists(st.from_regex(r"[A-Za-z0-9_~é-]{1,8}", fullmatch=True), min_size=2, max_size=4).map("/".join),
    scheme=st.sampled_from(["http://", "https://", "git://", "ssh://git@", "HTTPS://", "https://me:word@"]),
    end=st.sampled_from(["", "/", ".git", ".git/"]),
    upper=st.booleans(),
    encoded=st.booleans(),
)
def test_no_spelling_makes_a_second_key(
    host: str, path: str, scheme: str, end: str, upper: bool, encoded: bool
) -> None:
    spelt = "".join(f"%{byte:02x}" for byte in path.encode()).replace("%2f", "/") if encoded else path
    address = host.upper() if upper else host
    assert repo_key(f"{scheme}{address}/{spelt}{end}") == repo_key(f"https://{host}/{path}")
    assert repo_key(f"git@{address}:{path}{end}") == repo_key(f"https://{host}/{path}")


@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"(https?|ssh|git)://([a-z]+@)?[a-zA-Z0-9.-]{1,20}(:[0-9]{1,5})?/[ -~]{0,40}", fullmatch=True),
        st.from_regex(r"[a-z]{0,5}@?[a-z.]{1,10}:[ -~]{1,20}", fullmatch=True),
    )
)
def test_a_key_is_its_own_key(url: str) -> None:
    assert repo_key(repo_key(url)) == repo_key(url)
