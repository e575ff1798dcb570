"""A real Git HTTP server on loopback: ``git http-backend``, plain files (dumb HTTP), and what servers do wrong."""

import base64
import os
import socketserver
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

#: ``smart``: as any Git host; ``old``: smart, but refuses a commit that no ref names (protocol 0); ``dumb``: files;
#: ``private``: asks for a password; ``silent``: takes the request and never answers; ``broken``: answers 500.
Mode = Literal["smart", "old", "dumb", "private", "silent", "broken"]

_MODES = ("old", "dumb", "private", "silent", "broken")


class GitServer:
    """Serves every ``<name>.git`` below a directory, from :meth:`start` until :meth:`stop`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port = 0
        self.requests: list[str] = []
        """The paths that were asked for, with their queries."""
        self.password = ""
        """``user:password`` that mode ``private`` wants; without it any will do."""
        self.authorizations: list[str] = []
        """What came as Authorization."""
        self.stopping = threading.Event()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on a free port."""
        self._server = _Server(self)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it and every request that it still answers."""
        self.stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def url(self, name: str, mode: Mode = "smart") -> str:
        """The clone URL of a repository."""
        prefix = "" if mode == "smart" else f"{mode}/"
        return f"http://127.0.0.1:{self.port}/{prefix}{name}.git"


def basic(password: str) -> str:
    """The header for ``user:password`` (RFC 7617)."""
    return f"Basic {base64.b64encode(password.encode()).decode()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: GitServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is no event."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: socketserver.BaseServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""

    def _answer(self) -> None:
        assert isinstance(self.server, _Server)
        owner = self.server.owner
        owner.requests.append(self.path)
        parts = urlsplit(self.path)
        path = unquote(parts.path).lstrip("/")
        mode = path.split("/", 1)[0]
        if mode in _MODES:
            path = path.split("/", 1)[1] if "/" in path else ""
        if mode == "silent":
            owner.stopping.wait(600)
            self.close_connection = True
        elif mode == "broken":
            self._plain(500, b"broken")
        elif mode == "private" and not self._is_authorized(owner):
            self._plain(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
        elif mode == "dumb":
            self._file(owner.root / path)
        else:
            self._backend(owner.root, "/" + path, parts.query, old=mode == "old")

    def _is_authorized(self, owner: GitServer) -> bool:
        given = self.headers.get("Authorization", "")
        if given:
            owner.authorizations.append(given)
        return given == basic(owner.password) if owner.password else bool(given)

    def _file(self, path: Path) -> None:
        if self.command != "GET" or ".." in path.parts or not path.is_file():
            self._plain(404, b"not found")
        else:
            self._plain(200, path.read_bytes(), {"Content-Type": "application/octet-stream"})

    def _backend(self, root: Path, path: str, query: str, *, old: bool) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": "/nonexistent",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        if not old and "Git-Protocol" in self.headers:
            environ["GIT_PROTOCOL"] = self.headers["Git-Protocol"]
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            env=environ,
            input=self._body(),
            capture_output=True,
            check=False,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        status = int(headers.pop("Status", "200 OK").split()[0])
        self._plain(status, body, headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
