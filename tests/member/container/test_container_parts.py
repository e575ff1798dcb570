"""What the container builder decides: which engine, what repo2docker is told, which images go, what a failure was."""

import http.server
import json
import signal
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builderkit import settings, settings_tree
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure
from contract.repos import RepoKey, repo_key
from member.app import CannotStartError, make_app
from member.builder_settings import ContainerBuilderSettings
from member.builders.base import BuildRequest, BuiltImage
from member.builders.choice import KINDS
from member.builders.container import endpoint as endpoints
from member.builders.container import groups, repo2docker
from member.builders.container.client import EngineClient
from member.builders.container.endpoint import Endpoint, NoEngineError, find
from member.builders.container.images import Disk, Held, UsedTimes, Watermarks, held, surplus
from member.builders.container.repo2docker import Engine, arguments, command
from member.builders.container.sessions import Sessions
from member.builders.container.words import why
from member.builders.lab_extension import extension_files
from member.confine.confinement import Confinement, Mode
from member.confine.limits import Limits
from member.core.images import image_name
from member.core.repo2docker_log import Repo2dockerLog
from member.hub.binder import image_command, session_environ
from member.hub.container import with_extension
from member.settings import MemberSettings
from providers.credentials import GitCredentials
from servicekit.config import ConfigError, load, parse

