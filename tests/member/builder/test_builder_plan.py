"""From configuration files to a plan: pure."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement, Requirement

from member.builders.lab_extension import write_extension
from member.core import conda, pipfile, pythons
from member.core.environment import Detected, make_plan, read_detected
from member.core.notebook import Notebook, passed_on, server_argv
from member.core.pythons import Python
from member.core.refusals import RepositoryError, UnsupportedError


def _found(buildpack: str = "PythonBuildPack", **changes: Any) -> Detected:
    plain: dict[str, Any] = {
        "python": "3.10",
        "asked": False,
        "runtime": ("", "", ""),
        "is_package": False,
        "paths": {},
        **changes,
    }
    return Detected(buildpack, **plain)


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("numpy", "numpy"),
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy =1.26", "numpy==1.26.*"),
        ("numpy 1.26.*", "numpy==1.26.*"),
        ("numpy>=1.26,<2", "numpy>=1.26,<2"),
        ("conda-forge::NumPy >= 1.26", "numpy>=1.26"),
        ("conda-forge/label/main::numpy", "numpy"),
        ("numpy=1.26.4=py310hb13e2d6_0", "numpy==1.26.4"),
        ("pytorch=2.3", "torch==2.3.*"),
        ("matplotlib-base", "matplotlib"),
    ],
)
def test_conda_specifications_that_pip_can_honour(spec: str, requirement: str) -> None:
    assert conda.translate({"dependencies": [spec]}).requirements == (requirement,)


@pytest.mark.parametrize("spec", ["gdal", "numpy>=1|<0.5", "r-base=4.1", "numpy[version='>=1']", "pytorch=2=cuda_1"])
def test_conda_specifications_that_it_cannot(spec: str) -> None:
    with pytest.raises(UnsupportedError, match="container builder can"):
        conda.translate({"dependencies": ["six", spec]})


@pytest.mark.parametrize(
    ("spec", "version"),
    [("python=3.11", "3.11"), ("python 3.11.4", "3.11.4"), ("python>=3.9", "3.9"), ("python", ""), ("python<3.12", "")],
)
def test_the_python_of_an_environment_yml(spec: str, version: str) -> None:
    assert conda.translate({"dependencies": [spec]}).python == version


@pytest.mark.parametrize("content", [None, [], "x", {"dependencies": "numpy"}, {"dependencies": [{"pip": "six"}]}])
def test_an_environment_yml_that_is_malformed(content: object) -> None:
    with pytest.raises(RepositoryError):
        conda.translate(content)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_no_environment_yml_does_worse_than_a_sentence(dependencies: object) -> None:
    lines: tuple[str, ...] = ()
    with contextlib.suppress(RepositoryError):
        lines = conda.translate({"dependencies": dependencies}).requirements
    assert all("\n" not in line for line in lines)


@given(st.sampled_from(["numpy", "pandas", "pytorch"]), st.text("0123456789.*<>=!~, abc|", max_size=12))
def test_a_translated_constraint_is_one_that_pip_reads(name: str, constraint: str) -> None:
    try:
        (line,) = conda.translate({"dependencies": [name + constraint]}).requirements
    except (RepositoryError, ValueError):
        return
    try:
        assert Requirement(line).name in ("numpy", "pandas", "torch")
    except InvalidRequirement:
        assert any(character.isdigit() for character in constraint)  # a version that nobody reads: uv will say so


def test_a_pipfile_and_its_lock() -> None:
    lock = {
        "default": {
            "six": {"version": "==1.17.0", "markers": "python_version >= '3'"},
            "mine": {"path": ".", "editable": True},
            "theirs": {"git": "https://git.example/x", "ref": "abc"},
            "extra": {"version": "*", "extras": ["a", "b"]},
        },
        "develop": {"six": {"version": "==1.0"}, "pytest": "*"},
    }
    assert pipfile.requirements(lock, locked=True) == (
        "six==1.17.0 ; python_version >= '3'",
        "-e .",
        "theirs @ git+https://git.example/x@abc",
        "extra[a,b]",
        "pytest",
    )
    assert pipfile.requirements({"packages": {"six": ">=1"}}, locked=False) == ("six>=1",)
    with pytest.raises(RepositoryError):
        pipfile.requirements({"packages": {"six": 3}}, locked=False)


def _python(*version: int) -> Python:
    major, minor, micro = version
    return Python((major, minor, micro), f"/usr/bin/python{major}.{minor}", "/usr")


PRESENT = [_python(3, 10, 13), _python(3, 11, 2), _python(3, 11, 7), _python(3, 13, 0)]


def test_the_python_that_is_asked_for_or_the_nearest() -> None:
    assert pythons.matching("3.11", PRESENT) == _python(3, 11, 7)
    assert pythons.matching("3.11.2", PRESENT) == _python(3, 11, 2)
    assert pythons.matching("3.12", PRESENT) is None
    assert pythons.nearest("3.12", PRESENT) == _python(3, 13, 0)
    assert pythons.nearest("3.7", PRESENT) == _python(3, 10, 13)
    assert "3.10.13, 3.11.2" in pythons.absence("3.12", PRESENT)
    with pytest.raises(UnsupportedError):
        pythons.check_wanted("2.7")
    with pytest.raises(UnsupportedError):
        pythons.check_wanted("latest")


@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1))
def test_no_python_is_nearer_than_the_nearest(minor: int, versions: list[tuple[int, int]]) -> None:
    present = [_python(3, *version) for version in versions]
    chosen = pythons.nearest(f"3.{minor}", present)
    usable = [python for python in present if python.version[:2] >= pythons.FLOOR]
    assert (chosen is None) == (not usable)
    if chosen:
        assert all(abs(chosen.version[1] - minor) <= abs(python.version[1] - minor) for python in usable)


def test_a_plan_in_the_order_of_repo2docker() -> None:
    paths = {"requirements.txt": "binder/requirements.txt", "postBuild": "binder/postBuild", "start": "binder/start"}
    plan = make_plan(_found(paths=paths, is_package=True, runtime=("python", "3.10", "2024-01-01")))
    assert plan.requirements_file == "binder/requirements.txt"
    assert (plan.post_build, plan.start, plan.install_package) == ("binder/postBuild", "binder/start", True)
    assert "2024-01-01" in plan.notes[0]


@pytest.mark.parametrize("name", ["DockerBuildPack", "NixBuildPack", "RBuildPack", "SomethingNew"])
def test_foreign_buildpacks_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError):
        make_plan(_found(name))


@given(
    st.recursive(
        st.none() | st.text() | st.booleans(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_what_the_detecting_process_says_is_not_trusted(value: Any) -> None:
    wire = {"buildpack": value, "python": value, "asked": value, "runtime": value, "is_package": value, "paths": value}
    for told in (wire, {"error": value}, {**wire, "paths": {}, "parsed": {"environment.yml": value}}):
        with contextlib.suppress(RepositoryError):
            make_plan(read_detected(told))


def test_the_servers_arguments_bear_no_secret_and_its_environment_nothing_of_the_hub() -> None:
    argv = server_argv(Notebook(8000, "/user/x/", "/srv/env", "/home/jovyan", 0.4, "https://a.example", start="start"))
    assert argv[0] == "/home/jovyan/start"
    assert "--ServerApp.allow_origin=https://a.example" in argv
    assert "--ServerApp.shutdown_no_activity_timeout=1" in argv
    assert not any("token" in argument.lower() for argument in argv)
    environ = {"JUPYTERHUB_API_TOKEN": "s", "JUPYTER_TOKEN": "t", "BINDER_REPO_URL": "u", "PATH": "/bin"}
    assert passed_on(environ) == {"JUPYTER_TOKEN": "t", "BINDER_REPO_URL": "u"}


def test_the_extension_that_warns_of_the_end_is_what_jupyterlab_looks_for(tmp_path: Path) -> None:
    write_extension(tmp_path, ends_at=1_800_000_000.4)
    (found,) = tmp_path.iterdir()
    package = json.loads((found / "package.json").read_text())
    assert package["name"] == found.name
    built = package["jupyterlab"]["_build"]
    script = (found / built["load"]).read_text()
    assert f'_JUPYTERLAB["{found.name}"]' in script
    assert 'const ENDS_AT = "1800000000";' in script
    assert "{{" not in script
    argv = server_argv(Notebook(8000, "/user/x/", "/srv/env", "/home/jovyan", 60, extensions="/srv/lab"))
    assert "--LabApp.extra_labextensions_path=/srv/lab" in argv
    assert not any("extra_labextensions" in item for item in server_argv(Notebook(1, "/", "/e", "/h", 60)))
