"""The browser's files, held in memory: read and compressed once at start, named by what they contain."""

import gzip
import hashlib
import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import ETag, hdrs, web

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}

#: A file that is asked for by its version never changes; any other one is asked after each time (by its ETag).
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"

#: Of what a file takes, the share up to which it is worth while to send it compressed: a picture is already.
_WORTH_WHILE = 0.9


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file; ``gzipped`` is empty where that is hardly shorter."""

    body: bytes
    content_type: str
    version: str
    gzipped: bytes = b""

    def response(self, request: web.Request) -> web.Response:
        """The file, or 304 where the client has it."""
        versioned = request.query.get("v") == self.version
        headers = {hdrs.CACHE_CONTROL: _FOR_EVER if versioned else _ASK_AGAIN}
        if self.gzipped:
            headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if any(etag.value in (self.version, "*") for etag in request.if_none_match or ()):
            response = web.Response(status=304, headers=headers)
        else:
            charset = "utf-8" if self.content_type.startswith("text/") else None
            body = self.body
            if self.gzipped and _takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
                body, headers[hdrs.CONTENT_ENCODING] = self.gzipped, "gzip"
            response = web.Response(body=body, content_type=self.content_type, charset=charset, headers=headers)
        # Weak: compressed or not, it is the same file and other bytes (RFC 9110, section 8.8.3.3).
        response.etag = ETag(self.version, is_weak=True)
        return response


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip (RFC 9110, section 12.5.3)."""
    codings = [re.sub(r"\s", "", item).lower().partition(";") for item in accepted.split(",")]
    return any(name == "gzip" and not re.fullmatch(r"q=0(\.0*)?", weight) for name, _, weight in codings)


def static_file(body: bytes, name: str) -> StaticFile:
    """A file of this content; its type is that of its name."""
    content_type = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    gzipped = gzip.compress(body, mtime=0)
    worth_while = len(gzipped) < _WORTH_WHILE * len(body)
    return StaticFile(body, content_type, hashlib.sha256(body).hexdigest()[:16], gzipped if worth_while else b"")


def read_static_files(directories: Sequence[Path]) -> dict[str, StaticFile]:
    """All files below some directories by their paths there; of two with one path the later one counts."""
    return {
        path.relative_to(directory).as_posix(): static_file(path.read_bytes(), path.name)
        for directory in directories
        if directory.is_dir()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
