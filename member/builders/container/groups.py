"""Control groups of build containers: by them a build is found and ended whose client has gone.

Podman goes on with a step of a build after its client has hung up; Docker ends it.

A Podman for a user may be unable to make a group.  Its build containers bear a mark instead: as the limit of file
locks, which Linux has and has not heeded since 2.4 (getrlimit(2), ``RLIMIT_LOCKS``).
"""

import contextlib
import hashlib
import os
import re
import secrets
import signal
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")

_LOCKS = re.compile(r"^Max file locks +(\d+) ", re.MULTILINE)

#: Bits of a mark that say the build; those above them say the member.
_BITS = 31


def new_group(member: str, *, systemd: bool) -> str:
    """A name for one build's group, as the engine's manager of control groups wants it."""
    name = f"{_prefix(member)}{secrets.token_hex(6)}"
    return f"{name}.slice" if systemd else f"/{name}"


def end_all(member: str) -> int:
    """Kill the processes of all builds of a member, which an earlier run has left; returns how many there were."""
    pattern = re.compile(rf"/{re.escape(_prefix(member))}[0-9a-f]{{12}}(\.slice)?(/|$)", re.MULTILINE)
    return _kill(pattern, lambda found: found >> _BITS == _hash(_prefix(member)))


def end(group: str) -> int:
    """Kill the processes of one build; returns how many there were."""
    wanted = mark(group)
    return _kill(re.compile(rf"/{re.escape(group.lstrip('/'))}(/|$)", re.MULTILINE), lambda found: found == wanted)


def mark(group: str) -> int:
    """What the containers of a build bear where there are no groups."""
    name = group.strip("/").removesuffix(".slice")
    return _hash(name[: name.rindex("_") + 1]) << _BITS | _hash(name)


def _prefix(member: str) -> str:
    # In systemd's names of slices a dash is a level.
    return f"manybinder_build_{member.replace('-', '_')}_"


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) >> (32 - _BITS)


def _kill(pattern: re.Pattern[str], marked: Callable[[int], bool]) -> int:
    killed = 0
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            locks = _LOCKS.search((entry / "limits").read_text())
            if (locks and marked(int(locks[1]))) or pattern.search((entry / "cgroup").read_text()):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed
