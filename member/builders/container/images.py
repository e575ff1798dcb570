"""The images of this member: what the engine holds, and when each was used, which engines do not know."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from contract.repos import RepoKey
from member.builders.base import BuiltImage
from member.builders.container.client import bare
from member.builders.container.repo2docker import LABEL_COMMIT, LABEL_REPO


@dataclass(frozen=True, slots=True)
class Held:
    """An image of ours that the engine holds."""

    built: BuiltImage
    identifier: str


def held(listed: Iterable[Mapping[str, Any]], prefix: str, used: "UsedTimes") -> list[Held]:
    """Those of an engine's images whose name begins with ours, the most recently used first."""
    found = []
    for item in listed:
        labels = item.get("Labels") or {}
        repo, commit = labels.get(LABEL_REPO), labels.get(LABEL_COMMIT)
        if not isinstance(repo, str) or not isinstance(commit, str):
            continue
        for name in item.get("RepoTags") or ():
            if name.startswith(prefix):
                at = used.at(name) or float(item.get("Created") or 0)
                built = BuiltImage(name, RepoKey(repo), commit, int(item.get("Size") or 0), at)
                found.append(Held(built, bare(str(item.get("Id")))))
    return sorted(found, key=lambda one: -one.built.used_at)


@dataclass(frozen=True, slots=True)
class Watermarks:
    """When images have to go, and until when: parts of the disk, or bytes of all images."""

    high: float
    low: float
    relative: bool
    max_age_s: float


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of the file system that images are on."""

    used: float
    total: float


def surplus(images: Sequence[Held], in_use: set[str], marks: Watermarks, disk: Disk, now: float) -> list[Held]:
    """What has to go, the least recently used first; never what a container uses.

    Sizes are what the engine tells of each image: layers that several share are counted for each, so that more may have
    to go than was thought, and the next round sees.
    """
    free_to_go = [image for image in reversed(images) if image.identifier not in in_use]
    doomed = [image for image in free_to_go if now - image.built.used_at > marks.max_age_s]
    taken = disk.used if marks.relative else float(sum(image.built.size_bytes for image in images))
    taken -= sum(image.built.size_bytes for image in doomed)
    scale = disk.total if marks.relative else 1.0
    if taken <= marks.high * scale:
        return doomed
    for image in free_to_go:
        if taken <= marks.low * scale:
            break
        if image not in doomed:
            doomed.append(image)
            taken -= image.built.size_bytes
    return doomed


class UsedTimes:
    """When images were used, kept in a directory over restarts."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def touch(self, image: str) -> None:
        """Note that an image was used just now."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._file(image).touch()

    def at(self, image: str) -> float:
        """When it was used (Unix time); 0 = nobody knows."""
        try:
            return self._file(image).stat().st_mtime
        except OSError:
            return 0.0

    def forget(self, image: str) -> None:
        """It is gone."""
        self._file(image).unlink(missing_ok=True)

    def _file(self, image: str) -> Path:
        return self._directory / sha256(image.encode()).hexdigest()
