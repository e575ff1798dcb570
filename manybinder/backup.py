"""``manybinder admin backup`` and ``restore``: all that a gateway keeps, in one file and back.

The file is a gzipped tar with a manifest first, which names each file's place, mode and SHA-256.  Databases are copied
as they are at one moment, while the gateway goes on (SQLite, "Online Backup API").
"""

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from contract import json_types
from manybinder.errors import CommandError, Exit
from manybinder.services import load
from manybinder.terminal import for_people, plain
from servicekit.config import ENV_PREFIX, read_tree

FORMAT, SCHEMA = "manybinder-backup", 1

_MANIFEST = "manifest.json"

#: What a file's mode is kept of; what runs as its owner (setuid) has no place in a backup.
_PERMISSIONS = 0o777

#: Databases in a gateway's data directory.
_DATABASES = ("records.sqlite3", "log.sqlite3")

#: What SQLite keeps beside a database, and must not find beside another one.
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Item:
    """A file: where it was, its name in the tar, and what it must be."""

    path: str
    name: str
    mode: int
    size: int
    sha256: str


def backup(config: Path, file: Path, *, archive: bool, as_json: bool) -> Exit:
    """Write a backup of a gateway; raises :class:`CommandError`."""
    from gateway.settings import GatewaySettings

    settings = load(GatewaySettings, config)
    data_dir = settings.data_dir.absolute()
    databases = [data_dir / name for name in _DATABASES if (data_dir / name).exists()]
    if data_dir / _DATABASES[0] not in databases:
        raise CommandError(f"{data_dir} holds no {_DATABASES[0]}: has this gateway ever run here?", Exit.USAGE)
    plain_files = [config.absolute(), *_secret_files(config)]
    if archive and settings.archive.enabled:
        directory = Path(settings.archive.directory or data_dir / "archive").absolute()
        plain_files += sorted(directory.glob("*.jsonl"))
    try:
        with TemporaryDirectory(prefix=".backup-", dir=data_dir) as scratch:
            sources = [(path, path) for path in dict.fromkeys(plain_files)]
            for path in databases:
                copy = Path(scratch) / path.name
                _copy_database(path, copy)
                sources.append((path, copy))
            items = _write_tar(file, sources)
    except OSError as error:
        where = error.filename or file
        raise CommandError(f"no backup was made: {where}: {error.strerror or error}", Exit.USAGE) from error
    _tell(items, f"{len(items)} files are in {file}; whoever has it is the gateway", as_json)
    if given := sorted(name for name in os.environ if name.startswith(ENV_PREFIX)):
        for_people().print(f"what the environment sets is not in it, and is to be set again: {', '.join(given)}")
    return Exit.DONE


def restore(file: Path, root: Path, *, force: bool, dry_run: bool, as_json: bool) -> Exit:
    """Write what a backup holds back to where it was, once all of it is checked; raises :class:`CommandError`."""
    try:
        with tarfile.open(file, "r:gz") as tar:
            items = _manifest(tar)
            for item in items:
                _checked(tar, item)
            targets = {item.name: root / item.path.lstrip("/") for item in items}
            _refuse_what_is_there([*targets.values()], force=force)
            if not dry_run:
                for item in items:
                    _put(targets[item.name], _checked(tar, item), item.mode)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise CommandError(f"{file}: cannot be restored: {error}", Exit.USAGE) from error
    did = "would be written" if dry_run else "were written"
    _tell(items, f"{len(items)} files {did}", as_json)
    return Exit.DONE


def _secret_files(config: Path) -> Iterator[Path]:
    """The files that settings name (``<name>_file``), which hold keys and secrets."""
    layers: list[Any] = [read_tree(config.read_text(), str(config), os.environ)[0]]
    while layers:
        value = layers.pop()
        if isinstance(value, list):
            layers += value
        elif isinstance(value, dict):
            layers += value.values()
            named = (Path(str(item)) for key, item in value.items() if str(key).endswith("_file") and item)
            yield from (path.absolute() for path in named)


