"""A real Podman and a real registry for tests, with an image that brings JupyterLab: nothing comes from elsewhere."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from manybinder.ports import free_ports
from member.builders.container import endpoint

REPOSITORY = Path(__file__).parent.parent

#: The image that the repositories of tests begin with.
BASE = "localhost/manybinder-test-base:1"

DOCKERFILE = f"""\
FROM {BASE}
RUN useradd --create-home --uid 1000 jovyan
ENV PYTHONPATH=/opt/jupyter PATH=/opt/jupyter/bin:/usr/local/bin:/usr/bin:/bin HOME=/home/jovyan
ENV JUPYTERLAB_DIR=/opt/jupyter/share/jupyter/lab
COPY --chown=1000 . /home/jovyan
USER 1000
WORKDIR /home/jovyan
"""

_PROGRAMS = ("podman", "runc", "mmdebstrap", "docker-registry")


def why_not() -> str:
    """Why no container engine can be tested here; "" if it can."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no container engine works here: {', '.join(missing)} missing"
    if os.geteuid() != 0:
        return "no container engine works here: the tests' Podman needs root"
    return ""


@dataclass
class Podman:
    """A Podman with a store of its own, and a registry."""

    place: Path
    environ: dict[str, str]
    registry: str
    """Host and port."""
    other_registry: str
    """Another member's."""

    @property
    def socket(self) -> str:
        """Where it listens."""
        return f"unix://{self.place}/podman.sock"

    def run(self, *arguments: str) -> str:
        """Run a command; returns what it said."""
        done = subprocess.run(
            ["podman", *arguments], env={**os.environ, **self.environ}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def podman(make_base: Callable[[Path], None] | None = None) -> Iterator[Podman]:
    """Start one, with :data:`BASE` in it, and remove everything at the end.

    ``make_base`` writes ``base.tar`` into a directory; without it, one that brings JupyterLab.
    """
    # Paths of sockets have to be short.
    place = Path(tempfile.mkdtemp(prefix="mbc-", dir="/tmp"))
    registry, other = (f"127.0.0.1:{port}" for port in free_ports(2))
    environ = _configure(place, registry, other)
    started: list[subprocess.Popen[bytes]] = []
    try:
        engine = Podman(place, environ, registry, other)
        (make_base or _base_with_jupyter)(place)
        engine.run("import", str(place / "base.tar"), BASE)
        (place / "base.tar").unlink()
        started.extend(
            _start(["docker-registry", "serve", str(place / f"{name}.yml")], place, environ)
            for name in ("registry", "other-registry")
        )
        started.append(_start(["podman", "system", "service", "--time=0", engine.socket], place, environ))
        _wait_for(lambda: endpoint.identify(engine.socket)[0] == "podman")
        for host in (registry, other):
            _wait_for(lambda host=host: urllib.request.urlopen(f"http://{host}/v2/", timeout=5).status == 200)
        yield engine
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        with contextlib.suppress(AssertionError):
            Podman(place, environ, registry, other).run("system", "reset", "--force")
        subprocess.run(["umount", str(place / "store" / "overlay")], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def _configure(place: Path, *registries: str) -> dict[str, str]:
    known = "".join(f'[[registry]]\nlocation="{registry}"\ninsecure=true\n' for registry in registries)
    files = {
        "containers.conf": '[containers]\ndefault_ulimits=["nofile=1024:4096","nproc=1024:1024"]\n'
        # A reset removes the directory that is this machine's otherwise, under whoever else uses it then.
        f'[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\ntmp_dir="{place}/alive"\n'
        # Networks are for all stores of a machine otherwise, and a reset takes them all.
        f'[network]\nnetwork_config_dir="{place}/networks"\n',
        "storage.conf": f'[storage]\ndriver="overlay"\ngraphroot="{place}/store"\nrunroot="{place}/run"\n',
        "registries.conf": f"unqualified-search-registries=[]\n{known}",
    }
    for name, registry in zip(("registry", "other-registry"), registries, strict=True):
        files[f"{name}.yml"] = (
            f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {place}/{name}\n"
            f"  delete:\n    enabled: true\nhttp:\n  addr: {registry}\n"
        )
    for name, text in files.items():
        (place / name).write_text(text)
    names = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF")
    return dict(zip(names, (str(place / name) for name in list(files)[:3]), strict=True))


def _base_with_jupyter(place: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    lock = REPOSITORY / "member" / "builders" / "jupyterlab.txt"
    install = f"{uv} pip install --quiet --python /usr/bin/python3 --target $1/opt/jupyter -r {lock}"
    scripts = "sed -i '1s|^#!.*|#!/usr/bin/python3|' $1/opt/jupyter/bin/jupyter*"
    debian(place, ("python3",), (install, scripts))


def debian(place: Path, packages: Sequence[str], hooks: Sequence[str] = ()) -> None:
    """Write ``base.tar``: this machine's Debian with some packages, after hooks, in which ``$1`` is its root."""
    release = next(
        line.partition("=")[2].strip('"')
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    done = subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(release, str(place / "base.tar")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _start(argv: list[str], place: Path, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    with (place / f"{argv[0]}.log").open("wb") as log:
        return subprocess.Popen(argv, env={**os.environ, **environ}, stdout=log, stderr=subprocess.STDOUT, cwd=place)


def _wait_for(condition: object, deadline_s: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return
        assert time.monotonic() < end
        time.sleep(0.1)