EXAMPLE = Path(__file__).parents[3] / "config" / "member-container.yaml"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine_at(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes something that answers whatever it is asked as an engine answers /version, at a socket."""
    servers: list[_Server] = []

    def start(name: str, component: str, **said: Any) -> str:
        body = json.dumps({"Version": "1", "Components": [{"Name": component}], **said}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

            def address_string(self) -> str:
                return "local"

        server = _Server(str(tmp_path / name), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"unix://{tmp_path / name}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_engine_is_the_one_that_is_set_or_the_first_that_answers(
    engine_at: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, podman = engine_at("d", "Engine"), engine_at("p", "Podman Engine")
    dead = f"unix://{tmp_path / 'nobody'}"
    monkeypatch.setattr(endpoints, "candidates", lambda _: [dead, podman, docker])

    def found(**given: Any) -> Endpoint:
        return find(ContainerBuilderSettings.model_validate(given), tmp_path)

    assert found() == Endpoint("podman", podman)
    assert found(engine="docker") == Endpoint("docker", docker)
    assert found(socket=docker) == Endpoint("docker", docker)
    with pytest.raises(NoEngineError, match=r"builder\.socket: .* is docker's, and builder\.engine is podman"):
        found(socket=docker, engine="podman")
    with pytest.raises(NoEngineError, match=r"builder\.socket: no container engine answers at .*nobody"):
        found(socket=dead)


def test_a_podman_without_a_socket_is_served_by_the_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "candidates", lambda _: [])
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(NoEngineError, match=r"builder\.engine: no Docker or Podman was found"):
        find(ContainerBuilderSettings(), Path("/data"))
    (programs / "podman").write_text("#!/bin/sh\n")
    (programs / "podman").chmod(0o755)
    assert find(ContainerBuilderSettings(), Path("/data")) == Endpoint(
        "podman", "unix:///data/engine/podman.sock", own=True
    )
    with pytest.raises(NoEngineError, match="no docker was found"):
        find(ContainerBuilderSettings(engine="docker"), Path("/data"))
    with pytest.raises(NoEngineError, match="too long a path"):
        find(ContainerBuilderSettings(), Path("/" + "d" * 120))


def test_all_processes_of_a_member_make_the_same_choice(tmp_path: Path) -> None:
    assert endpoints.read(tmp_path) is None
    chosen = Endpoint("podman", "unix:///run/x.sock", own=True)
    endpoints.write(chosen, tmp_path)
    assert endpoints.read(tmp_path) == chosen


async def test_a_member_without_an_engine_says_so(tmp_path: Path) -> None:
    given = settings_tree(tmp_path, builder={"kind": "container", "socket": f"unix://{tmp_path}/none"})
    tree = MemberSettings.model_validate({**given, "hub": {**given["hub"], "api_token": "token"}})
    with pytest.raises(CannotStartError, match=r"builder\.socket: no container engine answers"):
        await make_app(tree)


@pytest.mark.parametrize(
    ("info", "lacking"),
    [
        ({"MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True, "CgroupVersion": "1"}, ()),
        ({"MemoryLimit": True, "PidsLimit": False, "CpuCfsQuota": True, "CgroupVersion": "2"}, ("processes",)),
        # As Podman 4.3 answers.
        ({"MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True, "CgroupVersion": "2", "Rootless": True}, ()),
        ({"MemoryLimit": True, "CgroupVersion": "1", "Rootless": True}, ("memory", "processes", "CPU")),
        ({"CgroupVersion": "1", "SecurityOptions": ["name=rootless"]}, ("memory", "processes", "CPU")),
        ({"CpuCfsQuota": True, "host": {"cgroupControllers": ["cpuset", "cpu", "memory", "pids"]}}, ()),
        # What systemd delegates to a user by default; what Podman 4.3 answers a user on version 1.
        ({"CpuCfsQuota": True, "Rootless": True, "host": {"cgroupControllers": ["memory", "pids"]}}, ("CPU",)),
        ({"host": {"cgroupControllers": []}}, ("memory", "processes", "CPU")),
    ],
)
def test_what_an_engine_does_not_limit_is_known(
    info: dict[str, Any], lacking: tuple[str, ...], engine_at: Callable[..., str], tmp_path: Path
) -> None:
    socket = engine_at("p", "Podman Engine", **info)
    said = KINDS["container"].look(settings(tmp_path, builder={"kind": "container", "socket": socket}))
    assert [line.partition(" here:")[0] for line in said] == (
        [f"the container engine cannot limit {' or '.join(lacking)}"] if lacking else []
    )


def test_what_a_podman_cannot_limit_that_nobody_serves_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "candidates", lambda _: [])
    monkeypatch.setenv("PATH", str(tmp_path))
    given = settings(tmp_path, builder={"kind": "container", "engine": "podman"})
    look = KINDS["container"].look
    assert look(given) == (
        "builder.engine: no podman was found; install and start it, or say in builder.socket where it is",
    )
    host = {"host": {"cgroupVersion": "v2", "cgroupControllers": ["memory", "pids"]}}
    (tmp_path / "podman").write_text(f"#!/bin/sh\necho '{json.dumps(host)}'\n")
    (tmp_path / "podman").chmod(0o755)
    (said,) = look(given)
    assert said.startswith("the container engine cannot limit CPU here")
    (tmp_path / "podman").write_text("#!/bin/sh\nexit 125\n")
    (said,) = look(given)
    assert said.startswith("podman info does not say what it can limit")


REQUEST = BuildRequest(repo_key("https://git.example/o/r"), "https://git.example/o/r", "c" * 40, "localhost/p-x:1")


def test_repo2docker_gets_what_binderhub_gives_it_and_limits_where_the_engine_knows_them() -> None:
    own = ContainerBuilderSettings.model_validate({"memory": "1Gi", "cpu": 0.5, "appendix": "RUN true"})
    podman = arguments(REQUEST, Engine(Endpoint("podman", "unix:///p"), "manybinder-podman"), own, "/group")
    for wanted in (
        "--ref " + "c" * 40,
        "--image-name localhost/p-x:1 --no-clean --no-run --json-logs --user-name jovyan --user-id 1000",
        "--engine manybinder-podman",
        "--appendix RUN true",
        f"--PodmanEngine.extra_buildx_build_args=--memory={2**30}",
        "--PodmanEngine.extra_buildx_build_args=--cpu-quota=50000",
        "--PodmanEngine.extra_buildx_build_args=--cgroup-parent=/group",
    ):
        assert wanted in " ".join(podman)
    assert podman[-1] == REQUEST.repo_url
    assert any(word.endswith("git_only.py") for word in podman)
    record = replace(REQUEST, provider="zenodo", repo_url="10.5281/zenodo.1", commit="1")
    others = arguments(record, Engine(Endpoint("podman", "unix:///p"), "manybinder-podman"), own, "/group")
    assert not any(word.endswith("git_only.py") for word in others)
    docker = " ".join(arguments(REQUEST, Engine(Endpoint("docker", "unix:///d"), "docker"), own, "/group"))
    assert "--engine docker" in docker
    assert "--memory" not in docker


def test_a_build_asks_for_no_limit_that_the_engine_lacks_and_bears_a_mark_where_it_makes_no_groups() -> None:
    group = groups.new_group("a-member", systemd=False)
    engine = Engine(Endpoint("podman", "unix:///p"), "manybinder-podman", ("memory", "processes", "CPU"), groups=False)
    said = " ".join(arguments(REQUEST, engine, ContainerBuilderSettings(), group))
    assert not any(option in said for option in ("--memory", "--cpu", "--cgroup-parent"))
    assert f"--ulimit=locks={groups.mark(group)}:{groups.mark(group)}" in said


def test_processes_that_bear_a_mark_end_with_their_build_or_their_member() -> None:
    group, other = (groups.new_group("a-member-of-tests", systemd=False) for _ in range(2))
    marks = [groups.mark(name) for name in (group, other)]
    marked = [subprocess.Popen(["prlimit", f"--locks={mark}:{mark}", "sleep", "600"]) for mark in marks]
    try:
        for process, mark in zip(marked, marks, strict=True):
            limits = Path(f"/proc/{process.pid}/limits")
            while f" {mark} " not in limits.read_text():
                time.sleep(0.01)
        assert groups.end(group) == 1
        assert marked[0].wait(10) == -signal.SIGKILL
        assert groups.end_all("another-member") == 0
        assert marked[1].poll() is None
        assert groups.end_all("a-member-of-tests") == 1
        assert marked[1].wait(10) == -signal.SIGKILL
    finally:
        for process in marked:
            process.kill()
            process.wait()


async def test_which_engine_can_make_groups(engine_at: Callable[..., str]) -> None:
    for version, driver, rootless, can in (
        ("1", "cgroupfs", False, True),
        ("1", "cgroupfs", True, False),
        ("1", "systemd", True, False),
        ("2", "cgroupfs", True, False),
        ("2", "systemd", True, True),
    ):
        info = {"CgroupVersion": version, "CgroupDriver": driver, "Rootless": rootless}
        socket = engine_at(f"{version}{driver[0]}{rootless}", "Podman Engine", **info)
        assert (await EngineClient(Endpoint("podman", socket)).about()).groups is can


def test_credentials_reach_the_git_of_repo2docker_and_no_argument(tmp_path: Path) -> None:
    engine = Engine(Endpoint("podman", f"unix://{tmp_path}/podman.sock"), "manybinder-podman")
    own = ContainerBuilderSettings()
    credentials = GitCredentials("https://git.example", "username=someone\npassword=s3cr3t")
    argv = arguments(REQUEST, engine, own, "/group")
    limits = Limits(own.memory, own.processes, own.disk)
    for given_ in (credentials, None):
        place = tmp_path / str(given_ is None)
        place.mkdir()
        run = command(Confinement(Mode.NONE, "a test"), engine, place, argv, limits, {}, given_)
        invocation = run.invocation
        assert "s3cr3t" not in " ".join([*invocation.program, *invocation.hidden, *invocation.command])
        holding = {name for name, value in run.environ.items() if "s3cr3t" in value}
        assert holding == ({"GIT_CREDENTIAL_ENV"} if given_ else set())


def test_python_finds_our_package_where_paths_may_not_be_listed(tmp_path: Path) -> None:
    engine = Engine(Endpoint("podman", f"unix://{tmp_path}/podman.sock"), "manybinder-podman")
    package = Path(repo2docker.__file__).parents[2]
    made = command(Confinement(Mode.COPY, "a test", "bwrap"), engine, tmp_path, [], Limits(10**9, 100, 10**9), {})
    hidden = list(made.invocation.hidden)
    assert hidden[hidden.index(str(package.parent)) - 3 :][:4] == ["--perms", "0755", "--dir", str(package.parent)]
    assert str(package) in hidden


def test_what_the_member_finds_wrong_here_goes_before_what_a_log_says() -> None:
    log = Repo2dockerLog()
    log.read('{"message": "Error: building at STEP: while running runtime: exit status 137", "phase": "building"}')
    error = why(1, log, "")
    assert error.failure is Failure.USER
    assert "more memory than a build may" in str(error)
    error = why(1, log, "this member is short of disk")
    assert (error.failure, str(error)) == (Failure.MEMBER, "The build failed: this member is short of disk.")
    log = Repo2dockerLog()
    said = "Error during build: Command '['git', 'reset', '--hard', 'x']' died with <Signals.SIGXFSZ: 25>."
    log.read(json.dumps({"message": said, "phase": "failed"}))
    error = why(1, log, "")
    assert (error.failure, str(error)) == (
        Failure.USER,
        "The build was ended: it wrote more than it may into one file.",
    )
    assert str(why(3, Repo2dockerLog(), "")) == "The build failed: repo2docker ended with status 3."


def test_images_of_ours_are_told_from_others(tmp_path: Path) -> None:
    labels = {"org.manybinder.repo": "git.example/o/r", "org.manybinder.commit": "abc"}
    used = UsedTimes(tmp_path / "used")
    listed = [
        {"Id": "sha256:1", "RepoTags": ["localhost/p-x:1", "other/x:1"], "Labels": labels, "Size": 5, "Created": 7},
        {"Id": "sha256:2", "RepoTags": ["localhost/p-y:1"], "Labels": None, "Size": 5, "Created": 7},
        {"Id": "sha256:3", "RepoTags": None, "Labels": labels, "Size": 5, "Created": 7},
    ]
    (found,) = held(listed, "localhost/p-", used)
    assert found == Held(BuiltImage("localhost/p-x:1", RepoKey("git.example/o/r"), "abc", 5, 7.0), "1")
    used.touch("localhost/p-x:1")
    assert held(listed, "localhost/p-", used)[0].built.used_at > 10**9
    used.forget("localhost/p-x:1")
    assert held(listed, "localhost/p-", used)[0].built.used_at == 7


IMAGES = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 1000), st.booleans()), max_size=20)


@given(IMAGES, st.integers(1, 500), st.integers(0, 500), st.integers(1, 1000))
def test_images_go_by_watermarks_and_age_and_never_those_in_use(
    made: list[tuple[int, int, bool]], low: int, above: int, max_age: int
) -> None:
    now = 2000.0
    images = [
        Held(BuiltImage(str(n), RepoKey("r"), "c", size, now - age), str(n)) for n, (size, age, _) in enumerate(made)
    ]
    images.sort(key=lambda one: -one.built.used_at)
    in_use = {str(n) for n, (_, _, used) in enumerate(made) if used}
    doomed = surplus(images, in_use, Watermarks(low + above, low, False, max_age), Disk(0, 0), now)
    gone = {one.identifier for one in doomed}
    assert not gone & in_use
    assert {one.identifier for one in images if now - one.built.used_at > max_age} - in_use <= gone
    left = sum(one.built.size_bytes for one in images if one.identifier not in gone)
    free = [one for one in images if one.identifier not in in_use | gone]
    assert left <= low + above or not free
    # What goes by watermark was used before everything that stays.
    if doomed and free:
        assert max(one.built.used_at for one in doomed) <= min(one.built.used_at for one in free)


def test_relative_watermarks_look_at_the_disk() -> None:
    images = [Held(BuiltImage(str(n), RepoKey("r"), "c", 10, float(-n)), str(n)) for n in range(4)]
    marks = Watermarks(0.8, 0.65, True, 10**9)
    assert surplus(images, set(), marks, Disk(79, 100), 0) == []
    assert [one.identifier for one in surplus(images, set(), marks, Disk(85, 100), 0)] == ["3", "2"]


def test_the_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("/etc/manybinder", str(tmp_path))
    (tmp_path / "registry-password").write_text("word\n")
    path = tmp_path / "member.yaml"
    path.write_text(text)
    loaded = load(MemberSettings, path, environ={})
    assert loaded.registry is not None
    assert loaded.registry.password.get_secret_value() == "word"
    assert loaded.image_prefix == "registry.example.org/manybinder-"
    assert loaded.builder == ContainerBuilderSettings()
    assert loaded.builder.kind in KINDS
    for name, field in ContainerBuilderSettings.model_fields.items():
        shown = text.partition(f"{name}: ")[2].splitlines()[0].partition("#")[0].strip()
        if name not in ("kind", "socket"):
            assert (
                parse(
                    MemberSettings,
                    text.replace("  kind: container ", f"  kind: container\n  {name}: {shown} "),
                    "x",
                    {},
                ).builder
                == ContainerBuilderSettings()
            ), (name, field.default)


def test_bad_settings_are_told_with_their_paths(tmp_path: Path) -> None:
    def problems(builder: str, more: str = "") -> list[str]:
        text = (
            f"schema: 1\nname: m\nlisten: {{port: 1}}\npublic_url: http://x/\ndata_dir: {tmp_path}\n"
            f"hub: {{url: 'http://x/', public_url: 'http://x/'}}\nbuilder: {builder}\n{more}"
        )
        with pytest.raises(ConfigError) as caught:
            parse(MemberSettings, text, "x", {})
        return caught.value.problems

    assert problems("{kind: container, python: exact}") == ["builder.python: is not a setting (misspelt?)"]
    assert problems("{engine: docker}") == ["builder.engine: is not a setting (misspelt?)"]
    (said,) = problems("{kind: container, images_high: lots}")
    assert said.startswith("builder.images_high: 'lots' is neither a percentage nor a size")
    (said,) = problems("{kind: container, images_high: 50%, images_low: 60%}")
    assert "images_low: must not be above images_high" in said
    (said,) = problems("{kind: container, images_high: 50%, images_low: 1Gi}")
    assert "images_low: must be written as images_high is" in said
    (said,) = problems("{kind: process}", "registry: {url: 'https://r.example'}")
    assert "registry: is for builder.kind container, and builder.kind is process" in said
    (said,) = problems("{kind: container}", "registry: {url: 'https://r.example/path'}")
    assert said.startswith("registry.url: ")


def test_images_are_named_as_binderhub_names_them() -> None:
    name = image_name("r.example/manybinder-", repo_key("https://github.com/Org/Re_po"), "a" * 40)
    assert name.startswith("r.example/manybinder-")
    assert name.endswith(":" + "a" * 40)


def test_a_sessions_token_is_in_its_environment_alone() -> None:
    """The notebook token in the server's argv."""
    options = {"image": "i", "token": "secret", "repo_url": "u", "binder_request": "v2/gh/o/r/m"}
    environ = session_environ(options)
    assert environ == {"JUPYTER_TOKEN": "secret", "BINDER_REPO_URL": "u", "BINDER_REQUEST": "v2/gh/o/r/m"}
    argv = image_command(8888, "/user/x/", idle_s=600, allow_origin="https://a.example")
    assert "secret" not in " ".join(argv)
    for wanted in ("--ServerApp.base_url=/user/x/", "--NotebookApp.base_url=/user/x/", "--ServerApp.port=8888"):
        assert wanted in argv
    assert "--ServerApp.shutdown_no_activity_timeout=600" in argv
    assert "--ServerApp.allow_origin=https://a.example" in argv


def test_a_session_loads_the_extension_that_warns_of_its_end(tmp_path: Path) -> None:
    shown = ["/bin/sh", "-c", 'printf "%s|" "$@"', "jupyter", "--no-browser", "--a=b c"]
    argv = with_extension(shown, extension_files())
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"TMPDIR": str(tmp_path)})
    options = done.stdout.split("|")
    assert options[:2] == ["--no-browser", "--a=b c"]
    directory = Path(options[2].removeprefix("--LabApp.extra_labextensions_path="))
    (found,) = directory.iterdir()
    package = json.loads((found / "package.json").read_text())
    assert package["name"] == found.name
    script = (found / package["jupyterlab"]["_build"]["load"]).read_text()
    assert f'_JUPYTERLAB["{found.name}"]' in script
    # Where nothing can be written, the session starts all the same.
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"TMPDIR": str(tmp_path / "none")})
    assert done.stdout == "--no-browser|--a=b c|"