def _copy_database(source: Path, target: Path) -> None:
    try:
        with closing(sqlite3.connect(source, timeout=30)) as there, closing(sqlite3.connect(target)) as here:
            there.backup(here)
            (state,) = here.execute("PRAGMA integrity_check").fetchone()
            # The copy is one file: nothing waits beside it.
            here.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise CommandError(f"{source}: cannot be copied: {error}") from error
    if state != "ok":
        raise CommandError(f"{source}: is damaged: {state}")


def _write_tar(file: Path, sources: list[tuple[Path, Path]]) -> list[Item]:
    items = []
    for n, (path, source) in enumerate(sources):
        content = source.read_bytes()
        mode = path.stat().st_mode & _PERMISSIONS
        items.append(Item(str(path), f"files/{n}", mode, len(content), hashlib.sha256(content).hexdigest()))
    manifest = {
        "format": FORMAT,
        "schema": SCHEMA,
        "version": version("manybinder"),
        "made_at": time.time(),
        "files": [asdict(item) for item in items],
    }
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as tar:
            _add(tar, _MANIFEST, json.dumps(manifest, indent=1).encode())
            for item, (_, source) in zip(items, sources, strict=True):
                # An archive may have grown meanwhile: what is in the manifest is what is copied.
                with source.open("rb") as copied:
                    _add(tar, item.name, copied.read(item.size))
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return items


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
    tar.addfile(info, io.BytesIO(content))


def _manifest(tar: tarfile.TarFile) -> list[Item]:
    try:
        return _items(json_types.loads_object(_content(tar, _MANIFEST)))
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(f"{_MANIFEST}: {error}", Exit.USAGE) from error


def _items(wire: dict[str, Any]) -> list[Item]:
    if wire.get("format") != FORMAT or wire.get("schema") != SCHEMA:
        raise ValueError(f"is no backup of this form ({FORMAT}, schema {SCHEMA})")
    items = [Item(**item) for item in wire["files"]]
    for item in items:
        place = Path(item.path)
        if ".." in place.parts or not place.is_absolute() or not place.name or "\0" in item.path:
            raise ValueError(f"{item.path!r} is no place for a file")
        if not isinstance(item.mode, int) or not 0 <= item.mode <= _PERMISSIONS:
            raise ValueError(f"{item.path}: its mode must be permissions, and no more")
    return items


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        opened = tar.extractfile(name)
    except KeyError:
        opened = None
    if opened is None:
        raise CommandError(f"the backup does not hold {name}", Exit.USAGE)
    return opened.read()


def _checked(tar: tarfile.TarFile, item: Item) -> bytes:
    content = _content(tar, item.name)
    if len(content) != item.size or hashlib.sha256(content).hexdigest() != item.sha256:
        raise CommandError(f"{item.path} is damaged in the backup", Exit.USAGE)
    return content


def _refuse_what_is_there(targets: list[Path], *, force: bool) -> None:
    there = [path for path in targets if path.exists()]
    if there and not force:
        text = f"{there[0]} and {len(there) - 1} more exist" if there[1:] else f"{there[0]} exists"
        raise CommandError(f"{text} already; --force replaces what is there", Exit.USAGE)
    for path in there:
        if path.name in _DATABASES and _is_open(path):
            raise CommandError(f"{path} is in use: end the gateway first", Exit.USAGE)


def _is_open(path: Path) -> bool:
    """Whether another process has a database open: it cannot leave its write-ahead log then (SQLite, "WAL")."""
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError:
        return True
    except sqlite3.DatabaseError:
        return False
    return False


def _put(path: Path, content: bytes, mode: int) -> None:
    """As a whole or not at all, and never readable by others than before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    if path.name in _DATABASES:
        for end in _BESIDE:
            path.with_name(path.name + end).unlink(missing_ok=True)
    temporary.replace(path)


def _tell(items: list[Item], said: str, as_json: bool) -> None:
    for item in items:
        if as_json:
            click.echo(json_types.dumps({"path": item.path, "size": item.size, "sha256": item.sha256}))
        else:
            click.echo(plain(item.path))
    if not as_json:
        for_people().print(said)
