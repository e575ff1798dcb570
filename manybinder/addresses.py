"""Where the gateway is that a command asks."""

from urllib.parse import urlsplit

#: That of ``manybinder up``.
DEFAULT_GATEWAY = "http://127.0.0.1:8585"


def base_url(text: str) -> str:
    """A gateway's address with an end slash; raises ``ValueError``."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{text!r} is not a readable address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not of the form http(s)://host[:port]/[path]")
    return text.rstrip("/") + "/"
