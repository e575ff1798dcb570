"""The steps of one build, each in the sandbox: fetch, detect, install, run postBuild."""

import asyncio
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contract.events import Failure, Phase
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.process.tools import program_environ, python_in, uv_environ, view
from member.builders.process.words import begins_error, git_failure, uv_failure
from member.confine import layers, warden
from member.confine.confinement import Confinement, Mode
from member.confine.limits import LimitExceededError, Limits
from member.confine.sandbox import CACHE_PATH, ENV_PATH, HOME_PATH, Layer
from member.core.environment import Detected, Plan, read_detected
from member.core.pythons import Python

logger = logging.getLogger(__name__)

#: Tells the visitor a line.
Say = Callable[[Phase, str], Awaitable[None]]

_GIT = (
    "git",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "credential.helper=",
    "-c",
    "http.lowSpeedLimit=1000",
    "-c",
    "http.lowSpeedTime=60",
    "-c",
    "advice.detachedHead=false",
)
_GIT_ENVIRON = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    " -o IdentityAgent=none -o ConnectTimeout=10",
    "LC_ALL": "C",
}

#: Lines that are remembered of a command, to say why it failed.
_REMEMBERED = 60

#: Where this interpreter and its packages are, among them repo2docker.
_OWN_CODE = tuple(dict.fromkeys(map(Path, (sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)))))

_MAX_DETECTED = 2 * 2**20


@dataclass
class Site:
    """Where one build happens, and how far it got."""

    confinement: Confinement
    place: Path
    shared_cache: Path
    bytecode: Path
    limits: Limits
    timeout_s: float
    say: Say
    begun: float = field(default_factory=time.monotonic)
    env: Layer | None = None
    python: Python | None = None

    def __post_init__(self) -> None:
        self.home, self.tmp = self.place / "home", self.place / "tmp"
        for directory in (self.home, self.tmp):
            directory.mkdir()

    async def run(self, argv: Sequence[str], phase: Phase, **options: Any) -> tuple[int, list[str]]:
        """Run a command with its lines told to the visitor; its exit status and last lines."""
        remembered: list[str] = []

        async def told(line: str) -> None:
            remembered.append(line)
            del remembered[:-_REMEMBERED]
            await self.say(phase, line + "\n")

        return await self.command(argv, told, **options), remembered

    async def command(
        self,
        argv: Sequence[str],
        on_line: warden.OnLine,
        *,
        cache: Layer | None = None,
        environ: dict[str, str] | None = None,
        read_only: Sequence[Path] = (),
        placed: dict[Path, str] | None = None,
        folder: str = "",
        deadline_s: float | None = None,
    ) -> int:
        """Run a command in this build's sandbox; raises :class:`BuildFailedError` if it breaks a limit."""
        left = max(0.1, self.begun + self.timeout_s - time.monotonic())
        limits = replace(self.limits, deadline_s=left if deadline_s is None else min(left, deadline_s))
        env = self.env.upper if self.env else self.place / "env"
        variables = program_environ(self.confinement, env, self.home, self.tmp, trusted=True) | (environ or {})
        mounted = {HOME_PATH: Layer(self.home)}
        watched = [self.home, self.tmp]
        if self.env is not None:
            mounted[ENV_PATH] = self.env
            watched.append(self.env.upper)
        if cache is not None:
            mounted[CACHE_PATH] = cache
            variables |= uv_environ(self.confinement, cache.upper)
            watched += [cache.upper] if cache.upper.is_relative_to(self.place) else []
        seen = view(
            mounted,
            self.tmp,
            python_prefix=self.python.prefix if self.python else "",
            read_only=read_only,
            placed=placed,
            work_dir=f"{HOME_PATH}/{folder}".rstrip("/"),
        )
        cwd = "/" if self.confinement.confined else str(self.home / folder)
        command = warden.Command(self.confinement.invocation(argv, seen, limits), variables, limits, watched, cwd=cwd)
        try:
            return await warden.run(command, on_line)
        except LimitExceededError as error:
            why = str(error)
            if time.monotonic() >= self.begun + self.timeout_s:
                why = f"it took longer than {self.timeout_s:g} seconds"
            raise BuildFailedError(Failure.USER, f"The build was ended: {why}.") from error


