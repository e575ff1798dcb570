"""Whose failure a failed build is: not for a repository to say, whatever its commands print and its files hold."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.events import Failure, Phase
from member.core.repo2docker_log import Repo2dockerLog

_MEMBERS = [
    ["ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"],
    ["ERROR: error during connect: Get http://x: EOF"],
    ["Error: unable to connect to Podman socket: dial unix /run/podman.sock: connect: no such file or directory"],
    ["Cannot connect to Podman. Please verify your connection", "Error: unable to connect to Podman socket: refused"],
    ["ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"],
    ["ERROR: failed to push registry/x:1: connection refused"],
    ["ERROR: failed to solve: failed to push registry/x:1: 401"],
    ["ERROR: failed to build: failed to solve: failed to push registry/x:1: 401"],
    [
        "#3 ERROR: pulling from host registry-1.docker.io failed with status code [manifests 20.10]: 429 Too Many",
        "ERROR: failed to solve: docker:20.10: pulling from host registry-1.docker.io failed with status code"
        " [manifests 20.10]: 429 Too Many Requests",
    ],
    [
        "#2 resolve image config for docker-image://docker.io/docker/dockerfile:1.7",
        "ERROR: failed to build: failed to solve: nvidia/cuda:12.2: failed to resolve source metadata for"
        " docker.io/nvidia/cuda:12.2: unexpected status from HEAD request to https://registry-1.docker.io/v2/x:"
        " 429 Too Many Requests",
    ],
    [
        "ERROR: failed to solve: DeadlineExceeded: DeadlineExceeded: eclipse-temurin:17: failed to resolve source"
        ' metadata for docker.io/library/eclipse-temurin:17: failed to do request: Head "https://registry-1.docker.io/v2/x":'
        " dial tcp: lookup registry-1.docker.io: i/o timeout",
    ],
    [
        "Trying to pull docker.io/library/buildpack-deps:24.04...",
        "Error: creating build container: initializing source docker://buildpack-deps:24.04: pinging container registry"
        ' registry-1.docker.io: Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io on x:53:'
        " no such host",
    ],
]

_USERS = [
    ['ERROR: failed to solve: process "/bin/sh -c exit 1" did not complete successfully: exit code: 1'],
    ['Error: building at STEP "RUN exit 3": while running runtime: exit status 3'],
    # The registry is of the repository's choosing.
    [
        "Error: creating build container: initializing source docker://dead.example/x:latest: pinging container"
        ' registry dead.example: Get "https://dead.example/v2/": dial tcp: lookup dead.example on x:53: no such host'
    ],
    [
        "Error: creating build container: initializing source docker://localhost/none:1: pinging container registry"
        ' localhost: Get "https://localhost/v2/": dial tcp 127.0.0.1:443: connect: connection refused'
    ],
    [
        "Error: creating build container: initializing source docker://evil.example/x:latest: reading manifest latest"
        " in evil.example/x: toomanyrequests: docker://docker.io/x"
    ],
    [
        "ERROR: failed to solve: evil.example/x:1: failed to resolve source metadata for evil.example/x:1: unexpected"
        " status from HEAD request to https://evil.example/v2/docker.io/: 429 Too Many Requests"
    ],
    # What the author of a Dockerfile lets a variable say.
    ['ERROR: failed to solve: failed to process "${x:?}": x: write /var/lib/docker: no space left on device'],
    ['ERROR: failed to solve: failed to process "${x:?}": x: failed to push registry/x:1: connection refused'],
    # A frontend of the author's says what it likes.
    [
        "#2 resolve image config for docker-image://docker.io/someone/frontend:1",
        "ERROR: failed to solve: failed to push registry/x:1: 401",
    ],
    ["STEP 2: RUN x", 'Error: building at STEP "COPY a /b": checking on sources: no space left on device'],
]


def _line(message: str, phase: str | None = "building") -> str:
    return json.dumps({"message": message, "phase": phase} if phase else {"message": message})


def _log(*lines: str) -> Repo2dockerLog:
    log = Repo2dockerLog()
    log.read(_line("Picked Git content provider.\n", None))
    log.read(_line("Cloning into '/tmp/x'...\n", "fetching"))
    for line in lines:
        log.read(line)
    return log


def _engine(*lines: str) -> Repo2dockerLog:
    return _log(*map(_line, ["Using DockerBuildPack builder\n", *(f"{line}\n" for line in lines)]))


def _cut(text: str) -> list[str]:
    """The pieces that repo2docker makes of an engine's output: it ends lines at carriage returns too."""
    return [piece for piece in re.split(r"(?<=[\r\n])(?!\n)", text) if piece]


def test_lines_are_for_the_visitor_and_end_nothing() -> None:
    log = Repo2dockerLog()
    assert log.read(_line("x", "pushing")).phase is Phase.PUSHING
    ended = log.read(_line("no", "failed"))
    assert (ended.phase, ended.message) == (Phase.BUILDING, "no\n")
    assert log.read("plain").message == "plain\n"
    assert log.read("[1, 2]").message == "[1, 2]\n"


