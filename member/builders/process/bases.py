"""Base environments: JupyterLab and what belongs to it, once for each interpreter.

Only packages of our own lock are in them, by hash and as wheels, so that no code of a repository has a part in one.
Every image is a layer over one of them, and nothing ever writes to it again.
"""

import asyncio
import logging
from hashlib import sha256
from importlib import resources
from pathlib import Path

from member.builders.process.store import Partial, Store
from member.builders.process.tools import program_environ, python_in, uv_environ, uv_seen, view
from member.confine import warden
from member.confine.confinement import Confinement
from member.confine.ending import to_its_end
from member.confine.files import remove_tree_async
from member.confine.limits import LimitExceededError, Limits
from member.confine.sandbox import CACHE_PATH, ENV_PATH, HOME_PATH, Layer
from member.core.pythons import Python

logger = logging.getLogger(__name__)

_LOCK_PATH = "/srv/jupyterlab.txt"

_LIMITS = Limits(memory=8 * 2**30, processes=4096, disk=8 * 2**30, deadline_s=900)

#: To be raised when bases are made in another way.
_GENERATION = 2


class BaseFailedError(Exception):
    """A base environment could not be made; the text is a sentence for the operator."""


class Bases:
    """Makes each base environment once, whoever asks; ``singleuser``: with JupyterHub's single-user server."""

    def __init__(self, store: Store, confinement: Confinement, cache: Path, *, singleuser: bool = False) -> None:
        self._store = store
        self._confinement = confinement
        self._cache = cache
        self._locks: dict[str, asyncio.Lock] = {}
        lock = "singleuser.txt" if singleuser else "jupyterlab.txt"
        self._lock_file = Path(str(resources.files("member.builders") / lock))
        self._digest = sha256(self._lock_file.read_bytes()).hexdigest()

    def key(self, python: Python) -> str:
        """The name of an interpreter's base environment."""
        parts = (_GENERATION, self._confinement.mode, python.executable, python.prefix, python.text, self._digest)
        return f"python-{python.text}-{sha256(repr(parts).encode()).hexdigest()[:12]}"

    def exists(self, python: Python) -> bool:
        """Whether it is there."""
        return self._store.base(self.key(python)).is_dir()

    async def ensure(self, python: Python, on_line: warden.OnLine | None = None) -> Path:
        """The environment's directory, made if it is not there; raises :class:`BaseFailedError`."""
        target = self._store.base(self.key(python))
        async with self._locks.setdefault(target.name, asyncio.Lock()):
            if not target.is_dir():
                await self._make(python, target, on_line)
        await asyncio.to_thread((target / "used").touch)
        return target / "env"

    async def _make(self, python: Python, target: Path, on_line: warden.OnLine | None) -> None:
        partial = Partial(target)
        try:
            env, home, tmp = (partial.path / name for name in ("env", "home", "tmp"))
            for directory in (env, home, tmp):
                directory.mkdir()
            env_seen = self._confinement.seen_at(ENV_PATH, env)
            lock = self._confinement.seen_at(_LOCK_PATH, self._lock_file)
            uv = uv_seen(self._confinement)
            install = [uv, "pip", "install", "--python", python_in(env_seen), "--require-hashes", "--only-binary"]
            for argv in (
                [uv, "venv", "--quiet", "--relocatable", "--allow-existing", "--python", python.executable, env_seen],
                [*install, ":all:", "--compile-bytecode", "-r", lock],
                # A kernel under its debugger listens on loopback, and does whatever a neighbour there asks of it.
                [uv, "pip", "uninstall", "--quiet", "--python", python_in(env_seen), "debugpy"],
            ):
                await self._run(argv, python, partial.path, on_line)
            for directory in (home, tmp):
                await remove_tree_async(directory)
            # Somebody else's is as good.
            if await to_its_end(asyncio.to_thread(partial.complete)):
                logger.info("made the base environment %s", target.name)
        finally:
            await to_its_end(asyncio.to_thread(partial.discard))

    async def _run(self, argv: list[str], python: Python, place: Path, on_line: warden.OnLine | None) -> None:
        env, home, tmp = place / "env", place / "home", place / "tmp"
        environ = program_environ(self._confinement, env, home, tmp, trusted=True)
        environ |= uv_environ(self._confinement, self._cache)
        seen = view(
            {ENV_PATH: Layer(env), HOME_PATH: Layer(home), CACHE_PATH: Layer(self._cache)},
            tmp,
            python_prefix=python.prefix,
            placed={self._lock_file: _LOCK_PATH},
        )
        lines: list[str] = []

        async def collect(line: str) -> None:
            lines.append(line)
            if on_line:
                await on_line(line)

        command = warden.Command(self._confinement.invocation(argv, seen, _LIMITS), environ, _LIMITS, [env])
        try:
            status = await warden.run(command, collect)
        except LimitExceededError as error:
            raise BaseFailedError(f"JupyterLab could not be installed: {error}") from error
        if status:
            raise BaseFailedError(f"JupyterLab could not be installed: {' '.join(lines[-20:])[-800:]}")
