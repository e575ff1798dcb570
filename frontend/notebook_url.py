"""Where a visitor is sent once a session is ready: always a place below the session's URL.

A link's ``urlpath`` is written by whoever made the link.  It is never resolved as a URL; it is cut into path, query and
fragment, cleaned, and appended to the session's URL as text, so that no scheme, host or ``..`` in it means anything.
``static/notebook-url.js`` does the same in the browser; one table of cases tests both.

Source of what browsers take for a dot segment or leave out of a URL: the WHATWG URL standard.
"""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit

# Browsers drop tabs and line ends inside of a URL; no control character has a meaning in one.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATH_SAFE = "!$%&'()*+,-./:;=@_~"
_QUERY_SAFE = _PATH_SAFE + "?[]{}|^`"
_FRAGMENT_SAFE = _QUERY_SAFE + "#"
# What JavaScript's encodeURI leaves as it is; "%" is not among them.
_ENCODE_URI_SAFE = "!#$&'()*+,-./:;=?@_~"
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DOTS = frozenset({".", ".."})


def notebook_url(session_url: str, token: str | None, query: Mapping[str, str]) -> str:
    """The URL to open of a session, with its token.

    ``query`` holds the launch link's decoded parameters, of which ``labpath``, ``filepath`` and ``urlpath`` count, in
    this order.  Raises ``ValueError`` if ``session_url`` is no plain http(s) URL.
    """
    base = _base(session_url)
    path, search, fragment = _split(_CONTROL.sub("", _well_formed(_urlpath(query))))
    parameters = [part for part in (search, f"token={quote(token, safe='')}" if token else "") if part]
    url = base + _below(path)
    if parameters:
        url += "?" + "&".join(parameters)
    return url + (f"#{fragment}" if fragment else "")


def _urlpath(query: Mapping[str, str]) -> str:
    for name, prefix in (("labpath", "doc/tree/"), ("filepath", "tree/")):
        if name in query:
            return prefix + quote(_well_formed(query[name]).removesuffix("/"), safe=_ENCODE_URI_SAFE)
    return query.get("urlpath", "")


def _base(session_url: str) -> str:
    parts = urlsplit(session_url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or "\\" in session_url:
        raise ValueError(f"not the URL of a session: {session_url!r}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/"


def _split(text: str) -> tuple[str, str, str]:
    """Path as it came; query and fragment encoded."""
    rest, _, fragment = text.partition("#")
    path, _, search = rest.partition("?")
    return path, _encode(search, _QUERY_SAFE), _encode(fragment, _FRAGMENT_SAFE)


def _below(path: str) -> str:
    """A path without anything that leads upwards, to be put behind a slash."""
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        once = _decode_dots(segment)
        if once == "..":
            del kept[-1:]
        elif once != "." and not _hides_dots(segment):
            kept.append(_encode(segment, _PATH_SAFE))
    return "/".join(kept).lstrip("/")


def _decode_dots(segment: str) -> str:
    return re.sub("%2e", ".", segment, flags=re.IGNORECASE)


def _hides_dots(segment: str) -> bool:
    """Whether a server that decodes the segment, however often, could find ``.`` or ``..`` between slashes in it."""
    while True:
        parts = _CONTROL.sub("", segment).replace("\\", "/").split("/")
        if any(part.strip() in _DOTS for part in parts):
            return True
        decoded = unquote(segment)
        if decoded == segment:
            return False
        segment = decoded


def _encode(text: str, safe: str) -> str:
    return quote(_PERCENT.sub("%25", text), safe=safe)


def _well_formed(text: str) -> str:
    """Halves of surrogate pairs, which no encoding has, as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
