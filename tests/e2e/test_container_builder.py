"""The container builder on a real Podman, with a real registry: from a Dockerfile to a session in bounds."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml
from builderkit import Outcome, build, settings
from containerkit import DOCKERFILE, Podman, why_not
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

from contract.events import Failure
from contract.repos import repo_key
from member.builders.base import BuildRequest
from member.builders.container.builder import ContainerBuilder
from member.core.images import image_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it works"),
]


@contextlib.asynccontextmanager
async def builder(
    engine: Podman,
    data_dir: Path,
    registry: str | None = None,
    read_from: tuple[str, ...] = (),
    providers: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[ContainerBuilder]:
    section = {"kind": "container", "socket": engine.socket, "memory": "1Gi", **changes}
    others = [{"url": f"http://{other}"} for other in read_from]
    sections = {"registry": {"url": f"http://{registry}", "read_from": others}} if registry else {}
    made = ContainerBuilder(settings(data_dir, builder=section, providers=providers or {}, **sections))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def request(engine: Podman, server: GitServer, name: str, dockerfile: str = DOCKERFILE) -> BuildRequest:
    commit = make_repo(server.root, name, {"Dockerfile": dockerfile, "data.txt": name})
    key = repo_key(f"http://git.example/{name}")
    return BuildRequest(key, server.url(name), commit, image_name(f"{engine.registry}/manybinder-", key, commit))


async def built(made: ContainerBuilder, what: BuildRequest) -> Outcome:
    outcome = await build(made, what)
    assert outcome.failure is None, outcome.log
    return outcome


async def test_an_image_is_built_pushed_found_again_and_cleaned_up(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    what = request(engine, git_server, "shared")
    async with builder(engine, tmp_path / "one", engine.registry) as one:
        assert all(check.ok for check in await one.checks())
        first = await built(one, what)
        assert "STEP 1" in first.log
        (image,) = await one.images()
        assert (image.repo, image.commit, image.registry) == (what.repo, what.commit, engine.registry)
        assert image.size_bytes > 10**8
        # The engine has lost it: the registry has not.
        engine.run("rmi", "--force", what.image)
        assert not await one.has_image(what.image)
        again = await built(one, what)
        assert "STEP 1" not in again.log
        assert "pulling it" in again.log
        assert await one.has_image(what.image)
    # Above the high watermark, what was not used for the longest time goes, and nothing that a container uses.
    used = engine.run("create", what.image, "true").strip()
    async with builder(engine, tmp_path / "two", engine.registry, images_high="1Mi", images_low="1Ki") as two:
        await two.clean()
        assert await two.has_image(what.image)
        engine.run("rm", used)
        await two.clean()
        assert not await two.has_image(what.image)
        assert await two.images() == []


async def test_what_another_member_has_pushed_is_used_and_not_built(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    theirs = request(engine, git_server, "of-another")
    async with builder(engine, tmp_path / "one", engine.registry) as one:
        await built(one, theirs)
    # Their machine is not ours.
    engine.run("rmi", "--force", theirs.image)
    ours = image_name(f"{engine.other_registry}/manybinder-", theirs.repo, theirs.commit)
    what = replace(theirs, image=ours)
    async with builder(engine, tmp_path / "two", engine.other_registry, ("127.0.0.1:1", engine.registry)) as two:
        outcome = await built(two, what)
        assert f"The image is at {engine.registry}; pulling it" in outcome.log
        assert "STEP" not in outcome.log
        assert await two.has_image(ours)
        assert all(check.ok for check in await two.checks())
        await two.clean()
        registries = {image.image: image.registry for image in await two.images()}
        assert registries[ours] == engine.other_registry


async def test_nothing_is_built_while_the_registry_cannot_say(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    what = request(engine, git_server, "unknown")
    async with builder(engine, tmp_path, "127.0.0.1:1") as made:
        outcome = await build(made, what)
        assert outcome.failure is Failure.MEMBER
        assert "Nothing can be built here now: the registry 127.0.0.1:1 does not answer" in outcome.message
        assert "STEP" not in outcome.log
        assert [check.service for check in await made.checks() if not check.ok] == ["Docker registry"]


@pytest.mark.parametrize(
    ("name", "dockerfile", "said"),
    [
        ("failing", DOCKERFILE + "RUN echo so it goes; exit 3\n", "The build failed"),
        ("hungry", DOCKERFILE + "RUN python3 -c 'b = bytearray(3 * 2**30)'\n", "memory"),
    ],
)
async def test_builds_that_fail_say_why(
    engine: Podman, git_server: GitServer, tmp_path: Path, name: str, dockerfile: str, said: str
) -> None:
    async with builder(engine, tmp_path, memory="512Mi") as made:
        outcome = await build(made, request(engine, git_server, name, dockerfile))
        assert outcome.failure is Failure.USER, outcome.log
        assert said in outcome.message


async def test_a_link_to_this_machines_files_leads_nowhere(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the-members-secret")
    what = request(engine, git_server, "linking")
    commit = make_repo(git_server.root, "linking", {"environment.yml": b"", "README": "x"})
    place = tmp_path / "clone"
    await _git("clone", "-q", str(git_server.root / "linking.git"), str(place))
    (place / "environment.yml").unlink()
    (place / "environment.yml").symlink_to(secret)
    await _git("-C", str(place), "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qam", "link")
    await _git("-C", str(place), "push", "-q", "origin", "HEAD")
    process = await asyncio.create_subprocess_exec(
        *("git", "-C", str(place), "rev-parse", "HEAD"), stdout=asyncio.subprocess.PIPE
    )
    commit = (await process.communicate())[0].decode().strip()
    async with builder(engine, tmp_path / "data") as made:
        outcome = await build(made, BuildRequest(what.repo, what.repo_url, commit, what.image + "l"))
    assert outcome.failure is not None
    assert "the-members-secret" not in outcome.log + outcome.message


async def test_a_private_repository_is_built_and_its_password_is_not_in_the_image(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    secret = "s3cr3t-pa55word"
    nosy = f"{DOCKERFILE}RUN env; cat .git/config; git ls-remote origin || true\n"
    public = request(engine, git_server, "private-one", nosy)
    what = replace(public, repo_url=git_server.url("private-one", "private"), provider="git")
    entry = {"url": f"http://127.0.0.1:{git_server.port}", "username": "someone", "password": secret}
    git_server.password = f"someone:{secret}"
    try:
        async with builder(engine, tmp_path / "without") as made:
            outcome = await build(made, what)
            assert outcome.failure is Failure.USER, outcome.log
        async with builder(engine, tmp_path / "with", providers={"git": {"git_credentials": [entry]}}) as made:
            outcome = await built(made, what)
    finally:
        git_server.password = ""
    assert "STEP" in outcome.log
    assert secret not in outcome.log
    assert secret not in engine.run("history", "--no-trunc", what.image)
    look = f"cat data.txt; grep -rlFa {secret} /home /etc /tmp; env | grep {secret} || echo it is nowhere"
    assert engine.run("run", "--rm", "--network=none", what.image, "sh", "-c", look) == "private-oneit is nowhere\n"


async def test_a_build_that_is_given_up_ends_its_container_and_so_does_a_new_start(
    engine: Podman, git_server: GitServer, tmp_path: Path
) -> None:
    marker = f"7{os.getpid()}5"
    what = request(engine, git_server, "endless", DOCKERFILE + f"RUN sleep {marker}\n")
    async with builder(engine, tmp_path) as made:
        task = asyncio.create_task(built(made, what))
        await _until(lambda: bool(_sleeping(marker)))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await _until(lambda: not _sleeping(marker))
    async with builder(engine, tmp_path) as made:
        task = asyncio.create_task(built(made, what))
        await _until(lambda: bool(_sleeping(marker)))
        # A member that was killed comes again.
        async with builder(engine, tmp_path):
            await _until(lambda: not _sleeping(marker))
        await asyncio.gather(task, return_exceptions=True)


async def test_a_session_runs_in_bounds_and_ends_with_its_federation(
    engine: Podman, git_server: GitServer, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    config = tmp_path / "members.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "builder": {"socket": engine.socket, "session_cpu": 0.5},
                "registry": {"url": f"http://{engine.registry}"},
                "sessions": {"memory": "400Mi", "processes": 200},
            }
        )
    )
    make_repo(git_server.root, "bounded", {"Dockerfile": DOCKERFILE, "data.txt": "some data"})
    make_repo(git_server.root, "without", {"Dockerfile": "FROM localhost/manybinder-test-base:1\n"})
    arguments = ("--builder", "container", "--members", "1", "--member-config", str(config))
    federation = Federation.start(tmp_path / "up", *arguments)
    try:
        started = ready(await federation.launch(http, git_spec(git_server.url("bounded")), 400))
        (member,) = (await federation.members(http)).values()
        assert member["confined"]
        notebook = Notebook(http, started["url"], started["token"])
        code = (
            "import os\n"
            "print(os.getuid(), open('data.txt').read(), [name for name in os.environ if 'HUB' in name])\n"
            "status = open('/proc/self/status').read()\n"
            "print([line.split()[1] for line in status.splitlines() if line.startswith(('CapEff', 'NoNewPrivs'))])\n"
            "print(started := os.environ['BINDER_REPO_URL'])\n"
        )
        shown = await notebook.run(code)
        assert "1000 some data []" in shown
        assert "['0000000000000000', '1']" in shown
        assert git_server.url("bounded") in shown
        (name,) = engine.run("ps", "--format", "{{.Names}}").split()
        limits = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuQuota}} {{json .Args}}"
        told = engine.run("inspect", "--format", limits, name)
        assert told.startswith(f"{400 * 2**20} 200 50000 ")
        assert started["token"] not in told
        # It takes what it may not have: the kernel ends it, and nothing else.
        hog = "b = []\nfor _ in range(100):\n    b.append(bytearray(20 * 2**20))\nprint('all of it')"
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, AssertionError):
            assert "all of it" not in await notebook.run(hog, 30)
        assert await notebook.run("print(6 * 7)") == "42\n"
        # An image without Jupyter says so.
        events = await federation.launch(http, git_spec(git_server.url("without")), 400)
        assert "ended while it started" in "".join(event.message for event in events)
    finally:
        federation.stop()
    assert engine.run("ps", "--all", "--quiet") == ""


async def _git(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("git", *arguments)
    assert await process.wait() == 0


def _sleeping(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cmdline() == ["sleep", marker]:
                found.append(process)
    return found


async def _until(condition: Any, deadline_s: float = 120) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
