"""Where a container engine listens on this machine."""

import http.client
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from member.builder_settings import ContainerBuilderSettings

#: Seconds for one question to an engine that may not be there.
_TIMEOUT_S = 5.0

#: Bytes that a path of a socket may have.
_MAX_SOCKET_PATH = 107


class NoEngineError(OSError):
    """There is no engine; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An engine: ``docker`` or ``podman``, and its socket (``unix://…``); ``own`` = the member itself serves it."""

    engine: str
    url: str
    own: bool = False

    @property
    def path(self) -> Path:
        """The socket's file."""
        return Path(self.url.removeprefix("unix://"))

    @property
    def environ(self) -> dict[str, str]:
        """What tells the engines' programs and libraries where it is."""
        return {"DOCKER_HOST": self.url} | ({"CONTAINER_HOST": self.url} if self.engine == "podman" else {})


def find(settings: ContainerBuilderSettings, data_dir: Path, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The engine to use: the one that is set, the first that answers, or a Podman that the member is to serve.

    Raises :class:`NoEngineError`.
    """
    wanted = settings.engine
    if settings.socket is not None:
        engine, problem = identify(settings.socket)
        if engine is None:
            raise NoEngineError(f"builder.socket: no container engine answers at {settings.socket} ({problem})")
        if wanted not in ("auto", engine):
            raise NoEngineError(f"builder.socket: {settings.socket} is {engine}'s, and builder.engine is {wanted}")
        return Endpoint(engine, settings.socket)
    for url in candidates(environ):
        engine, _ = identify(url)
        if engine is not None and wanted in ("auto", engine):
            return Endpoint(engine, url)
    if wanted != "docker" and shutil.which("podman"):
        return Endpoint("podman", f"unix://{_own_socket(data_dir)}", own=True)
    what = "Docker or Podman" if wanted == "auto" else wanted
    raise NoEngineError(
        f"builder.engine: no {what} was found; install and start it, or say in builder.socket where it is"
    )


def candidates(environ: Mapping[str, str]) -> Iterator[str]:
    """Where engines listen, as root and for a user of their own."""
    for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
        if environ.get(variable, "").startswith("unix://"):
            yield environ[variable]
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    yield "unix:///var/run/docker.sock"
    yield f"unix://{runtime}/docker.sock"
    yield "unix:///run/podman/podman.sock"
    yield f"unix://{runtime}/podman/podman.sock"


def identify(url: str) -> tuple[str | None, str]:
    """Which engine answers at a socket, or ``None`` and why not."""
    try:
        version = _get(url.removeprefix("unix://"), "/version")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error) or type(error).__name__
    names = [str(part.get("Name", "")) for part in version.get("Components") or () if isinstance(part, dict)]
    return "podman" if any("podman" in name.lower() for name in names) else "docker", ""


def write(endpoint: Endpoint, data_dir: Path) -> None:
    """Note the choice, so that all processes of a member make the same one."""
    path = _note(data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(endpoint)))


def read(data_dir: Path) -> Endpoint | None:
    """The choice that was noted."""
    try:
        return Endpoint(**json.loads(_note(data_dir).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _note(data_dir: Path) -> Path:
    return data_dir / "engine" / "endpoint.json"


def _own_socket(data_dir: Path) -> Path:
    path = data_dir / "engine" / "podman.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise NoEngineError(f"data_dir: {data_dir} is too long a path for Podman's socket; name one in builder.socket")
    return path


def _get(path: str, what: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT_S)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_TIMEOUT_S)
        connection.sock.connect(path)
        connection.request("GET", what)
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError("it answers something else")
    return answer
