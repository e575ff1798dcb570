"""Origins: where a member's notebooks may be served from."""

from collections.abc import Collection
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """The origin of a URL, ``scheme://host[:port]`` in lower case, without a default port.

    Source: RFC 6454, section 4.  Raises ``ValueError`` for a URL that browsers and servers may read differently, or
    that holds a user name.
    """
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise ValueError("the URL holds a space, a control character or a backslash")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not of the form http(s)://host[:port]/…")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def session_url_problem(url: object, origins: Collection[str]) -> str | None:
    """Why a session's URL may not be handed to a visitor; ``None`` = it may."""
    if not isinstance(url, str) or not url:
        return "it names no URL"
    try:
        found = origin(url)
    except ValueError as error:
        return str(error)
    return None if found in origins else f"{found} is not one of its registered origins"