class _Engine:
    """Knows the containers that it is told of, in the words of Podman's and Docker's API."""

    def __init__(self, *containers: dict[str, Any]) -> None:
        self._containers = containers
        self.removed: list[str] = []

    async def containers(self, label: str, *, sizes: bool = False) -> Sequence[dict[str, Any]]:
        assert (label, sizes) == ("org.manybinder.session-of=member-1", True)
        return self._containers

    async def remove_container(self, identifier: str) -> None:
        self.removed.append(identifier)


async def test_a_session_goes_that_has_ended_or_written_too_much_in_its_volumes_too(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "file").write_bytes(b"x" * 3 * 2**20)
    volume = [{"Type": "volume", "Source": str(tmp_path / "volume"), "Destination": "/data"}]
    engine = _Engine(
        {"Id": "created", "State": "created", "SizeRw": None, "Mounts": None},
        {"Id": "small", "State": "running", "SizeRw": 2**20, "Mounts": []},
        {"Id": "ended", "State": "exited", "SizeRw": 0},
        {"Id": "large", "State": "running", "SizeRw": 5 * 2**20, "Mounts": []},
        {"Id": "both", "State": "running", "SizeRw": 2 * 2**20, "Mounts": volume},
    )
    section = {"kind": "container"}
    limits = settings(tmp_path, builder=section, sessions={"disk": "4Mi"})
    await Sessions(engine, limits).clean()  # type: ignore[arg-type]  # all that this asks of an engine
    assert engine.removed == ["ended", "large", "both"]
