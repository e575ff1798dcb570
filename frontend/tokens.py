"""Build tokens: a page of this service asked for this build a short while ago.

The form is BinderHub's: a JSON Web Token (HS256) with ``exp``, ``aud`` = the spec with its provider, percent-encoded as
it stands in the path, and ``origin`` = the host that the page was read from.
"""

from urllib.parse import urlsplit

import jwt

#: Seconds for which a token is good.
LIFETIME_S = 300

_ALGORITHM = "HS256"


class BuildTokenError(ValueError):
    """A token that is forged, expired, for another spec or from another origin."""


def origin_of(origin_header: str | None, host_header: str | None) -> str:
    """The host that a request comes from: that of its Origin header if it has one, else its Host header."""
    if origin_header is None:
        return (host_header or "").lower()
    try:
        # The "null" of a sandboxed page has no host, and is the origin of no token.
        return urlsplit(origin_header).netloc.lower() or origin_header
    except ValueError:
        return origin_header


def make_build_token(secret: str | bytes, path_spec: str, origin: str, now: float) -> str:
    """The token for a page that was read from the host ``origin`` at ``now`` (Unix time)."""
    return jwt.encode({"exp": int(now) + LIFETIME_S, "aud": path_spec, "origin": origin}, secret, _ALGORITHM)


def check_build_token(token: str, secret: str, path_spec: str, origin: str, now: float) -> None:
    """Raises :class:`BuildTokenError` unless the token was made for this spec and origin and has not expired."""
    # The time is checked below, against the clock that is passed in.
    options: jwt.types.Options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    try:
        payload = jwt.decode(token, secret, [_ALGORITHM], options=options, audience=path_spec)
    except jwt.PyJWTError as error:
        raise BuildTokenError(str(error)) from error
    expires = payload.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or now > expires:
        raise BuildTokenError("the token has expired")
    if payload.get("origin") != origin:
        raise BuildTokenError("the token is from another origin")