@pytest.mark.parametrize("lines", _MEMBERS, ids=lambda lines: lines[-1][:40])
def test_what_the_engine_and_its_registry_lack_is_the_members(lines: list[str]) -> None:
    assert _engine(*lines).failure is Failure.MEMBER


@pytest.mark.parametrize("lines", _USERS, ids=lambda lines: lines[-1][:40])
def test_what_a_repository_brings_about_is_the_users(lines: list[str]) -> None:
    assert _engine(*lines).failure is Failure.USER


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        ([_line("Error during build: The docker commandline client must be installed: x", "failed")], Failure.MEMBER),
        ([_line("Error during build: [Errno 28] No space left on device: '/tmp/x'", "failed")], Failure.MEMBER),
        ([_line("Error during build: 'environment.yml: [Errno 28] No space left on device'", "failed")], Failure.USER),
        (
            [
                _line("fatal: unable to access 'https://git.example/r/': Could not resolve host: x", "fetching"),
                _line("Error during build: Failed to clone repository from https://git.example/r (ref x).", "failed"),
            ],
            Failure.MEMBER,
        ),
        (
            [
                _line("fatal: unable to access 'https://x/r/': The requested URL returned error: 403", "fetching"),
                _line("Error during build: Failed to clone repository from https://x/r (ref x).", "failed"),
            ],
            Failure.USER,
        ),
        (
            # A server's words have their mark in front.
            [
                _line("remote: fatal: unable to access 'x': Could not resolve host", "fetching"),
                _line("fatal: repository 'https://x/r/' not found", "fetching"),
                _line("Error during build: Failed to clone repository from https://x/r (ref x).", "failed"),
            ],
            Failure.USER,
        ),
        (
            # The submodule is where the repository says.
            [
                _line("fatal: unable to access 'https://dead.example/': Could not resolve host: x", "fetching"),
                _line("Error during build: Command '['git', 'submodule', 'update']' returned non-zero", "failed"),
            ],
            Failure.USER,
        ),
        (["Error: unable to connect to Podman socket: printed by who knows"], Failure.USER),
        ([], Failure.USER),
    ],
)
def test_before_the_engine_it_is_repo2dockers_last_word(lines: list[str], failure: Failure) -> None:
    assert _log(*lines).failure is failure


def test_repo2dockers_last_word_goes_before_what_looks_like_the_engines() -> None:
    lines = [_line("Using DockerBuildPack builder\n"), _line(f"{_MEMBERS[0][0]}\n")]
    of_the_client = "Error during build: Command '['docker', 'buildx', 'build']' returned non-zero exit status 1."
    assert _log(*lines, _line(of_the_client, "failed")).failure is Failure.MEMBER
    # Of an engine that is asked through its API there is no client, and commands' output has no marks.
    through_api = "The command '/bin/sh -c echo' returned a non-zero code: 1"
    assert _log(*lines, _line(through_api, "failed")).failure is Failure.USER


_PIECES = st.sampled_from([*(line for lines in _MEMBERS for line in lines), "\r", "\n", "\r\n", '": ', "Killed", " "])
_HOSTILE = st.lists(_PIECES | st.text(max_size=8), max_size=12).map("".join)


@given(_HOSTILE, _HOSTILE, st.integers(1, 255))
@example(f"\r{_MEMBERS[0][0]}\r", f"x\r{_MEMBERS[-1][-1]}", 1)
def test_no_output_and_no_dockerfile_makes_a_step_that_failed_the_members(
    printed: str, dockerfile: str, status: int
) -> None:
    podman = f'{printed}\nError: building at STEP "RUN {dockerfile}": while running runtime: exit status {status}\n'
    told = _engine(*_cut(podman))
    assert told.failure is Failure.USER
    assert told.killed == (status == 137)
    # BuildKit begins each line that is printed, and quotes what it tells of the Dockerfile.
    steps = "".join(f"#12 0.123 {line}\n" for line in printed.split("\n"))
    quoted = json.dumps(f"/bin/sh -c {dockerfile}")
    buildkit = f"{steps}ERROR: failed to solve: process {quoted} did not complete successfully: exit code: {status}\n"
    told = _engine(*_cut(buildkit))
    assert told.failure is Failure.USER
    assert told.killed == (status == 137)


@given(_HOSTILE)
def test_no_file_of_a_repository_makes_a_copy_that_failed_the_members(name: str) -> None:
    said = f'Error: building at STEP "COPY {name} /x": checking on sources: copier: stat: "/{name}": no file\n'
    assert _engine(*_cut(said)).failure is Failure.USER


@given(st.lists(_HOSTILE, max_size=5), _HOSTILE)
def test_no_error_in_a_configuration_file_makes_it_the_members(fetched: list[str], text: str) -> None:
    # Messages of parsers begin with the parser's own words.
    lines = [_line(line, "fetching") for line in fetched]
    assert _log(*lines, _line(f"Error during build: while parsing {text}", "failed")).failure is Failure.USER


def test_the_reason_is_the_last_error() -> None:
    log = _engine("STEP 1", "error: of my own", 'Error: building at STEP "RUN x": exit status 3.', "")
    assert log.reason == 'Error: building at STEP "RUN x": exit status 3'
    assert Repo2dockerLog().reason == ""
