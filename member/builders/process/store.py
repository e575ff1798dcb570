"""The images of the process builder, on disk.

An image is there or not: it is made under another name (``….partial-…``), under a lock that ends with the process that
makes it, and renamed once it is complete.
"""

import json
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from contract.repos import RepoKey
from member.builders.base import BuiltImage
from member.confine.files import Lock, remove_tree

logger = logging.getLogger(__name__)

#: Of what is on disk; another one is not read.
FORMAT = 1

_PARTIAL = ".partial-"
_UNSAFE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class ImageMeta:
    """What is known of an image; ``mode`` is how its layers are made, ``start`` a script that each session runs."""

    image: str
    repo: str
    commit: str
    mode: str
    base: str
    python_version: str
    python_executable: str
    python_prefix: str
    start: str
    size_bytes: int
    format: int = FORMAT


def read_meta(directory: Path) -> ImageMeta | None:
    """What is known of the image in a directory; ``None`` if there is none that this version can use."""
    try:
        wire: Any = json.loads((directory / "meta.json").read_text())
        if not isinstance(wire, Mapping) or wire.get("format") != FORMAT:
            return None
        return ImageMeta(**{name: wire[name] for name in ImageMeta.__slots__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Store:
    """Images, bases and what is being made of them, below one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.images_dir = data_dir / "images"
        self.bases_dir = data_dir / "bases"

    def start(self) -> None:
        """Make the directories, and remove what a crash has left half-made."""
        for directory in (self.images_dir, self.bases_dir):
            directory.mkdir(parents=True, exist_ok=True)
            for path in directory.glob(f"*{_PARTIAL}*"):
                _remove_unless_locked(path)

    def directory(self, image: str) -> Path:
        """Where an image is."""
        readable = _UNSAFE.sub("-", image.lower()).strip("-")[:40]
        return self.images_dir / f"{readable}-{sha256(image.encode()).hexdigest()[:16]}"

    def base(self, key: str) -> Path:
        """Where a base environment is."""
        return self.bases_dir / key

    def meta(self, image: str, mode: str) -> ImageMeta | None:
        """What is known of an image that can be used now."""
        meta = read_meta(self.directory(image))
        if meta is None or meta.mode != mode or not Path(meta.python_executable).exists():
            return None
        return meta if self.base(meta.base).is_dir() else None

    def touch(self, image: str) -> None:
        """Note that an image was used just now."""
        try:
            (self.directory(image) / "used").touch()
        except OSError as error:
            logger.debug("cannot note that %s was used: %s", image, error)

    def images(self) -> list[BuiltImage]:
        """All images, the most recently used first."""
        found = []
        for directory in self.images_dir.iterdir():
            meta = None if _PARTIAL in directory.name else read_meta(directory)
            if meta is None:
                continue
            used_at = _mtime(directory / "used") or _mtime(directory / "meta.json")
            found.append(BuiltImage(meta.image, RepoKey(meta.repo), meta.commit, meta.size_bytes, used_at))
        return sorted(found, key=lambda image: -image.used_at)

    def evict(self, image: str) -> bool:
        """Remove an image unless a session uses it; whether it is gone."""
        directory = self.directory(image)
        lock = Lock.take(directory / "use.lock")
        if lock is None:
            return not directory.exists()
        try:
            return _remove_whole(directory)
        finally:
            lock.release()

    def clear_unusable(self, unused_base_age_s: float) -> None:
        """Remove directories that hold no readable image, and bases that no image has needed for so many seconds."""
        needed = set()
        for directory in self.images_dir.iterdir():
            meta = read_meta(directory)
            if meta is not None:
                needed.add(meta.base)
            elif _PARTIAL not in directory.name and (lock := Lock.take(directory / "use.lock")):
                lock.release()
                _remove_logged(directory)
        for base in self.bases_dir.iterdir():
            if _PARTIAL in base.name:
                _remove_unless_locked(base)
            elif base.name not in needed and time.time() - _mtime(base / "used") > unused_base_age_s:
                _remove_whole(base)


class Partial:
    """Something in the making at ``path``; :meth:`complete` gives it its name, :meth:`discard` removes it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = self.name(target)
        self.path.mkdir(parents=True)
        lock = Lock.take(self.path / "build.lock")
        if lock is None:
            raise OSError(f"cannot lock {self.path}")
        self._lock = lock

    @staticmethod
    def name(target: Path) -> Path:
        """A new name for something that is not complete."""
        return target.with_name(f"{target.name}{_PARTIAL}{os.getpid()}-{secrets.token_hex(4)}")

    def complete(self, meta: ImageMeta | None = None) -> bool:
        """Rename it; ``False`` if somebody else was faster."""
        if meta is not None:
            (self.path / "meta.json").write_text(json.dumps(asdict(meta)))
        (self.path / "used").touch()
        try:
            self.path.rename(self.target)
        except OSError:
            if not self.target.is_dir():
                raise
            return False
        self._lock.release()
        return True

    def discard(self) -> None:
        """Remove what was made, if it was not completed; blocks."""
        _remove_logged(self.path)
        self._lock.release()


def _remove_unless_locked(path: Path) -> None:
    if lock := Lock.take(path / "build.lock"):
        _remove_logged(path)
        lock.release()


def _remove_whole(path: Path) -> bool:
    """Take its name away first: whatever cuts the removal short, half of it is never taken for all of it."""
    doomed = Partial.name(path)
    try:
        path.rename(doomed)
    except OSError as error:
        logger.warning("cannot remove %s: %s", path, error)
        return False
    _remove_logged(doomed)
    return True


def _remove_logged(path: Path) -> None:
    try:
        remove_tree(path)
    except OSError:
        logger.exception("something half-made stays behind")


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
