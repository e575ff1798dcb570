"""The data directory of ``up``: locked, private, and the only place that is written to."""

import fcntl
import os
import secrets
import time
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import load_private_key, private_pem, public_pem
from manybinder.errors import CommandError, Exit
from manybinder.terminal import for_people

#: Seconds that the processes of an earlier run, whose supervisor is dead, are given to end; under load they need many.
ORPHANS_S = 120.0


class DataDir:
    """A locked data directory.

    The lock is an open file: whoever inherits :attr:`lock_fd` holds it too, so that a directory is free only once the
    last process that uses it has ended.  Close it with :meth:`close`.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd

    @classmethod
    def open(cls, path: Path) -> "DataDir":
        """Make and lock it; raises :class:`CommandError` where that cannot be.

        May wait for a while for the processes of an earlier run to end.
        """
        path = path.expanduser().absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise CommandError(f"cannot use the data directory {path}: {error.strerror}", Exit.USAGE) from error
        try:
            _lock(fd, path)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.lock_fd)

    def write(self, name: str, text: str) -> Path:
        """Write a file that only its owner can read, as a whole or not at all."""
        path = self.path / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        temporary.replace(path)
        return path

    def secret(self, name: str) -> Path:
        """The file of a secret, made at random where there is none."""
        path = self.path / "keys" / name
        return path if path.exists() else self.write(f"keys/{name}", secrets.token_hex(32) + "\n")

    def key_pair(self, name: str) -> tuple[Path, Path]:
        """The files of a private and a public key (Ed25519, PEM), made where there are none."""
        private = self.path / "keys" / f"{name}.pem"
        try:
            key = load_private_key(private.read_text())
        except FileNotFoundError:
            key = Ed25519PrivateKey.generate()
            self.write(f"keys/{name}.pem", private_pem(key))
        except ValueError as error:
            raise CommandError(f"{private}: {error}; remove the file to have a new key made", Exit.USAGE) from error
        return private, self.write(f"keys/{name}.pub.pem", public_pem(key.public_key()))


def _lock(fd: int, path: Path) -> None:
    deadline = time.monotonic() + ORPHANS_S
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 20, 0).decode(errors="replace").strip()
            if not holder.isdigit() or _lives(int(holder)):
                by = f"by process {holder}" if holder else "by another process"
                raise CommandError(f"data directory {path} is in use {by}", Exit.USAGE) from None
            if time.monotonic() > deadline:
                text = f"data directory {path} is in use by what process {holder}, which is dead, had started"
                raise CommandError(text, Exit.USAGE) from None
            if not told:
                for_people().print("waiting for what an earlier run has left to end …")
                told = True
            time.sleep(0.1)
        else:
            return


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
