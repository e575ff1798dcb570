"""The steps of one build, each in the sandbox: fetch, detect, install, run postBuild."""

import asyncio
import json
import logging
import os
import shlex
import sys
from pathlib import Path

from contract.events import Failure, Phase
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.process.site import REMEMBERED, Site
from member.builders.process.tools import pristine_environ, python_in, uv_environ, uv_seen
from member.builders.process.words import EX_DATAERR, begins_error, git_failure, uv_failure
from member.confine import layers
from member.confine.confinement import Mode
from member.confine.ending import to_its_end
from member.confine.sandbox import ENV_PATH, Layer
from member.core.environment import Detected, Plan, read_detected
from providers.credentials import GitCredentials

logger = logging.getLogger(__name__)

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
    **pristine_environ(),
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    " -o IdentityAgent=none -o ConnectTimeout=10",
    "LC_ALL": "C",
}

#: Where this interpreter and its packages are, among them repo2docker.
OWN_CODE = tuple(dict.fromkeys(map(Path, (sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)))))

_MAX_DETECTED = 2 * 2**20


async def prepare_bytecode(directory: Path) -> None:
    """Compile what :func:`detect` imports, which it could not do in the sandbox; makes it four times as fast."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(
            "-I",
            "-X",
            f"pycache_prefix={directory}",
            "-c",
            "import repo2docker.buildpacks, repo2docker.contentproviders, ruamel.yaml, tomllib",
        ),
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


async def fetch(site: Site, request: BuildRequest, credentials: GitCredentials | None = None) -> None:
    """Check the repository out into the home; raises :class:`BuildFailedError`.

    ``credentials`` are for this alone: nothing of the repository runs yet, and what runs later does not get them.
    """
    config = credentials.config if credentials else {}
    git = shlex.join([*_GIT, *(part for key, value in config.items() for part in ("-c", f"{key}={value}"))])
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
        f" {git} submodule --quiet update --init --recursive || exit {EX_DATAERR}\n"
        "fi\n"
        f"if [ -n \"$({git} ls-files ':(attr:filter=lfs)' | head -n 1)\" ]; then\n"
        "  echo 'Warning: files that are kept in Git LFS are not fetched; there are pointers in their places.'\n"
        "fi\n"
    ).replace("/tmp/shallow", shlex.quote(site.confinement.seen_at("/tmp/shallow", site.tmp / "shallow")))  # noqa: S108
    await site.say(Phase.FETCHING, f"Fetching {request.repo_url} at {request.commit}\n")
    environ = _GIT_ENVIRON | (credentials.environ if credentials else {})
    status, lines = await site.run(["/bin/sh", "-c", script], Phase.FETCHING, environ=environ, deadline_s=600)
    if status:
        failure, message = git_failure(lines, request.repo_url, request.commit)
        # Where its submodules are, the repository says: a server of its choice cannot make this member guilty.
        raise BuildFailedError(Failure.USER if status == EX_DATAERR else failure, message)


async def detect(site: Site) -> Detected:
    """Find the configuration files with repo2docker; raises ``RepositoryError`` or :class:`BuildFailedError`."""
    script = Path(__file__).with_name("detect.py")
    # Nothing of the repository has run yet, so what is in this file is repo2docker's word.
    found_in_sandbox = site.confinement.seen_at("/tmp/detected.json", site.tmp / "detected.json")  # noqa: S108
    output: list[str] = []

    async def collect(line: str) -> None:
        output.append(line)
        del output[:-REMEMBERED]

    program = site.confinement.seen_at("/srv/detect.py", script)
    placed = {script: "/srv/detect.py"}
    if site.bytecode.is_dir():
        placed[site.bytecode] = "/srv/pycache"
    prefix = f"pycache_prefix={site.confinement.seen_at('/srv/pycache', site.bytecode)}"
    argv = [sys.executable, "-I", "-X", prefix, program, found_in_sandbox]
    status = await site.command(argv, collect, read_only=OWN_CODE, placed=placed, deadline_s=60)
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
    uv = [uv_seen(site.confinement), "pip", "install", "--python", python_in(env)]
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
    failing = False

    async def told(line: str) -> None:
        nonlocal failing
        # Why it failed is told by the second attempt.
        failing = failing or begins_error(line)
        if not failing:
            await site.say(Phase.BUILDING, line + "\n")

    without_builds = [*command, "--no-build"]
    status = await site.command(
        without_builds, told, cache=Layer(site.shared_cache), folder=plan.directory, environ=pristine_environ()
    )
    if status:
        await _install_with_builds(site, command, plan.source, plan.directory)


async def _install_with_builds(site: Site, command: list[str], what: str, folder: str) -> None:
    """With a private overlay of the package cache, because code of others runs."""
    status, lines = await site.run(command, Phase.BUILDING, cache=await _private_cache(site), folder=folder)
    if status:
        failure, message = uv_failure(lines, what)
        # What a build printed is in there, and addresses of the repository's choice: we ask ourselves.
        if failure is Failure.MEMBER and await _index_answers(site):
            failure = Failure.USER
        raise BuildFailedError(failure, message)


async def _index_answers(site: Site) -> bool:
    """Whether the package index gives what we ask of it, by nothing that a repository has had its hands on."""
    if site.python is None:
        raise AssertionError("the environment comes before what is done with it")
    script = (
        'printf jupyterlab | exec timeout 60 "$0" pip compile --quiet --no-cache --no-deps --no-build --python "$1" -'
    )
    argv = ["/bin/sh", "-c", script, uv_seen(site.confinement), site.python.executable]
    environ = {**uv_environ(site.confinement, site.shared_cache), **pristine_environ()}
    return await site.command(argv, _ignore, environ=environ) == 0


async def _ignore(line: str) -> None:
    logger.debug("%s", line)


async def compile_bytecode(site: Site, plan: Plan) -> None:
    """Compile what was installed, so that sessions start faster; a failure is of no consequence."""
    if not (plan.source or plan.install_package):
        return
    env = site.confinement.seen_at(ENV_PATH, _env(site))
    # The tests that packages bear are more than half of their files, and nobody imports them.
    script = (
        "import compileall, re, sysconfig\n"
        "if __name__ == '__main__':\n"
        "    skipped = re.compile(r'/tests?/|/testing/')\n"
        "    compileall.compile_dir(sysconfig.get_path('purelib'), quiet=2, rx=skipped, workers=0)"
    )

    # Large packages take long; what is not done in time, sessions do as they need it.
    await site.command(["/usr/bin/timeout", "5", python_in(env), "-I", "-c", script], _ignore)


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
    return await to_its_end(asyncio.to_thread(layers.make, site.confinement, upper, below))


def _env(site: Site) -> Path:
    if site.env is None:
        raise AssertionError("the environment comes before what is done with it")
    return site.env.upper
