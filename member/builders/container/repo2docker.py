"""One run of repo2docker: its arguments are those that BinderHub gives it.

It runs in a sandbox that holds its own code, a home, and the engine's socket: a link in a repository that leads to a
file of this machine leads nowhere.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import member
from member.builder_settings import ContainerBuilderSettings
from member.builders.base import BuildRequest
from member.builders.container import groups
from member.builders.container.endpoint import Endpoint, NoEngineError
from member.confine.confinement import Confinement
from member.confine.environ import named_files, network_environ
from member.confine.limits import Limits
from member.confine.sandbox import HOME_PATH, USER, Layer, View, covered
from member.confine.warden import Command
from providers.credentials import GitCredentials

#: On each image: what it is of, by the names under which other members find it in a registry.
LABEL_REPO, LABEL_COMMIT = "org.manybinder.repo", "org.manybinder.commit"

_PACKAGE = Path(member.__file__).parent
_INTERPRETER = tuple(dict.fromkeys(map(Path, (sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)))))

#: Our engine plug-in is of this package, which need not be installed where other packages are.
_OWN_CODE = (*_INTERPRETER, *(() if any(map(_PACKAGE.is_relative_to, _INTERPRETER)) else (_PACKAGE,)))

_GIT_ONLY = _PACKAGE / "builders" / "container" / "git_only.py"

#: Providers of what is in no Git repository; repo2docker finds out itself which of its content providers fetches it.
_CONTENT = frozenset({"zenodo", "figshare", "dataverse", "hydroshare", "ckan", "swh"})

#: Of a build container, in microseconds.
_CPU_PERIOD = 100_000

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as repo2docker is told of it."""

    endpoint: Endpoint
    plugin: str
    """``docker`` is repo2docker's own, which calls ``buildx``."""
    unlimited: tuple[str, ...] = ()
    """What it cannot limit: a build container that asks for it does not start."""
    groups: bool = True
    """Whether it can make a control group for a build."""


def plugin(endpoint: Endpoint) -> str:
    """The engine that repo2docker is to use: its own, if what that calls is there; raises ``NoEngineError``."""
    program = endpoint.engine
    if shutil.which(program) is None:
        raise NoEngineError(f"the program {program} is missing, which repo2docker builds with; install it")
    asked = subprocess.run([program, "buildx", "version"], capture_output=True, check=False, timeout=30)
    if asked.returncode == 0:
        return "docker"
    if program == "podman":
        return "manybinder-podman"
    raise NoEngineError("docker has no buildx, which repo2docker builds with; install docker-buildx-plugin")


def arguments(request: BuildRequest, engine: Engine, settings: ContainerBuilderSettings, group: str) -> list[str]:
    """What ``jupyter-repo2docker`` is called with; ``group`` is the control group of Podman's build containers."""
    argv = ["--ref", request.commit, "--image-name", request.image]
    argv += ["--no-clean", "--no-run", "--json-logs", "--user-name", USER, "--user-id", "1000"]
    argv += ["--engine", engine.plugin, "--config", str(_GIT_ONLY) if request.provider not in _CONTENT else os.devnull]
    argv += ["--label", f"{LABEL_REPO}={request.repo}", "--label", f"{LABEL_COMMIT}={request.commit}"]
    argv += ["--appendix", settings.appendix] if settings.appendix else []
    traits = "PodmanEngine" if engine.plugin != "docker" else "DockerEngine"
    argv += [f"--{traits}.extra_buildx_build_args={option}" for option in _limits(engine, settings, group)]
    return [*argv, request.repo_url]


def _limits(engine: Engine, settings: ContainerBuilderSettings, group: str) -> Sequence[str]:
    """Options of a build; Docker's BuildKit knows no limits for one build, only for a builder."""
    if engine.endpoint.engine == "docker":
        return ("--load",)
    memory = (f"--memory={settings.memory}", f"--memory-swap={settings.memory}")
    cpu = (f"--cpu-period={_CPU_PERIOD}", f"--cpu-quota={int(settings.cpu * _CPU_PERIOD)}")
    mark = groups.mark(group) if not engine.groups else None
    return (
        *(memory if "memory" not in engine.unlimited else ()),
        *(cpu if "CPU" not in engine.unlimited else ()),
        f"--ulimit=nproc={settings.processes}:{settings.processes}",
        f"--cgroup-parent={group}" if mark is None else f"--ulimit=locks={mark}:{mark}",
        "--force-rm",
    )


def command(
    confinement: Confinement,
    engine: Engine,
    place: Path,
    argv: Sequence[str],
    limits: Limits,
    environ: Mapping[str, str] = os.environ,
    credentials: GitCredentials | None = None,
) -> Command:
    """The run as a command of this machine; ``place`` is an empty directory of its own.

    ``credentials`` are for its Git: what runs of the repository, the engine runs, with an environment of its own.
    """
    home, tmp = place / "home", place / "tmp"
    for directory in (home, tmp):
        directory.mkdir(mode=0o700)
    # repo2docker takes an address with Podman's name in it for Podman's.
    socket, socket_seen = engine.endpoint.path, f"/tmp/{engine.endpoint.engine}.sock"  # noqa: S108 - the sandbox's own
    read_only = [*_OWN_CODE, *named_files(environ)]
    seen = View(
        layers={HOME_PATH: Layer(home)},
        tmp=tmp,
        read_only={path: str(path) for path in dict.fromkeys(read_only) if not covered(path)},
        writable={socket: socket_seen},
        # Python looks for packages in a list of what is there.
        listed=frozenset({str(_PACKAGE.parent)}),
    )
    place_of = {"DOCKER_HOST": f"unix://{confinement.seen_at(socket_seen, socket)}"}
    if engine.endpoint.engine == "podman":
        place_of["CONTAINER_HOST"] = place_of["DOCKER_HOST"]
    home_seen = confinement.seen_at(HOME_PATH, home)
    variables = {
        **network_environ(environ, trusted=True),
        **place_of,
        "PATH": _SYSTEM_PATH,
        "HOME": home_seen,
        "XDG_RUNTIME_DIR": confinement.seen_at("/tmp", tmp),  # noqa: S108 - the sandbox's own
        "TMPDIR": confinement.seen_at("/tmp", tmp),  # noqa: S108
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **_GIT,
        **(credentials.whole_environ if credentials else {}),
    }
    invocation = confinement.invocation([sys.executable, "-I", "-m", "repo2docker", *argv], seen, limits)
    return Command(invocation, variables, limits, [home, tmp], cwd="/" if confinement.confined else str(home))


_GIT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=10",
}
