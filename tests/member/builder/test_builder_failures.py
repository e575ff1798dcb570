"""Builds that fail: one clear sentence, the right one to blame, and nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builderkit import (
    Outcome,
    build,
    build_files,
    own,
    request_for,
    running,
    settings,
    settings_tree,
    traces,
    until_gone,
    until_running,
)
from gitrepos import Files, add_commit, add_submodule, make_repo
from gitserver import GitServer

from contract.events import Failure
from member.builders.process import bases
from member.builders.process.builder import ProcessBuilder
from member.builders.process.store import Store
from member.confine.files import Lock, held
from member.confine.limits import Limits

#: As deep as the sandbox's reader bears it, and deeper than the member's does.
DEEP = "[" * 960 + "]" * 960


def _has_failed(outcome: Outcome, failure: Failure, *said: str) -> None:
    assert outcome.failure == failure, outcome.message
    for text in said:
        assert text in outcome.message, outcome.message
    assert "Traceback" not in outcome.message


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("apt", {"apt.txt": "cowsay\n"}, "apt.txt asks for Debian packages"),
        ("docker", {"Dockerfile": "FROM scratch\n"}, "Dockerfile asks for"),
        pytest.param(
            "install-r", {"install.R": "install.packages('x')\n"}, "install.R asks for R", marks=pytest.mark.slow
        ),
        pytest.param("description", {"DESCRIPTION": "Package: x\n"}, "DESCRIPTION asks for R", marks=pytest.mark.slow),
        pytest.param(
            "runtime-r", {"runtime.txt": "r-4.1-2023-01-01"}, "runtime.txt asks for R", marks=pytest.mark.slow
        ),
        ("julia", {"Project.toml": "[deps]\n"}, "Project.toml asks for Julia"),
        pytest.param("julia-old", {"REQUIRE": "julia 0.6\n"}, "Julia", marks=pytest.mark.slow),
        pytest.param("nix", {"default.nix": "{}\n"}, "default.nix asks for Nix", marks=pytest.mark.slow),
        ("conda", {"environment.yml": "dependencies:\n- six\n- gdal-from-nowhere\n"}, "gdal-from-nowhere"),
        pytest.param("python2", {"runtime.txt": "python-2.7"}, "Python 2.7", marks=pytest.mark.slow),
    ],
)
async def test_what_another_builder_can_do_is_refused_by_name(
    builder: ProcessBuilder, git_server: GitServer, name: str, files: Files, said: str
) -> None:
    outcome = await build_files(builder, git_server, name, files)
    _has_failed(outcome, Failure.USER, said, "container builder can")
    assert not traces(builder._data_dir)


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("unresolvable", {"requirements.txt": "six==0.0.0.1\n"}, "there is no version of six==0.0.0.1"),
        pytest.param(
            "unknown",
            {"requirements.txt": "this-package-does-not-exist-anywhere-2739\n"},
            "this-package-does-not",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "garbled",
            {"requirements.txt": "=== not a requirement\n"},
            "requirements.txt could not be installed",
            marks=pytest.mark.slow,
        ),
        ("post-fails", {"postBuild": "#!/bin/sh\necho it hurts\nexit 3\n"}, "postBuild failed with status 3"),
        ("not-a-mapping", {"environment.yml": "- a\n"}, "environment.yml"),
        ("yaml-in-itself", {"environment.yml": "dependencies: &a\n- *a\n"}, "configuration files cannot be used"),
        ("yaml-odd-keys", {"environment.yml": "? [a, b]\n: c\n"}, "configuration files cannot be used"),
        (
            "json-deep",
            {"Pipfile.lock": f'{{"_meta": {{}}, "default": {{"six": {{"version": {DEEP}}}}}}}'},
            "nested too deeply",
        ),
        ("too-much", {"environment.yml": f"dependencies:\n- {'x' * 3_000_000}\n"}, "they are too large"),
        ("broken-toml", {"pyproject.toml": "[project\n"}, "configuration files cannot be used: Expected"),
        pytest.param("both", {"binder/x": "", ".binder/x": ""}, "binder", marks=pytest.mark.slow),
        pytest.param(
            "broken-setup", {"setup.py": "raise SystemExit('no thanks')\n"}, "no thanks", marks=pytest.mark.slow
        ),
        pytest.param("odd-runtime", {"runtime.txt": "python-x.y"}, "", marks=pytest.mark.slow),
    ],
)
async def test_what_is_wrong_in_a_repository_is_told(
    builder: ProcessBuilder, git_server: GitServer, name: str, files: Files, said: str
) -> None:
    outcome = await build_files(builder, git_server, name, files)
    _has_failed(outcome, Failure.USER, said)
    assert not await builder.has_image(outcome.image)
    assert not traces(builder._data_dir)


async def test_a_repository_or_commit_that_is_not_there_is_the_users_failure(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    commit = make_repo(git_server.root, "there", {"a": "b"})
    _has_failed(await build(builder, request_for(git_server, "absent", commit)), Failure.USER, "absent.git")
    _has_failed(await build(builder, request_for(git_server, "there", "0" * 40)), Failure.USER, "000000")
    _has_failed(await build(builder, request_for(git_server, "there", commit, "private")), Failure.USER)


async def test_a_git_server_that_is_broken_is_not_the_users_failure(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    commit = make_repo(git_server.root, "there2", {"a": "b"})
    _has_failed(await build(builder, request_for(git_server, "there2", commit, "broken")), Failure.MEMBER, "500")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "pretends",
            {
                "setup.py": "raise SystemExit('error sending request for url (https://index.example/): connection"
                " refused; no space left on device')\n"
            },
        ),
        ("dead-address", {"requirements.txt": "six @ http://127.0.0.1:1/six-1.17.0-py2.py3-none-any.whl\n"}),
    ],
)
async def test_what_a_repository_prints_or_names_does_not_make_its_failure_the_members(
    builder: ProcessBuilder, git_server: GitServer, name: str, files: Files
) -> None:
    outcome = await build_files(builder, git_server, name, files)
    _has_failed(outcome, Failure.USER, "could not be installed", "refused")


async def test_a_submodule_that_is_nowhere_is_the_users_failure(builder: ProcessBuilder, git_server: GitServer) -> None:
    make_repo(git_server.root, "inner-dead", {"inside.txt": "x"})
    make_repo(git_server.root, "outer-dead", {"a": "b"})
    add_submodule(git_server.root, "outer-dead", "sub", git_server.url("inner-dead"))
    modules = '[submodule "sub"]\n\tpath = sub\n\turl = http://127.0.0.1:1/inner.git\n'
    commit = add_commit(git_server.root, "outer-dead", {".gitmodules": modules})
    _has_failed(await build(builder, request_for(git_server, "outer-dead", commit)), Failure.USER, "127.0.0.1:1")


@pytest.mark.slow
async def test_a_package_index_that_is_away_is_not_the_users_failure(
    builder: ProcessBuilder, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once, so that the environment that all begin with is there.
    assert (await build_files(builder, git_server, "before", {"README": "x"})).failure is None
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/simple")
    outcome = await build_files(builder, git_server, "indexless", {"requirements.txt": "a-package-nobody-has-cached\n"})
    _has_failed(outcome, Failure.MEMBER, "requirements.txt could not be installed")


async def test_a_line_of_ten_megabytes_is_cut(builder: ProcessBuilder, git_server: GitServer) -> None:
    script = "#!/bin/sh\nhead -c 10000000 /dev/zero | tr '\\0' x; echo; echo after\nprintf '\\377\\376 odd\\n'\n"
    outcome = await build_files(builder, git_server, "long-line", {"postBuild": script})
    assert outcome.failure is None, outcome.message
    assert max(len(event.message) for event in outcome.events) < 20_000
    assert "more bytes of this line are not shown" in outcome.log
    assert "after\n" in outcome.log
    assert "\ufffd\ufffd odd\n" in outcome.log


async def test_a_build_that_is_given_up_ends_all_its_processes(builder: ProcessBuilder, git_server: GitServer) -> None:
    script = own("#!/bin/sh\n(setsid sleep 98701 &)\necho begun\nexec sleep 98701\n")
    commit = make_repo(git_server.root, "sleepy", {"postBuild": script})
    events = builder.build(request_for(git_server, "sleepy", commit))
    async for event in events:
        if "begun" in event.message:
            break
    await until_running("98701")
    await events.aclose()
    assert not running("98701")
    assert not traces(builder._data_dir)


async def test_a_builder_that_ends_tells_its_readers(builder: ProcessBuilder, git_server: GitServer) -> None:
    commit = make_repo(git_server.root, "sleepy2", {"postBuild": own("#!/bin/sh\nexec sleep 98705\n")})
    reading = asyncio.create_task(build(builder, request_for(git_server, "sleepy2", commit)))
    await until_running("98705", 150)
    await builder.close()
    _has_failed(await reading, Failure.MEMBER)
    assert not running("98705")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "script", "limits", "said"),
    [
        ("slow", "sleep 98702", {"timeout": "6s"}, "it took longer than 6 seconds"),
        ("fork", "for i in $(seq 60); do sleep 98702 & done; wait", {"processes": 40}, "40 processes"),
        (
            "disk",
            "while :; do head -c 30000000 /dev/zero >> part$i; i=x$i; sleep 0.1; done",
            {"disk": "200Mi"},
            "to disk",
        ),
        (
            "memory",
            "for i in 1 2 3 4; do python -c 'import time; x = b\"x\" * 200_000_000; time.sleep(98702)' & done; wait",
            {"memory": "500Mi"},
            "500.0 MiB of memory",
        ),
    ],
)
async def test_a_build_that_takes_too_much_is_ended(
    data_dir: Path,
    cache_dir: Path,
    builder: ProcessBuilder,
    git_server: GitServer,
    name: str,
    script: str,
    limits: dict[str, str],
    said: str,
) -> None:
    section = {"cache_dir": str(cache_dir), "confine": "required", "python_downloads": False, **limits}
    limited = ProcessBuilder(settings(data_dir, builder=section))
    await limited.start()
    outcome = await build_files(limited, git_server, f"greedy-{name}", {"postBuild": own(f"#!/bin/sh\n{script}\n")})
    await limited.close()
    _has_failed(outcome, Failure.USER, "The build was ended", said)
    await until_gone("98702")
    assert not traces(data_dir)


async def test_a_process_that_asks_for_too_much_memory_at_once_is_refused_it(
    data_dir: Path, cache_dir: Path, git_server: GitServer
) -> None:
    section = {"cache_dir": str(cache_dir), "confine": "required", "memory": "1Gi"}
    limited = ProcessBuilder(settings(data_dir, builder=section))
    await limited.start()
    outcome = await build_files(
        limited, git_server, "hog", {"postBuild": "#!/bin/sh\npython -c 'b\"x\" * 3 * 2**30'\n"}
    )
    await limited.close()
    _has_failed(outcome, Failure.USER, "postBuild failed")
    assert "MemoryError" in outcome.log


_BUILD_SCRIPT = """
import asyncio, sys
from pathlib import Path
from contract.repos import repo_key
from member.builders.base import BuildRequest
from member.builders.process import bases
from member.builders.process.builder import ProcessBuilder
from member.builders.process.store import Store
from member.confine.files import Lock, held
from member.confine.limits import Limits
from member.settings import MemberSettings
import json
async def main():
    builder = ProcessBuilder(MemberSettings.model_validate(json.loads(sys.argv[1])))
    await builder.start()
    async for event in builder.build(BuildRequest(repo_key('http://x/y'), sys.argv[2], sys.argv[3], 'killed')):
        print(event.message, end='', flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("confine", ["required", pytest.param("off", marks=pytest.mark.slow)])
async def test_a_member_that_is_killed_takes_its_build_with_it_and_the_next_start_cleans_up(
    data_dir: Path, cache_dir: Path, git_server: GitServer, confine: str
) -> None:
    script = own("#!/bin/sh\n(setsid sleep 98703 &)\necho begun\nexec sleep 98703\n")
    commit = make_repo(git_server.root, "killed", {"postBuild": script})
    tree = settings_tree(data_dir, builder={"cache_dir": str(cache_dir), "confine": confine, "python_downloads": False})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _BUILD_SCRIPT,
        json.dumps(tree),
        git_server.url("killed"),
        commit,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(150):
        while b"begun" not in (line := await process.stdout.readline()):
            assert line, "the build ended early"
    await until_running("98703")
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await until_gone("98703")
    assert traces(data_dir)
    builder = ProcessBuilder(settings(data_dir, builder=tree["builder"]))
    await builder.start()
    assert not await builder.has_image("killed")
    await builder.close()
    assert not [trace for trace in traces(data_dir) if "killed" in trace]


async def test_a_builder_that_ends_as_a_build_makes_its_directory_leaves_none(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    commit = make_repo(git_server.root, "cancelled-early", {"a": "b"})
    task = asyncio.create_task(build(builder, request_for(git_server, "cancelled-early", commit)))
    async with asyncio.timeout(60):
        while not traces(builder._data_dir):
            await asyncio.sleep(0)
            time.sleep(0.002)  # noqa: ASYNC251 - threads go on meanwhile, and the event loop does not
    await builder.close()
    _has_failed(await task, Failure.MEMBER, "ending")
    assert not traces(builder._data_dir)


async def test_an_outdated_image_that_a_session_uses_is_not_told_to_be_the_new_one(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    commit = make_repo(git_server.root, "outdated", {"a": "b"})
    request = request_for(git_server, "outdated", commit)
    assert (await build(builder, request)).failure is None
    directory = Store(builder._data_dir).directory(request.image)
    meta = json.loads((directory / "meta.json").read_text())
    (directory / "meta.json").write_text(json.dumps(meta | {"python_executable": "/gone/python"}))
    session = Lock.take(directory / "use.lock", shared=True)
    assert session
    with held(session):
        _has_failed(await build(builder, request), Failure.MEMBER, "out of date")
    assert (await build(builder, request)).failure is None
    assert await builder.has_image(request.image)
    assert not traces(builder._data_dir)


async def test_a_base_environment_that_takes_too_long_is_the_members_failure(
    tmp_path: Path, cache_dir: Path, git_server: GitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "_LIMITS", Limits(2**30, 1000, 2**30, deadline_s=0.01))
    builder = ProcessBuilder(settings(tmp_path, builder={"cache_dir": str(cache_dir), "python_downloads": False}))
    await builder.start()
    try:
        outcome = await build_files(builder, git_server, "no-base", {"a": "b"})
    finally:
        await builder.close()
    _has_failed(outcome, Failure.MEMBER, "JupyterLab could not be installed: it took longer")


async def test_a_base_environment_stays_for_as_long_as_a_build_with_it_may_take(tmp_path: Path) -> None:
    builder = ProcessBuilder(settings(tmp_path, builder={"timeout": "2h", "confine": "off"}))
    await builder.start()
    await builder.close()
    kept, old = Store(tmp_path).base("kept"), Store(tmp_path).base("old")
    for base, age_s in ((kept, 7100), (old, 4 * 3600)):
        base.mkdir()
        (base / "used").touch()
        os.utime(base / "used", (time.time() - age_s,) * 2)
    await builder.clean()
    assert kept.is_dir()
    assert not old.exists()
