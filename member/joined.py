"""What a member keeps of the federations that it has joined: a file each, that only it can read.

The command line writes them while the member's API may run, which sees them within a second or two.
"""

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contract.json_types import loads_object
from contract.signatures import load_private_key, load_public_key, private_pem, public_pem
from member.core.membership import Membership, federation_name

logger = logging.getLogger(__name__)

#: The version of the files' form.
SCHEMA = 1

#: The file that says that this member drains.
DRAINING = "draining"

#: What the names of files end with that hold a key which is not in use yet.
KEY_SUFFIX = ".key.pem"


class JoinedError(Exception):
    """A file that cannot be read or written; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A federation that was joined; ``keys_at`` is when the gateway has told its keys (Unix time in seconds)."""

    member: str
    issuer: str
    report_url: str
    keys: tuple[Ed25519PublicKey, ...]
    keys_at: float
    report_key: Ed25519PrivateKey
    share: float = 1.0
    token: str = ""
    """The beginning of the digest of the join token, to know it again."""
    leaving: bool = False
    """Whether it is to get no more launches from there."""

    @property
    def federation(self) -> str:
        """What it is called here."""
        return federation_name(self.issuer)

    def membership(self, interval: float, leeway: float) -> Membership:
        """The same as the engines know it."""
        return Membership(
            federation=self.federation,
            member=self.member,
            issuer=self.issuer,
            report_url=self.report_url,
            keys=self.keys,
            report_key=self.report_key,
            share=self.share,
            interval=interval,
            leeway=leeway,
            leaving=self.leaving,
        )


def directory(data_dir: Path) -> Path:
    """Where the files are."""
    return data_dir / "federations"


def read_all(data_dir: Path) -> list[Joined]:
    """Every federation that was joined, those left out whose files cannot be read, which is logged."""
    found = []
    for path in sorted(directory(data_dir).glob("*.json")):
        try:
            found.append(_read(path))
        except JoinedError as error:
            logger.error("%s", error)  # noqa: TRY400 - the text says all
    return found


def marks(data_dir: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever one of the files does."""
    found = []
    for path in sorted(directory(data_dir).glob("*.json")):
        try:
            # The times of two writings may be the same; each makes a new file.
            stat = path.stat()
            found.append((path.name, stat.st_mtime_ns, stat.st_ino))
        except OSError:
            continue
    return tuple(found)


def keep(data_dir: Path, joined: Joined) -> Path:
    """Write a federation's file, whole or not at all; raises :class:`JoinedError`."""
    wire = {
        "schema": SCHEMA,
        "member": joined.member,
        "issuer": joined.issuer,
        "report_url": joined.report_url,
        "keys": [public_pem(key) for key in joined.keys],
        "keys_at": joined.keys_at,
        "report_key": private_pem(joined.report_key),
        "share": joined.share,
        "token": joined.token,
        "leaving": joined.leaving,
    }
    path = directory(data_dir) / f"{joined.federation}.json"
    write(path, json.dumps(wire, indent=2))
    return path


def forget(data_dir: Path, joined: Joined) -> None:
    """Remove a federation's file; raises :class:`JoinedError`."""
    path = directory(data_dir) / f"{joined.federation}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise JoinedError(f"cannot remove {path}: {error.strerror}") from error


def fresh_key(data_dir: Path, purpose: str) -> Ed25519PrivateKey:
    """A new key, or the same as before until :func:`forget_key`: what has failed half-way is done again with it.

    Raises :class:`JoinedError`.
    """
    path = _key_path(data_dir, purpose)
    try:
        return load_private_key(path.read_text())
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        write(path, private_pem(key))
        return key
    except (OSError, ValueError) as error:
        raise JoinedError(f"cannot use {path}: {error}") from error


def forget_key(data_dir: Path, purpose: str) -> None:
    """Make another key next time."""
    _key_path(data_dir, purpose).unlink(missing_ok=True)


def _key_path(data_dir: Path, purpose: str) -> Path:
    return directory(data_dir) / f"{purpose}{KEY_SUFFIX}"


def is_draining(data_dir: Path) -> bool:
    """Whether this member asks for no more launches."""
    return (data_dir / DRAINING).exists()


def drain(data_dir: Path, *, wanted: bool) -> None:
    """Ask for no more launches, or for some again; raises :class:`JoinedError`."""
    path = data_dir / DRAINING
    if wanted:
        write(path, "")
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise JoinedError(f"cannot remove {path}: {error.strerror}") from error


def _read(path: Path) -> Joined:
    try:
        wire = loads_object(path.read_text())
        if wire.get("schema") != SCHEMA:
            raise JoinedError(f"{path}: is of another version of this program (schema {wire.get('schema')!r})")
        return Joined(
            member=_text(wire, "member"),
            issuer=_text(wire, "issuer"),
            report_url=_text(wire, "report_url"),
            keys=_keys(wire["keys"]),
            keys_at=float(wire["keys_at"]),
            report_key=load_private_key(_text(wire, "report_key")),
            share=float(wire["share"]),
            token=str(wire.get("token", "")),
            leaving=wire.get("leaving") is True,
        )
    except OSError as error:
        raise JoinedError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise JoinedError(f"{path} is not understood: {error}; join anew, with a token that replaces") from error


def _keys(pems: Iterable[Any]) -> tuple[Ed25519PublicKey, ...]:
    return tuple(load_public_key(str(pem)) for pem in pems)


def _text(wire: Mapping[str, Any], name: str) -> str:
    value = wire[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text")
    return value


def write(path: Path, text: str) -> None:
    """Write a file that nobody else may read, whole or not at all; raises :class:`JoinedError`."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            # A key that a gateway knows and nobody has any more would cost the member its place.
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise JoinedError(f"cannot write {path}: {error.strerror}") from error
