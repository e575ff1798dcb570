"""The browser's files, held in memory: read once at start, named by what they contain."""

import hashlib
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml"}

#: A file that is asked for by its version never changes; any other one is asked after each time (by its ETag).
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file."""

    body: bytes
    content_type: str
    version: str

    def response(self, request: web.Request) -> web.Response:
        """The file, or 304 where the client has it."""
        versioned = request.query.get("v") == self.version
        headers = {"Cache-Control": _FOR_EVER if versioned else _ASK_AGAIN}
        if any(etag.value in (self.version, "*") for etag in request.if_none_match or ()):
            response = web.Response(status=304, headers=headers)
        else:
            charset = "utf-8" if self.content_type.startswith("text/") else None
            response = web.Response(body=self.body, content_type=self.content_type, charset=charset, headers=headers)
        response.etag = self.version
        return response


def static_file(body: bytes, name: str) -> StaticFile:
    """A file of this content; its type is that of its name."""
    content_type = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return StaticFile(body, content_type, hashlib.sha256(body).hexdigest()[:16])


def read_static_files(directories: Sequence[Path]) -> dict[str, StaticFile]:
    """All files below some directories by their paths there; of two with one path the later one counts."""
    return {
        path.relative_to(directory).as_posix(): static_file(path.read_bytes(), path.name)
        for directory in directories
        if directory.is_dir()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
