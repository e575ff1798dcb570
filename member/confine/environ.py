"""Which variables of this machine a confined program gets to see.

Everything else is cleared.  What says how to reach the package index may bear a password (``https://user:word@host``):
it is handed to builds, because they cannot work without it, so a hostile repository's build can read it; a session
gets it only if there is no password in it.  Use an index proxy that asks for none where that matters.
"""

import configparser
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_TLS_FILES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
_INDEX = (
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_INDEX_STRATEGY",
    "UV_INSECURE_HOST",
    "UV_NATIVE_TLS",
    "UV_SYSTEM_CERTS",
    "UV_HTTP_TIMEOUT",
    "UV_OFFLINE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
)
_PASSWORD = re.compile(r"://[^/\s]*@")

#: Where pip looks for its configuration, the strongest last.
_PIP_CONFIG = ("/etc/pip.conf", "~/.pip/pip.conf", "~/.config/pip/pip.conf")


def network_environ(environ: Mapping[str, str], *, trusted: bool) -> dict[str, str]:
    """The variables that a program needs to reach the network and the package index.

    ``trusted``: values that may bear a password are passed on too.
    """
    found = {name: environ[name] for name in (*_TLS_FILES, *_PROXIES, *_INDEX) if environ.get(name)}
    if not any(name in found for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX")) and (index := _pip_index(environ)):
        found.setdefault("UV_DEFAULT_INDEX", index)
        found.setdefault("PIP_INDEX_URL", index)
    if not trusted:
        found = {name: value for name, value in found.items() if not _PASSWORD.search(value)}
    return found


def named_files(environ: Mapping[str, str]) -> list[Path]:
    """The files and directories that those variables name and that exist."""
    paths = (Path(environ[name]) for name in _TLS_FILES if environ.get(name))
    return unique(path for path in paths if path.is_absolute() and path.exists())


def unique(paths: Iterable[Path]) -> list[Path]:
    """Without repetitions, in the same order."""
    return list(dict.fromkeys(paths))


def _pip_index(environ: Mapping[str, str]) -> str:
    """The index that pip is set to by file, since uv does not read pip's files."""
    if index := environ.get("PIP_INDEX_URL"):
        return index
    files = [environ["PIP_CONFIG_FILE"]] if "PIP_CONFIG_FILE" in environ else []
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read([os.path.expanduser(name) for name in (*_PIP_CONFIG, *files)])  # noqa: PTH111 - HOME may be unset
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return parser.get("global", "index-url", fallback="")
