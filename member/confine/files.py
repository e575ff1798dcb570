"""Directories that untrusted programs have filled, and locks that say who still uses one."""

import asyncio
import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from member.confine.ending import to_its_end

_ENVIRON = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


def remove_tree(path: Path) -> None:
    """Remove a directory whatever is in it: no depth, name or permission stops it, and no link is followed.

    Raises ``OSError`` if something is left.
    """
    if not os.path.lexists(path):
        return
    for step in (["rm", "-rf"], ["chmod", "-Rf", "u+rwX"], ["rm", "-rf"]):
        subprocess.run([*step, "--", str(path)], env=_ENVIRON, stderr=subprocess.DEVNULL, check=False)
        if not os.path.lexists(path):
            return
    raise OSError(f"cannot remove {path}")


async def remove_tree_async(path: Path) -> None:
    """The same, without holding the event loop up; who is cancelled meanwhile is so when it is done."""
    await to_its_end(asyncio.to_thread(remove_tree, path))


def copy_tree(source: Path, destination: Path) -> None:
    """Copy a directory with everything in it, sharing blocks where the file system can; raises ``OSError``."""
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--", f"{source}/.", str(destination)],
        env=_ENVIRON,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"cannot copy {source}: {done.stderr.strip()[-300:]}")


class Lock:
    """A lock on a file, held until :meth:`release` or the end of this process, however it ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, path: Path, *, shared: bool = False) -> "Lock | None":
        """Take it now; ``None`` if somebody holds it, or the file's directory is gone."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            # Whoever held it may have removed the file, in which case this lock is on nothing.
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return cls(fd)
        except OSError:
            pass
        os.close(fd)
        return None

    def release(self) -> None:
        """Let go."""
        with contextlib.suppress(OSError):
            os.close(self._fd)
        self._fd = -1


@contextlib.contextmanager
def held(lock: Lock) -> Iterator[None]:
    """Release a lock at the end of a block."""
    try:
        yield
    finally:
        lock.release()
