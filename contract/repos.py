"""Repo keys: one name for one repository, whichever provider and spelling a visitor came by.

``gh/Org/Repo``, ``git/https%3A%2F%2Fgithub.com%2Forg%2Frepo.git`` and ``git@github.com:org/repo`` are one repository;
they share builds, quotas, bans and the member that holds their image.
"""

import re
from typing import NewType
from urllib.parse import quote, unquote, urlsplit

RepoKey = NewType("RepoKey", str)

#: Hosts whose repository paths differ only by letter case if they are the same repository.
CASELESS_HOSTS = frozenset({"github.com", "gist.github.com", "gitlab.com", "bitbucket.org", "doi.org"})

_DEFAULT_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
#: Without a user, ``host:8080/path`` is an address with a port.
_SCP_STYLE = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?(user)|(?!\d+(?:/|$)))(?P<path>[^/\\].*)")


def repo_key(url: str) -> RepoKey:
    """The key of the repository at a clone URL: ``host[:port]/path``, without scheme, user, ``.git`` and end slash.

    The scheme is left out on purpose: what is built is named by key and commit, and a commit names its content.
    A text that is no URL with a host (a DOI, a local path) is its own key, without surrounding space.
    Idempotent: ``repo_key(repo_key(url)) == repo_key(url)``.
    """
    url = url.strip()
    if "://" not in url:
        if scp := _SCP_STYLE.fullmatch(url):
            return _key(scp["host"], None, scp["path"])
        host, slash, path = url.partition("/")
        if slash and "." in host and ":" not in host:
            return _key(host, None, path)
        return RepoKey(url)
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return RepoKey(url)
    if not host:
        return RepoKey(url)
    return _key(host, None if port == _DEFAULT_PORTS.get(parts.scheme.lower()) else port, parts.path)


def _key(host: str, port: int | None, path: str) -> RepoKey:
    host = host.lower().removesuffix(".")
    if host.removeprefix("www.") in CASELESS_HOSTS:
        host = host.removeprefix("www.")
    # One spelling of percent-encoding; what is unreserved (RFC 3986, section 2.3) is never encoded.
    path = quote(unquote(path, errors="surrogateescape"), safe="/@", errors="surrogateescape").strip("/")
    path = _folded(path)
    while path.endswith((".git", "/")):
        path = path.removesuffix(".git").rstrip("/")
    if host in CASELESS_HOSTS:
        path = path.lower()
    address = f"[{host}]" if ":" in host else host
    if port is not None:
        address += f":{port}"
    return RepoKey(f"{address}/{path}")


def _folded(path: str) -> str:
    """A path without empty and dot segments: clients of HTTP remove those (RFC 3986, section 5.2.4)."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1]
        elif segment not in ("", "."):
            segments.append(segment)
    return "/".join(segments)
