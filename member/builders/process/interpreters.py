"""Finds the Python interpreters of this machine, and has uv fetch one that is absent."""

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import uv

from member.confine.environ import network_environ
from member.core.pythons import FLOOR, Python

logger = logging.getLogger(__name__)

#: What an interpreter tells of itself; one without these modules is of no use.
_PROBE = (
    "import sys, os, json, ssl, ctypes, sqlite3; print(json.dumps([sys.version_info[:3], sys.implementation.name,"
    " os.path.realpath(getattr(sys, '_base_executable', sys.executable)), os.path.realpath(sys.base_prefix),"
    " sys.version_info.releaselevel, getattr(sys, '_is_gil_enabled', lambda: True)()]))"
)
_NAME = re.compile(r"python3\.\d+")

#: Seconds for which a Python that could not be fetched is not asked for again.
_FETCH_AGAIN_S = 600.0


class Interpreters:
    """The interpreters that environments can be made with; ``directory`` is where fetched ones go."""

    def __init__(self, directory: Path, data_dir: Path, *, downloads: bool) -> None:
        self._directory = directory
        self._data_dir = data_dir
        self._downloads = downloads and os.environ.get("UV_PYTHON_DOWNLOADS", "") not in (
            "never",
            "manual",
            "false",
            "0",
        )
        self._refused: dict[str, float] = {}
        self._fetching = asyncio.Lock()
        self.present: list[Python] = []

    async def find(self) -> None:
        """Look at this machine; raises ``RuntimeError`` if it has no Python of use."""
        candidates = await asyncio.to_thread(_candidates, self._directory, os.environ)
        probed = await asyncio.gather(*(_probe(path) for path in candidates))
        usable = {python for python in probed if python is not None and self._acceptable(python)}
        self.present = sorted(usable)
        if not self.present:
            raise RuntimeError("this machine has no Python of version 3.10 or newer to make environments with")

    async def fetch(self, wanted: str) -> bool:
        """Have uv fetch a version; whether it is worth looking again."""
        async with self._fetching:
            now = time.monotonic()
            if not self._downloads or now < self._refused.get(wanted, 0.0):
                return False
            if await self._download(wanted):
                await self.find()
                return True
            self._refused[wanted] = now + _FETCH_AGAIN_S
            return False

    def _acceptable(self, python: Python) -> bool:
        """An interpreter's directory is shown to every sandbox: it must hold nothing else."""
        prefix = Path(python.prefix)
        if python.version[:2] < FLOOR or prefix == Path("/") or self._data_dir.is_relative_to(prefix):
            return False
        library = prefix / "lib" / "python{}.{}".format(*python.version) / "os.py"
        return library.is_file() and prefix != Path.home() and not Path.home().is_relative_to(prefix)

    async def _download(self, wanted: str) -> bool:
        environ = {
            **network_environ(os.environ, trusted=True),
            "PATH": "/usr/bin:/bin",
            "HOME": str(self._directory),
            "UV_PYTHON_INSTALL_DIR": str(self._directory),
            "UV_NO_CONFIG": "1",
            "UV_HTTP_RETRIES": "0",
            "UV_HTTP_CONNECT_TIMEOUT": "4",
            "UV_HTTP_TIMEOUT": "30",
        }
        for name in ("UV_PYTHON_INSTALL_MIRROR", "UV_PYTHON_DOWNLOADS_JSON_URL"):
            if name in os.environ:
                environ[name] = os.environ[name]
        self._directory.mkdir(parents=True, exist_ok=True)
        argv = [uv.find_uv_bin(), "python", "install", "--no-bin", "--no-cache", "--no-progress", wanted]
        status, output = await _capture(argv, environ, 120)
        if status:
            logger.info("Python %s cannot be fetched: %s", wanted, " ".join(output.split())[-300:])
        return status == 0


def _candidates(fetched: Path, environ: Mapping[str, str]) -> list[Path]:
    found = [Path(getattr(sys, "_base_executable", sys.executable))]
    for entry in environ.get("PATH", "").split(os.pathsep):
        # The shims of pyenv are scripts that pick an interpreter by the current directory.
        if entry.startswith("/") and Path(entry).name != "shims":
            found += [path for path in _listed(Path(entry)) if _NAME.fullmatch(path.name)]
    home = Path(environ.get("HOME", "/nonexistent"))
    roots = [
        Path(environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
        Path(environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local" / "share" / "uv" / "python"),
        fetched,
    ]
    for root in roots:
        found += [path / "bin" / "python3" for path in _listed(root)]
    real = {path.resolve() for path in found if path.is_file()}
    return sorted(path for path in real if not re.search(r"python(2|3\.[0-9]$)", path.name) or path.name == "python3")


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


async def _probe(path: Path) -> Python | None:
    status, output = await _capture([str(path), "-I", "-c", _PROBE], {"PATH": "/usr/bin:/bin"}, 15)
    if status:
        return None
    try:
        (major, minor, micro), implementation, executable, prefix, level, gil = json.loads(output)
    except (ValueError, TypeError):
        return None
    if implementation != "cpython" or level != "final" or not gil:
        return None
    return Python((major, minor, micro), executable, prefix)


async def _capture(argv: list[str], environ: Mapping[str, str], timeout_s: float) -> tuple[int, str]:
    """The exit status and output of a program of this machine; status 127 if it does not run, or not to its end."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=dict(environ),
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        return 127, str(error)
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return 127, "it took too long"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")
