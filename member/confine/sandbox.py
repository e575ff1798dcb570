"""How bubblewrap is called: pure, from what a command may see to an argument list.

A command sees the system's programs and libraries read-only, a handful of files of ``/etc``, its own environment at
:data:`ENV_PATH`, its own home at :data:`HOME_PATH`, a ``/tmp`` of its own, and what is named besides.  It has no
capabilities, can make no further user namespaces, and sees only its own processes.

``/proc`` is read-only as a whole: the sandbox's user is this process's user outside, and where that is root, the
kernel would let it write settings of the whole machine (``/proc/sys/kernel/core_pattern``) without any capability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

#: Where the environment is, in builds and sessions alike.
ENV_PATH = "/srv/env"

#: Home, and repository; as in repo2docker's images.
HOME_PATH = "/home/jovyan"

#: Programs of the member's own, such as uv.
BIN_PATH = "/srv/bin"

#: The package cache.
CACHE_PATH = "/srv/cache"

USER, UID = "jovyan", 1000

#: Bytes of ``/dev/shm``.
SHM_SIZE = 256 * 2**20

#: No secrets: not ``/etc/ssl`` as a whole, which holds private keys.
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "fonts",
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "pki/ca-trust",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
)
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")

_ISOLATION = (
    "--unshare-user",
    "--uid",
    str(UID),
    "--gid",
    str(UID),
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--disable-userns",
    "--die-with-parent",
    "--new-session",
    "--cap-drop",
    "ALL",
    "--hostname",
    "manybinder",
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A directory as a command sees it: ``lowers`` (the first at the bottom) read-only, written to ``upper``.

    With lowers, ``upper`` becomes an overlay, and ``work`` must be an empty directory beside it; without, it is mounted
    as it is.
    """

    upper: Path
    lowers: tuple[Path, ...] = ()
    work: Path | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What one command sees."""

    layers: Mapping[str, Layer] = field(default_factory=dict)
    """Place in the sandbox to what is there."""
    tmp: Path | None = None
    read_only: Mapping[Path, str] = field(default_factory=dict)
    """Host path to its place in the sandbox."""
    writable: Mapping[Path, str] = field(default_factory=dict)
    work_dir: str = HOME_PATH
    listed: frozenset[str] = frozenset()
    """Of the directories above these places, those that may be listed and not only passed through."""


def bwrap_options(view: View, etc: Path, system: "System") -> list[str]:
    """Bubblewrap's options; ``etc`` holds the passwd and group files that the sandbox gets.

    They name paths of this machine, and the first process in the sandbox is bubblewrap's own, whose arguments the
    command can read: so they go by ``--args``.  The environment is inherited, because an argument list is no place for
    secrets.
    """
    argv = [*_ISOLATION]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name, target in system.links.items():
        argv += ["--symlink", target, f"/{name}"]
    for name in system.directories:
        argv += ["--ro-bind", f"/{name}", f"/{name}"]
    argv += ["--perms", "0755", "--dir", "/etc"]
    for name in _ETC:
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in ("passwd", "group"):
        argv += ["--ro-bind", str(etc / name), f"/etc/{name}"]
    argv += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    argv += ["--size", str(SHM_SIZE), "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    argv += _places(view)
    return [*argv, "--remount-ro", "/", "--chdir", view.work_dir]


@dataclass(frozen=True, slots=True)
class System:
    """How this machine lays out its system directories: links into ``/usr``, or directories of their own."""

    links: Mapping[str, str]
    directories: Sequence[str]


def system_layout() -> System:
    """Look at this machine."""
    root = Path("/")
    links = {name: str((root / name).readlink()) for name in _SYSTEM if (root / name).is_symlink()}
    directories = [name for name in _SYSTEM if name not in links and (root / name).is_dir()]
    return System(links, directories)


def covered(path: Path) -> bool:
    """Whether a path is seen by every command as it is."""
    return path.is_relative_to("/usr") or path.is_relative_to("/etc/ssl/certs")


def _places(view: View) -> list[str]:
    argv: list[str] = []
    for destination in dict.fromkeys(parent for place in view.read_only.values() for parent in _parents(place)):
        argv += ["--perms", "0755" if destination in view.listed else "0111", "--dir", destination]
    argv += ["--perms", "0755", "--dir", "/srv", "--perms", "0755", "--dir", "/home"]
    argv += ["--bind", str(view.tmp), "/tmp"] if view.tmp else ["--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    argv += ["--perms", "0755", "--dir", "/var", "--symlink", "/tmp", "/var/tmp"]  # noqa: S108
    for destination, layer in view.layers.items():
        argv += _mounted(layer, destination)
    if HOME_PATH not in view.layers:
        argv += ["--perms", "0755", "--dir", HOME_PATH]
    for source, destination in view.writable.items():
        argv += ["--bind", str(source), destination]
    for source, destination in view.read_only.items():
        argv += ["--ro-bind", str(source), destination]
    return argv


def _mounted(layer: Layer, destination: str) -> list[str]:
    if not layer.lowers:
        return ["--bind", str(layer.upper), destination]
    if layer.work is None:
        raise AssertionError("an overlay needs a work directory")
    argv: list[str] = []
    for lower in layer.lowers:
        argv += ["--overlay-src", str(lower)]
    return [*argv, "--overlay", str(layer.upper), str(layer.work), destination]


def _parents(destination: str) -> list[str]:
    """The directories above a place, the highest first, but for those that are there anyway."""
    above = [str(parent) for parent in PurePosixPath(destination).parents]
    there = ("/", "/srv", "/home", "/tmp", "/usr", "/etc", "/var", HOME_PATH)  # noqa: S108
    return [parent for parent in reversed(above) if parent not in there and not parent.startswith(("/usr/", "/etc/"))]
