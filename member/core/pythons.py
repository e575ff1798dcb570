"""Which Python an environment gets."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from member.core.refusals import UnsupportedError

#: Older ones cannot run the JupyterLab that sessions are served with.
FLOOR = (3, 10)

#: What a repository gets that names none: repo2docker's default.
DEFAULT = "3.10"

_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Python:
    """An interpreter of this machine: its version, its program and the directory that it lives in."""

    version: tuple[int, int, int]
    executable: str
    prefix: str

    @property
    def text(self) -> str:
        """The version as people write it."""
        return ".".join(map(str, self.version))


def matching(wanted: str, present: Sequence[Python]) -> Python | None:
    """The newest interpreter that is what a repository asks for (``3.11`` or ``3.11.4``)."""
    parts = _parts(wanted)
    fitting = [python for python in present if python.version[: len(parts)] == parts]
    return max(fitting, default=None)


def nearest(wanted: str, present: Sequence[Python]) -> Python | None:
    """The interpreter next to what a repository asks for; of two that are as near, the newer one."""
    major, minor = _parts(wanted)[:2]
    same = [python for python in present if python.version[0] == major and python.version[:2] >= FLOOR]
    return min(
        same, key=lambda python: (abs(python.version[1] - minor), -python.version[1], -python.version[2]), default=None
    )


def check_wanted(wanted: str) -> None:
    """Raise :class:`UnsupportedError` for a version that no interpreter here could stand in for."""
    parts = _parts(wanted)
    if parts[0] != FLOOR[0]:
        raise UnsupportedError(f"Python {wanted}", "is not supported by this member's process builder")


def can_download(wanted: str) -> bool:
    """Whether it is worth asking uv for it."""
    return _parts(wanted)[:2] >= FLOOR


def substitution(wanted: str, chosen: Python) -> str:
    """What the visitor is told who gets another one."""
    return (
        f"Warning: the repository asks for Python {wanted}, which is not here; Python {chosen.text} is used instead.\n"
    )


def absence(wanted: str, present: Sequence[Python]) -> str:
    """What the visitor is told who gets none."""
    there = ", ".join(python.text for python in sorted(present)) or "none"
    return f"The repository asks for Python {wanted}, which this member does not have (it has: {there})."


def _parts(wanted: str) -> tuple[int, ...]:
    match = _VERSION.match(wanted)
    if not match:
        raise UnsupportedError(f"the Python version {wanted[:40]!r}", "is not of the form 3.11 or 3.11.4")
    return tuple(int(part) for part in match.groups() if part is not None)
