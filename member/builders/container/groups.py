"""Control groups of build containers: by them a build is found and ended whose client has gone.

Podman goes on with a step of a build after its client has hung up; Docker ends it.
"""

import contextlib
import os
import re
import secrets
import signal
from pathlib import Path

_PROC = Path("/proc")


def new_group(member: str, *, systemd: bool) -> str:
    """A name for one build's group, as the engine's manager of control groups wants it."""
    name = f"{_prefix(member)}{secrets.token_hex(6)}"
    return f"{name}.slice" if systemd else f"/{name}"


def end_all(member: str) -> int:
    """Kill the processes of all builds of a member, which an earlier run has left; returns how many there were."""
    return _kill(re.compile(rf"/{re.escape(_prefix(member))}[0-9a-f]{{12}}(\.slice)?(/|$)", re.MULTILINE))


def end(group: str) -> int:
    """Kill the processes of one build; returns how many there were."""
    return _kill(re.compile(rf"/{re.escape(group.lstrip('/'))}(/|$)", re.MULTILINE))


def _prefix(member: str) -> str:
    # In systemd's names of slices a dash is a level.
    return f"manybinder_build_{member.replace('-', '_')}_"


def _kill(pattern: re.Pattern[str]) -> int:
    killed = 0
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if pattern.search((entry / "cgroup").read_text()):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed
