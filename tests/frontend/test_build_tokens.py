"""Build tokens: what makes one good."""

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.tokens import LIFETIME_S, BuildTokenError, check_build_token, make_build_token, origin_of

SECRET = "s" * 32
NOW = 1_700_000_000.5


@given(st.text(min_size=1, max_size=50), st.text(max_size=20), st.floats(0, LIFETIME_S - 1))
def test_a_token_is_good_for_its_spec_and_origin_while_it_lasts(path_spec: str, origin: str, age: float) -> None:
    token = make_build_token(SECRET, path_spec, origin, NOW)
    check_build_token(token, SECRET, path_spec, origin, NOW + age)
    for wrong in (
        (SECRET, path_spec + "x", origin, NOW),
        (SECRET, path_spec, origin + "x", NOW),
        ("x" * 32, path_spec, origin, NOW),
        (SECRET, path_spec, origin, NOW + LIFETIME_S + 1),
    ):
        with pytest.raises(BuildTokenError):
            check_build_token(token, *wrong)


@pytest.mark.parametrize(
    "payload", [{}, {"aud": "s"}, {"aud": "s", "exp": "x", "origin": "o"}, {"aud": ["s"], "exp": True, "origin": "o"}]
)
def test_tokens_that_lack_something(payload: dict[str, object]) -> None:
    with pytest.raises(BuildTokenError):
        check_build_token(jwt.encode(payload, SECRET, "HS256"), SECRET, "s", "o", 0)


@given(st.text())
def test_any_other_text_is_refused(token: str) -> None:
    with pytest.raises(BuildTokenError):
        check_build_token(token, SECRET, "s", "o", NOW)


def test_an_unsigned_token_is_refused() -> None:
    token = jwt.encode({"aud": "s", "exp": NOW + 1, "origin": "o"}, None, "none")
    with pytest.raises(BuildTokenError):
        check_build_token(token, SECRET, "s", "o", NOW)


@pytest.mark.parametrize(
    ("origin", "host", "found"),
    [
        (None, "Hub.example:80", "hub.example:80"),
        ("https://Pages.example", "hub.example", "pages.example"),
        ("null", "hub.example", "null"),
        ("http://[", "hub.example", "http://["),
        (None, None, ""),
    ],
)
def test_origins(origin: str | None, host: str | None, found: str) -> None:
    assert origin_of(origin, host) == found
