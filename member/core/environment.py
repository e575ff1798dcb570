"""From the configuration files of a repository to a plan: what is installed with which Python, and what is run.

repo2docker's rules, as far as this builder can honour them; what it cannot, it refuses by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from member.core import conda, pipfile
from member.core.refusals import RepositoryError, UnsupportedError

_CANNOT = "which this member's process builder cannot"


@dataclass(frozen=True, slots=True)
class Detected:
    """What was found in a repository.

    ``buildpack`` is the name of repo2docker's class; ``python`` the version that it would use, ``asked`` whether the
    repository names it; ``paths`` leads from the names of configuration files that exist to their places (relative to
    the repository); ``parsed`` has the content of ``environment.yml``, ``Pipfile`` and ``Pipfile.lock``.
    """

    buildpack: str
    python: str
    asked: bool
    runtime: tuple[str, str, str]
    is_package: bool
    paths: Mapping[str, str]
    parsed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order.

    ``python``: the version to use, with ``asked`` as in :class:`Detected`.  ``requirements_file`` is installed first,
    or ``requirements`` (lines of a requirements file, to be read in ``directory``) which came from the file
    ``source``; then the repository as a package; then ``post_build`` runs.  ``start`` is run in each session.
    """

    python: str
    asked: bool
    requirements_file: str = ""
    requirements: tuple[str, ...] = ()
    source: str = ""
    directory: str = ""
    install_package: bool = False
    post_build: str = ""
    start: str = ""
    notes: tuple[str, ...] = ()


def read_detected(wire: Mapping[str, Any]) -> Detected:
    """Check what the detecting process has printed: it has read hostile files.

    Raises :class:`RepositoryError`, with its message if it found an error itself.
    """
    if isinstance(error := wire.get("error"), str):
        raise RepositoryError(f"The repository's configuration files cannot be used: {error[:800]}")
    try:
        runtime = tuple(str(part or "") for part in wire["runtime"])
        return Detected(
            buildpack=str(wire["buildpack"]),
            python=str(wire["python"])[:40],
            asked=bool(wire["asked"]),
            runtime=(runtime[0][:40], runtime[1][:40], runtime[2][:40]),
            is_package=bool(wire["is_package"]),
            paths={str(name): str(path) for name, path in wire["paths"].items()},
            parsed=dict(wire["parsed"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RepositoryError("The repository's configuration files cannot be read.") from error


def make_plan(found: Detected) -> Plan:
    """What to do; raises :class:`UnsupportedError` or :class:`RepositoryError`."""
    _refuse_foreign(found)
    paths = found.paths
    notes = []
    if found.runtime[2]:
        notes.append(f"Warning: the snapshot date {found.runtime[2]} in runtime.txt has no effect here.\n")
    common: dict[str, Any] = {"post_build": paths.get("postBuild", ""), "start": paths.get("start", "")}
    if found.buildpack == "CondaBuildPack":
        file = paths.get("environment.yml", "environment.yml")
        environment = conda.translate(found.parsed.get("environment.yml"), file)
        python = environment.python or found.python
        common |= {"python": python, "asked": bool(environment.python), "requirements": environment.requirements}
        common |= {"source": file, "directory": file.rpartition("/")[0]}
        return Plan(notes=tuple(notes), **common)
    common |= {"python": found.python, "asked": found.asked}
    if found.buildpack == "PipfileBuildPack":
        locked = "Pipfile.lock" in found.parsed
        file = paths.get("Pipfile.lock" if locked else "Pipfile", "Pipfile")
        lines = pipfile.requirements(found.parsed.get("Pipfile.lock" if locked else "Pipfile"), locked=locked)
        common |= {"requirements": lines, "source": file, "directory": file.rpartition("/")[0]}
        return Plan(notes=tuple(notes), **common)
    if file := paths.get("requirements.txt", ""):
        common |= {"requirements_file": file, "source": file}
    return Plan(install_package=found.is_package, notes=tuple(notes), **common)


def _refuse_foreign(found: Detected) -> None:
    file = next((found.paths[name] for name in _FOREIGN_FILES.get(found.buildpack, ()) if name in found.paths), "")
    match found.buildpack:
        case "DockerBuildPack" | "LegacyBinderDockerBuildPack":
            raise UnsupportedError(f"{file or 'Dockerfile'} asks for a container image", f"{_CANNOT} make")
        case "JuliaProjectTomlBuildPack" | "JuliaRequireBuildPack":
            raise UnsupportedError(f"{file or 'The repository'} asks for Julia", f"{_CANNOT} install")
        case "NixBuildPack":
            raise UnsupportedError(f"{file or 'default.nix'} asks for Nix", f"{_CANNOT} use")
        case "RBuildPack":
            raise UnsupportedError(f"{file or 'The repository'} asks for R", f"{_CANNOT} install")
        case "CondaBuildPack" | "PipfileBuildPack" | "PythonBuildPack":
            pass
        case other:
            raise UnsupportedError(f"The repository needs repo2docker's {other[:60]}", f"{_CANNOT} stand in for")
    if "install.R" in found.paths:
        raise UnsupportedError(f"{found.paths['install.R']} asks for R packages", f"{_CANNOT} install")
    if "apt.txt" in found.paths:
        raise UnsupportedError(f"{found.paths['apt.txt']} asks for Debian packages", f"{_CANNOT} install")


_FOREIGN_FILES = {
    "DockerBuildPack": ("Dockerfile",),
    "LegacyBinderDockerBuildPack": ("Dockerfile",),
    "JuliaProjectTomlBuildPack": ("Project.toml", "JuliaProject.toml"),
    "JuliaRequireBuildPack": ("REQUIRE",),
    "NixBuildPack": ("default.nix",),
    "RBuildPack": ("runtime.txt", "install.R", "DESCRIPTION"),
}
