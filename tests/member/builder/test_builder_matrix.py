"""What repositories ask for, and what they get: real Git, real uv, real bubblewrap.

One repository of each kind is followed up to its session in ``tests/e2e/test_repositories.py``, and not built here too.
"""

import pytest
from builderkit import build, build_files, request_for, traces
from gitrepos import Files, add_commit, add_submodule, make_repo
from gitserver import GitServer, Mode

from contract.events import Phase
from member.builders.process.builder import ProcessBuilder

_SETUP = "from setuptools import setup; setup(name='mine', version='1', py_modules=['mine'])\n"
_CHECK = "#!/bin/sh\nset -e\n"


def _post(python: str) -> str:
    return f'{_CHECK}python -c "{python}"\n'


async def test_requirements_are_installed_and_the_second_build_finds_the_image(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    files = {"requirements.txt": "humanize==4.12.3\n", "postBuild": _post("import humanize; print('it', 'works')")}
    outcome = await build_files(builder, git_server, "requirements", files)
    assert outcome.failure is None, outcome.message
    assert "it works\n" in [event.message for event in outcome.events]
    assert outcome.events[0].phase == Phase.FETCHING
    assert await builder.has_image(outcome.image)
    again = await build_files(builder, git_server, "requirements", files)
    assert again.failure is None
    assert again.events == []
    listed = {image.image: image for image in await builder.images()}
    assert listed[outcome.image].size_bytes > 0
    assert not traces(builder._data_dir)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("in-binder", {"binder/requirements.txt": "six\n", "binder/postBuild": _post("import six"), "setup.py": "1/0"}),
        pytest.param(
            "in-dot-binder",
            {".binder/requirements.txt": "six\n", ".binder/postBuild": _post("import six")},
            marks=pytest.mark.slow,
        ),
        pytest.param("nothing", {"README.md": "nothing to install\n"}, marks=pytest.mark.slow),
        ("latin-name", {"requirements.txt": "six\n", "übung.ipynb": "{}", "postBuild": "test -e übung.ipynb\n"}),
        pytest.param("no-interpreter-line", {"postBuild": "python -c 'import jupyterlab'\n"}, marks=pytest.mark.slow),
        pytest.param(
            "python-script",
            {"postBuild": "#!/usr/bin/env python\nimport sys; assert sys.prefix == '/srv/env'\n"},
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_repositories_that_build(builder: ProcessBuilder, git_server: GitServer, name: str, files: Files) -> None:
    outcome = await build_files(builder, git_server, name, files)
    assert outcome.failure is None, outcome.message + outcome.log
    assert await builder.has_image(outcome.image)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "files"),
    [
        (
            "editable",
            {"requirements.txt": "-e .\n", "binder/requirements.txt": "-e .\n", "setup.py": _SETUP, "mine.py": ""},
        ),
        (
            "nested-file",
            {
                "binder/environment.yml": "dependencies:\n- pip:\n  - -r more.txt\n",
                "binder/more.txt": "six\n",
                "binder/postBuild": _post("import six"),
            },
        ),
        ("pipfile", {"Pipfile": '[packages]\nsix = "*"\n', "postBuild": _post("import six")}),
    ],
)
async def test_repositories_that_build_in_other_ways(
    builder: ProcessBuilder, git_server: GitServer, name: str, files: Files
) -> None:
    outcome = await build_files(builder, git_server, name, files)
    assert outcome.failure is None, outcome.message + outcome.log
    assert await builder.has_image(outcome.image)


@pytest.mark.parametrize("mode", ["smart", "old", "dumb"])
async def test_a_commit_that_no_ref_names_is_fetched_from_every_kind_of_server(
    builder: ProcessBuilder, git_server: GitServer, mode: Mode
) -> None:
    first = make_repo(git_server.root, f"history-{mode}", {"version.txt": "1", "postBuild": "grep 1 version.txt\n"})
    add_commit(git_server.root, f"history-{mode}", {"version.txt": "2"})
    outcome = await build(builder, request_for(git_server, f"history-{mode}", first, mode))
    assert outcome.failure is None, outcome.message + outcome.log


async def test_submodules_are_checked_out(builder: ProcessBuilder, git_server: GitServer) -> None:
    make_repo(git_server.root, "inner", {"inside.txt": "x"})
    make_repo(git_server.root, "outer", {"postBuild": "test -e sub/inside.txt\n"})
    commit = add_submodule(git_server.root, "outer", "sub", git_server.url("inner"))
    outcome = await build(builder, request_for(git_server, "outer", commit))
    assert outcome.failure is None, outcome.message + outcome.log


async def test_a_python_that_is_absent_is_replaced_by_the_nearest_with_a_warning(
    builder: ProcessBuilder, git_server: GitServer
) -> None:
    outcome = await build_files(builder, git_server, "old-python", {"runtime.txt": "python-3.8"})
    assert outcome.failure is None, outcome.message
    assert "asks for Python 3.8, which is not here; Python 3.10" in outcome.log