async def prepare_bytecode(directory: Path) -> None:
    """Compile what :func:`detect` imports, which it could not do in the sandbox; makes it four times as fast."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-X", f"pycache_prefix={directory}", "-c", "import repo2docker.buildpacks, ruamel.yaml, tomllib"),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def fetch(site: Site, request: BuildRequest) -> None:
    """Check the repository out into the home; raises :class:`BuildFailedError`."""
    git = shlex.join(_GIT)
    url, commit = shlex.quote(request.repo_url), shlex.quote(request.commit)
    # A server that serves plain files, or only what a ref names, cannot be asked for one commit.
    script = (
        f"set -e; {git} init --quiet .; {git} remote add origin {url}\n"
        f"if ! {git} fetch --quiet --depth 1 origin {commit} 2>/tmp/shallow; then\n"
        f"  {git} fetch --quiet --tags origin '+refs/heads/*:refs/remotes/origin/*'\n"
        "fi\n"
        f"{git} checkout --quiet --detach {commit}\n"
        "if [ -e .gitmodules ]; then\n"
        f"  {git} submodule --quiet update --init --recursive --depth 1 ||"
        f" {git} submodule --quiet update --init --recursive\n"
        "fi\n"
    ).replace("/tmp/shallow", shlex.quote(site.confinement.seen_at("/tmp/shallow", site.tmp / "shallow")))  # noqa: S108
    await site.say(Phase.FETCHING, f"Fetching {request.repo_url} at {request.commit}\n")
    status, lines = await site.run(["/bin/sh", "-c", script], Phase.FETCHING, environ=_GIT_ENVIRON, deadline_s=600)
    if status:
        failure, message = git_failure(lines, request.repo_url, request.commit)
        raise BuildFailedError(failure, message)


async def detect(site: Site) -> Detected:
    """Find the configuration files with repo2docker; raises ``RepositoryError`` or :class:`BuildFailedError`."""
    script = Path(__file__).with_name("detect.py")
    # Nothing of the repository has run yet, so what is in this file is repo2docker's word.
    found_in_sandbox = site.confinement.seen_at("/tmp/detected.json", site.tmp / "detected.json")  # noqa: S108
    output: list[str] = []

    async def collect(line: str) -> None:
        output.append(line)
        del output[:-_REMEMBERED]

    program = site.confinement.seen_at("/srv/detect.py", script)
    placed = {script: "/srv/detect.py"}
    if site.bytecode.is_dir():
        placed[site.bytecode] = "/srv/pycache"
    prefix = f"pycache_prefix={site.confinement.seen_at('/srv/pycache', site.bytecode)}"
    argv = [sys.executable, "-I", "-X", prefix, program, found_in_sandbox]
    status = await site.command(argv, collect, read_only=_OWN_CODE, placed=placed, deadline_s=60)
    try:
        wire = json.loads(_read_bounded(site.tmp / "detected.json"))
    except (OSError, ValueError) as error:
        logger.exception("looking for configuration files ended with status %d: %s", status, " ".join(output)[-1000:])
        raise BuildFailedError(Failure.MEMBER, "The configuration files could not be looked for.") from error
    return read_detected(wire)


def _read_bounded(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(_MAX_DETECTED)


async def install(site: Site, plan: Plan) -> None:
    """Install what the plan says into the environment; raises :class:`BuildFailedError`."""
    env = site.confinement.seen_at(ENV_PATH, _env(site))
    uv = ["uv", "pip", "install", "--python", python_in(env)]
    command: list[str] = []
    if plan.requirements_file:
        command = [*uv, "-r", plan.requirements_file]
    elif plan.requirements:
        lines = "\n".join(plan.requirements)
        command = ["/bin/sh", "-c", 'printf "%s\\n" "$0" | exec "$@" -r -', lines, *uv]
    if command:
        await _install_from_index(site, plan, command)
    if plan.install_package:
        await site.say(Phase.BUILDING, "Installing the repository as a Python package\n")
        await _install_with_builds(site, [*uv, "."], "The repository's Python package", "")


async def _install_from_index(site: Site, plan: Plan, command: list[str]) -> None:
    """Without builds first, so that what is downloaded is kept for all; with builds if that does not do.

    As long as nothing is built, only uv's own code runs, which may write to the cache that all builds share; and this
    is the first thing that happens to a fresh environment, so that there is no foreign code that Python could load.
    """
    await site.say(Phase.BUILDING, f"Installing the packages of {plan.source}\n")
    withheld: list[str] = []

    async def told(line: str) -> None:
        if withheld or begins_error(line):
            withheld.append(line)
        else:
            await site.say(Phase.BUILDING, line + "\n")

    without_builds = [*command, "--no-build"]
    status = await site.command(without_builds, told, cache=Layer(site.shared_cache), folder=plan.directory)
    if status:
        await _install_with_builds(site, command, plan.source, plan.directory)


async def _install_with_builds(site: Site, command: list[str], what: str, folder: str) -> None:
    """With a private overlay of the package cache, because code of others runs."""
    status, lines = await site.run(command, Phase.BUILDING, cache=await _private_cache(site), folder=folder)
    if status:
        failure, message = uv_failure(lines, what)
        raise BuildFailedError(failure, message)


async def compile_bytecode(site: Site) -> None:
    """Compile what was installed, so that sessions start faster; a failure is of no consequence."""
    packages = sorted(_env(site).glob("lib/python3.*/site-packages/*"))
    names = [path.name for path in packages if path.is_dir() and not path.name.endswith((".dist-info", "__pycache__"))]
    if not names or site.python is None:
        return
    env = site.confinement.seen_at(ENV_PATH, _env(site))
    folder = f"{env}/lib/python{site.python.version[0]}.{site.python.version[1]}/site-packages"
    script = f"import compileall, sys; [compileall.compile_dir({folder!r} + '/' + n, quiet=2) for n in sys.argv[1:]]"

    async def ignore(line: str) -> None:
        logger.debug("compileall: %s", line)

    await site.command([python_in(env), "-I", "-c", script, *names[:2000]], ignore, deadline_s=300)


async def post_build(site: Site, plan: Plan) -> None:
    """Run postBuild in the repository; raises :class:`BuildFailedError`."""
    if not plan.post_build:
        return
    await site.say(Phase.BUILDING, f"Running {plan.post_build}\n")
    cache = await _private_cache(site)
    # The shell also runs a script that names no interpreter.
    status, _ = await site.run(["/bin/sh", "-c", 'chmod +x "$0"; "./$0"', plan.post_build], Phase.BUILDING, cache=cache)
    if status:
        raise BuildFailedError(Failure.USER, f"{plan.post_build} failed with status {status}; its output is above.")


async def prepare_start(site: Site, plan: Plan) -> None:
    """Make the start script executable, as repo2docker does."""
    if plan.start:
        await site.run(["/bin/chmod", "+x", plan.start], Phase.BUILDING)


async def _private_cache(site: Site) -> Layer:
    below = [site.shared_cache] if site.confinement.mode is Mode.OVERLAY else []
    upper = site.place / "cache"
    if upper.exists():
        return site.confinement.layer(upper, below)
    return await asyncio.to_thread(layers.make, site.confinement, upper, below)


def _env(site: Site) -> Path:
    if site.env is None:
        raise AssertionError("the environment comes before what is done with it")
    return site.env.upper
