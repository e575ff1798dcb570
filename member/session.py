"""One visitor's session: private layers over an image, JupyterLab in the sandbox, and nothing left at the end.

Started by the Hub's spawner; it ends when JupyterLab does, on SIGTERM, with its supervisor (the lifeline), or when the
session takes more than it may.  What it could not remove itself, because it was killed, the builder's ``clean`` does.
"""

import argparse
import asyncio
import logging
import os
import re
import secrets
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from member.builders.lab_extension import write_extension
from member.builders.process.kind import find_confinement
from member.builders.process.store import ImageMeta, Store
from member.builders.process.tools import program_environ, view
from member.confine import layers, warden
from member.confine.confinement import Confinement
from member.confine.files import Lock, remove_tree
from member.confine.limits import LimitExceededError, Limits
from member.confine.reaper import sessions_dir
from member.confine.sandbox import ENV_PATH, HOME_PATH, Layer
from member.core.notebook import Notebook, passed_on, server_argv
from member.settings import MemberSettings
from servicekit import config, lifeline, logs

logger = logging.getLogger("member.session")

_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")

#: Where a session sees the extension that warns of its end.
_LAB_PATH = "/srv/lab"

#: Bytes of the session's output that are logged.
_MAX_LOG = 2 * 2**20

#: Exit statuses beside JupyterLab's own.
ENDED_BY_LIMIT, NO_IMAGE, BAD_CONFIGURATION = 77, 78, 2


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What the spawner asks for."""

    image: str
    port: int
    base_url: str
    name: str
    singleuser: bool = False


class Session:
    """The directories of a session, from :meth:`open` to :meth:`close`."""

    def __init__(self, settings: MemberSettings, request: SessionRequest) -> None:
        self._settings = settings
        self._request = request
        self._store = Store(settings.data_dir)
        self._locks: list[Lock] = []
        self._short: Path | None = None
        readable = _UNSAFE.sub("-", request.name)[:40]
        self.place = sessions_dir(settings.data_dir) / f"{readable}-{secrets.token_hex(4)}"

    def open(self) -> warden.Command:
        """Make the layers; returns what to run.  Raises ``FileNotFoundError`` if the image is not there."""
        confinement = find_confinement(self._settings, self._settings.data_dir)
        meta = self._hold_image(confinement)
        self.place.mkdir(parents=True)
        self._locks.append(_taken(self.place / "lock"))
        image = self._store.directory(self._request.image)
        base = self._store.base(meta.base) / "env"
        env = layers.make(confinement, self.place / "env", layers.below(confinement, [base, image / "env"]))
        home = layers.make(confinement, self.place / "home", [image / "home"])
        tmp = self.place / "tmp"
        tmp.mkdir(mode=0o700)
        write_extension(self.place / "lab", time.time() + self._settings.sessions.max_age)
        return self._command(confinement, meta, {ENV_PATH: env, HOME_PATH: home}, tmp)

    def close(self) -> None:
        """Remove everything."""
        try:
            remove_tree(self.place)
            if self._short is not None:
                remove_tree(self._short)
        except OSError as error:
            logger.error("what the session leaves stays for the reaper: %s", error)  # noqa: TRY400
        for lock in self._locks:
            lock.release()

    def _short_directory(self, confinement: Confinement) -> Path:
        """Where kernels have their sockets, whose paths may have no more than 107 bytes."""
        if confinement.confined:
            return Path()
        self._short = Path(tempfile.mkdtemp(prefix="session-"))
        return self._short

    def _hold_image(self, confinement: Confinement) -> ImageMeta:
        """Keep the image from being removed; raises ``FileNotFoundError``."""
        lock_file = self._store.directory(self._request.image) / "use.lock"
        meta = self._store.meta(self._request.image, confinement.mode)
        if meta is not None:
            self._locks.append(_taken(lock_file, shared=True))
            meta = self._store.meta(self._request.image, confinement.mode)
        if meta is None:
            raise FileNotFoundError(f"the image {self._request.image} is not here")
        self._store.touch(self._request.image)
        return meta

    def _command(
        self, confinement: Confinement, meta: ImageMeta, mounted: dict[str, Layer], tmp: Path
    ) -> warden.Command:
        env, home = mounted[ENV_PATH].upper, mounted[HOME_PATH].upper
        sessions = self._settings.sessions
        limits = Limits(sessions.memory, sessions.processes, sessions.disk, deadline_s=sessions.max_age)
        runtime = confinement.seen_at("/tmp/jupyter", self._short_directory(confinement))  # noqa: S108
        environ = program_environ(confinement, env, home, tmp, trusted=False) | {
            "JUPYTER_RUNTIME_DIR": runtime,
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_IMAGE": meta.image,
            "UV_CACHE_DIR": confinement.seen_at("/tmp/uv-cache", tmp / "uv-cache"),  # noqa: S108
            "UV_LINK_MODE": "copy",
            **passed_on(os.environ, singleuser=self._request.singleuser),
        }
        notebook = Notebook(
            port=self._request.port,
            base_url=self._request.base_url,
            env=confinement.seen_at(ENV_PATH, env),
            home=confinement.seen_at(HOME_PATH, home),
            idle_s=sessions.idle_timeout,
            allow_origin=self._settings.security.cors_allow_origin,
            allow_root=not confinement.confined and os.geteuid() == 0,
            start=meta.start,
            extensions=confinement.seen_at(_LAB_PATH, self.place / "lab"),
            singleuser=self._request.singleuser,
        )
        placed = {self.place / "lab": _LAB_PATH}
        seen = view(mounted, tmp, python_prefix=meta.python_prefix, placed=placed, uv_config_too=False)
        invocation = confinement.invocation(server_argv(notebook), seen, limits)
        cwd = "/" if confinement.confined else str(home)
        return warden.Command(invocation, environ, limits, [env, home, tmp], cwd=cwd)


async def run(settings: MemberSettings, request: SessionRequest) -> int:
    """Run one session to its end; returns the exit status."""
    session = Session(settings, request)
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is None:
        raise AssertionError("runs in a task")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    if (fd := lifeline.inherited_fd()) is not None:
        lifeline.watch(loop, fd)
    try:
        command = session.open()
        return await warden.run(command, _Log())
    except FileNotFoundError as error:
        logger.error("cannot start: %s", error)  # noqa: TRY400 - the sentence says all
        return NO_IMAGE
    except LimitExceededError as error:
        logger.warning("the session was ended: %s", error)
        return ENDED_BY_LIMIT
    except asyncio.CancelledError:
        logger.info("the session was stopped")
        return 0
    finally:
        session.close()


class _Log:
    """Hands the session's output on to the log, within bounds: anybody's program writes it."""

    def __init__(self) -> None:
        self._room = _MAX_LOG

    async def __call__(self, line: str) -> None:
        if self._room <= 0:
            return
        self._room -= len(line.encode(errors="replace")) + 1
        shown = line if self._room > 0 else "the rest of this session's output is not logged"
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()


def _taken(path: Path, *, shared: bool = False) -> Lock:
    """A lock, with some patience; raises ``FileNotFoundError`` if what it is on is being removed."""
    deadline = time.monotonic() + 5
    while (lock := Lock.take(path, shared=shared)) is None:
        if time.monotonic() > deadline or not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent.name} is being removed")
        time.sleep(0.02)
    return lock


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m member.session", description="Run one visitor's session.")
    parser.add_argument("--config", type=Path, required=True, help="the member's settings")
    parser.add_argument("--image", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--name", required=True, help="the Hub's user")
    parser.add_argument("--singleuser", action="store_true", help="ask the Hub who its visitor is")
    arguments = parser.parse_args(argv)
    try:
        settings = config.load(MemberSettings, arguments.config)
    except config.ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return BAD_CONFIGURATION
    logs.configure(settings.log_level)
    request = SessionRequest(
        arguments.image, arguments.port, arguments.base_url, arguments.name, singleuser=arguments.singleuser
    )
    try:
        return asyncio.run(run(settings, request))
    except (RuntimeError, ValueError) as error:
        logger.error("cannot start: %s", error)  # noqa: TRY400 - the sentence says all
        return BAD_CONFIGURATION


if __name__ == "__main__":
    sys.exit(main())
