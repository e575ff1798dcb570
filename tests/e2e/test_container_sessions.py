"""Repositories of each kind on the container builder with a real Podman, and what holds their sessions in bounds."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import yaml
from containerkit import DOCKERFILE, Podman, why_not
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook
from repomatrix import DISK, ENVIRONMENTS, FILES, HUGE_ROW, Row

from contract.events import Failure, Phase
from member.builders.container import endpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it works"),
]

#: What all Dockerfiles of repo2docker's begin with.
_BASE_IMAGE = "docker.io/library/buildpack-deps:24.04"


@pytest.fixture(scope="module")
def in_containers(engine: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A gateway and one member whose sessions may take little, and which serves its Podman itself."""
    config = tmp_path_factory.mktemp("config") / "members.yaml"
    builder: dict[str, Any] = {"engine": "podman", "memory": "1Gi", "disk": DISK, "session_cpu": 0.5}
    if any(endpoint.identify(url)[0] for url in endpoint.candidates(os.environ)):
        # This machine has one, which would be taken.
        builder["socket"] = engine.socket
    settings = {
        "builder": builder,
        "sessions": {"memory": "400Mi", "processes": 200, "disk": "60Mi", "max_age": "2h"},
    }
    config.write_text(yaml.safe_dump(settings))
    arguments = ("--builder", "container", "--members", "1", "--member-config", str(config))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in engine.environ.items():
            patched.setenv(name, value)
        federation = Federation.start(tmp_path_factory.mktemp("up"), *arguments)
    yield federation
    federation.stop()


@pytest.fixture(scope="module")
def without_base(engine: Podman) -> str:
    """Why repo2docker's own Dockerfiles cannot be built here; "" if they can."""
    try:
        engine.run("pull", _BASE_IMAGE)
    except AssertionError as error:
        return f"repo2docker's base image cannot be pulled here: {error}"
    return ""


async def _session(federation: Federation, http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    return ready(await federation.launch(http, git_spec(url), 800))


def _running(engine: Podman) -> list[str]:
    return engine.run("ps", "--format", "{{.Names}}").split()


async def _check(federation: Federation, http: aiohttp.ClientSession, url: str, row: Row) -> None:
    fields = await _session(federation, http, url)
    assert await Notebook(http, fields["url"], fields["token"]).run(row.check) == "well\n"
    async with http.post(f"{fields['url']}api/shutdown", headers={"Authorization": f"token {fields['token']}"}):
        pass


@pytest.mark.parametrize("row", FILES, ids=lambda row: str(row.name))
async def test_a_dockerfile_brings_a_session(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer, row: Row
) -> None:
    # Of several configuration files, only a Dockerfile counts.
    more = {"Dockerfile": DOCKERFILE, "requirements.txt": "there-is-no-such-package\n"}
    await _check(in_containers, http, row.make(git_server, **more), row)


async def test_a_nested_dockerfile_brings_a_session(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    row = Row("nested-dockerfile", {"binder/Dockerfile": DOCKERFILE, "Dockerfile": "FROM scratch\n"})
    await _check(in_containers, http, row.make(git_server), row)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("huge", {**HUGE_ROW.files, "Dockerfile": f"{DOCKERFILE}RUN sleep 120\n"}), HUGE_ROW.refused),
        (Row("no-instruction", {"Dockerfile": "FROM scratch\nNONSENSE\n"}), "NONSENSE"),
        (Row("no-such-image", {"Dockerfile": "FROM localhost/none:1\n"}), "localhost/none:1"),
        # Whatever it prints: the failure is its own, and no other member is tried.
        (
            Row(
                "pretending",
                {
                    "Dockerfile": f"FROM {DOCKERFILE.split()[1]}\nRUN echo 'Error: unable to connect to Podman socket:"
                    " no space left on device'; exit 3 # toomanyrequests\n"
                },
            ),
            "exit status 3",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_what_cannot_be_built_is_refused(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer, row: Row, said: str
) -> None:
    events = await in_containers.launch(http, git_spec(row.make(git_server, data="x")), 800)
    assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.USER), events[-1].message
    assert said in events[-1].message


async def test_a_base_image_that_cannot_be_had_is_the_members_failure(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer, without_base: str
) -> None:
    row = Row("baseless", {"requirements.txt": "six\n"}, "import six; print('well')")
    if not without_base:
        await _check(in_containers, http, row.make(git_server), row)
        return
    events = await in_containers.launch(http, git_spec(row.make(git_server)), 800)
    assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.MEMBER), events[-1].message
    assert "buildpack-deps" in events[-1].message


@pytest.mark.parametrize("row", [*ENVIRONMENTS, FILES[-1]], ids=lambda row: str(row.name))
async def test_an_environment_brings_a_session(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer, without_base: str, row: Row
) -> None:
    if without_base:
        pytest.skip(without_base)
    await _check(in_containers, http, row.make(git_server), row)


async def test_a_session_takes_no_more_than_it_may(
    in_containers: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "greedy", {"Dockerfile": DOCKERFILE})
    fields = await _session(in_containers, http, git_server.url("greedy"))
    notebook = Notebook(http, fields["url"], fields["token"])
    # The extension that warns of the session's end is there.
    headers = {"Authorization": f"token {fields['token']}"}
    async with http.get(f"{fields['url']}lab", headers=headers, raise_for_status=True) as response:
        assert '"name": "manybinder-session"' in await response.text()
    processes = (
        "import subprocess\n"
        "started = []\n"
        "try:\n"
        "    for _ in range(400):\n"
        "        started.append(subprocess.Popen(['sleep', '60']))\n"
        "except OSError:\n"
        "    print('refused', 20 < len(started) < 200)\n"
        "for one in started:\n"
        "    one.kill(); one.wait()\n"
    )
    assert await notebook.run(processes) == "refused True\n"
    cpu = (
        "import os, time\n"
        "begun, children = time.monotonic(), []\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        while time.monotonic() < begun + 6: pass\n"
        "        os._exit(0)\n"
        "    children.append(child)\n"
        "usages = [os.wait4(child, 0)[2] for child in children]\n"
        "used = sum(usage.ru_utime + usage.ru_stime for usage in usages)\n"
        # Half a core, and what the engine's period of a tenth of a second lets through.
        "print(used < 0.7 * (time.monotonic() - begun))\n"
    )
    assert await notebook.run(cpu, 120) == "True\n"


async def test_sessions_that_have_written_too_much_end(
    in_containers: Federation, engine: Podman, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    # A volume of the image's is no part of its container.
    volume = DOCKERFILE.replace("USER 1000", "RUN mkdir /data && chown 1000 /data\nVOLUME /data\nUSER 1000")
    make_repo(git_server.root, "writing", {"Dockerfile": volume})
    names = set()
    for place in ("/home/jovyan", "/data"):
        before = set(_running(engine))
        fields = await _session(in_containers, http, git_server.url("writing"))
        (name,) = set(_running(engine)) - before
        names.add(name)
        notebook = Notebook(http, fields["url"], fields["token"])
        assert await notebook.run(f"print(open('{place}/much', 'wb').write(bytes(80 * 2**20)))") == f"{80 * 2**20}\n"
    # The member looks once a minute.
    async with asyncio.timeout(400):
        while names & set(_running(engine)):
            await asyncio.sleep(1)
    # Each is removed a moment after its end, and its volumes with it.
    async with asyncio.timeout(200):
        while engine.run("volume", "ls", "--quiet"):
            await asyncio.sleep(1)
