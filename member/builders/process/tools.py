"""What builds and sessions of the process builder have in common: where things are, and with which environment."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import uv

from member.confine.confinement import Confinement
from member.confine.environ import named_files, network_environ
from member.confine.sandbox import BIN_PATH, CACHE_PATH, ENV_PATH, HOME_PATH, USER, Layer, View, covered

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UV_CONFIG_PATH = "/srv/uv.toml"


def program_environ(confinement: Confinement, env: Path, home: Path, tmp: Path, *, trusted: bool) -> dict[str, str]:
    """The variables that a repository's program finds, as in repo2docker's images.

    ``trusted``: with passwords for the package index (see :mod:`member.confine.environ`).
    """
    env_seen, home_seen = confinement.seen_at(ENV_PATH, env), confinement.seen_at(HOME_PATH, home)
    path = [f"{home_seen}/.local/bin", f"{env_seen}/bin", str(Path(confinement.seen_at(BIN_PATH, uv_program().parent)))]
    return {
        **network_environ(os.environ, trusted=trusted),
        "PATH": ":".join([*path, SYSTEM_PATH]),
        "HOME": home_seen,
        "REPO_DIR": home_seen,
        "USER": USER,
        "NB_USER": USER,
        "LOGNAME": USER,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": confinement.seen_at("/tmp", tmp),  # noqa: S108 - the sandbox's own
        "VIRTUAL_ENV": env_seen,
        "NB_PYTHON_PREFIX": env_seen,
        "KERNEL_PYTHON_PREFIX": env_seen,
        "PYTHONUNBUFFERED": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def uv_environ(confinement: Confinement, cache: Path) -> dict[str, str]:
    """What uv is told besides: its configuration is none of the repository's."""
    environ = {
        "UV_CACHE_DIR": confinement.seen_at(CACHE_PATH, cache),
        "UV_LINK_MODE": "copy",  # the cache is another mount, and its files are not the environment's to change
        "UV_NO_PROGRESS": "1",
        "NO_COLOR": "1",
    }
    config = uv_config()
    if config is None:
        return environ | {"UV_NO_CONFIG": "1"}
    return environ | {"UV_CONFIG_FILE": confinement.seen_at(_UV_CONFIG_PATH, config)}


def pristine_environ() -> dict[str, str]:
    """For a command that must run no code of the repository, whose files are the home: no program and no
    configuration, of uv or of the Git that uv starts, is looked for there.
    """
    return {
        "PATH": SYSTEM_PATH,
        "HOME": "/nonexistent",
        "XDG_CONFIG_HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    }


def uv_seen(confinement: Confinement) -> str:
    """The uv program as a command sees it; never looked up, since a repository may bring a program of that name."""
    return confinement.seen_at(f"{BIN_PATH}/uv", uv_program())


def uv_program() -> Path:
    """The uv program."""
    return Path(uv.find_uv_bin())


def uv_config() -> Path | None:
    """This machine's configuration of uv, if it has one."""
    home = Path(os.environ.get("HOME", "/nonexistent"))
    candidates = (home / ".config" / "uv" / "uv.toml", Path("/etc/uv/uv.toml"))
    return next((path for path in candidates if path.is_file()), None)


def view(
    layers: Mapping[str, Layer],
    tmp: Path,
    *,
    python_prefix: str = "",
    read_only: Iterable[Path] = (),
    placed: Mapping[Path, str] | None = None,
    writable: Mapping[Path, str] | None = None,
    work_dir: str = HOME_PATH,
    uv_config_too: bool = True,
) -> View:
    """What a command sees: its layers, the interpreter, uv, and the certificates that this machine is set to.

    ``read_only`` paths are seen where they are, ``placed`` and ``writable`` ones at another place.
    """
    same = [*named_files(os.environ), *read_only]
    if python_prefix:
        same.append(Path(python_prefix))
    places = {path: str(path) for path in same if not covered(path)}
    places |= placed or {}
    places[uv_program()] = f"{BIN_PATH}/uv"
    config = uv_config()
    if config is not None and uv_config_too:
        places[config] = _UV_CONFIG_PATH
    return View(layers, tmp, places, writable or {}, work_dir)


def python_in(env: str) -> str:
    """The interpreter of an environment."""
    return f"{env}/bin/python"
