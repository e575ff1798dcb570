"""Finds the configuration files of the repository in the current directory with repo2docker.

Writes a JSON object to the file that it is given.

Runs in the sandbox as a plain script, because it parses files that anybody may have written: it imports the standard
library and what repo2docker brings, and nothing of this project.
"""

import json
import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

# What is looked for; the parsed ones are handed on with their content.
_NAMES = (
    "apt.txt",
    "Dockerfile",
    "Project.toml",
    "JuliaProject.toml",
    "REQUIRE",
    "default.nix",
    "install.R",
    "DESCRIPTION",
    "environment.yml",
    "Pipfile",
    "Pipfile.lock",
    "requirements.txt",
    "runtime.txt",
    "postBuild",
    "start",
)

#: The image that a container would be made from, which is nobody's concern here.
_NO_IMAGE = "none"

#: Characters of what is written; whoever reads it takes no more.
_MAX_TEXT = 2 * 2**20


def main() -> None:
    """Write what was found, or ``{"error": …}`` with a sentence."""
    logging.disable(logging.CRITICAL)
    try:
        text = json.dumps(_find(), default=str)
    except Exception as error:  # noqa: BLE001 - whatever a hostile file provokes becomes one sentence
        said = " ".join(str(error).split())[:800]
        text = json.dumps({"error": said or type(error).__name__})
    if len(text) > _MAX_TEXT:
        text = json.dumps({"error": "they are too large"})
    Path(sys.argv[1]).write_text(text)


def _find() -> dict[str, Any]:
    from repo2docker import buildpacks

    order = (
        buildpacks.LegacyBinderDockerBuildPack,
        buildpacks.DockerBuildPack,
        buildpacks.JuliaProjectTomlBuildPack,
        buildpacks.JuliaRequireBuildPack,
        buildpacks.NixBuildPack,
        buildpacks.RBuildPack,
        buildpacks.CondaBuildPack,
        buildpacks.PipfileBuildPack,
        buildpacks.PythonBuildPack,
    )
    pack = next(
        (made for made in (kind(_NO_IMAGE) for kind in order) if made.detect()), None
    ) or buildpacks.PythonBuildPack(_NO_IMAGE)
    name = type(pack).__name__
    paths = {file: os.path.normpath(pack.binder_path(file)) for file in _NAMES}
    paths = {file: path for file, path in paths.items() if Path(path).is_file()}
    is_python = name in ("PythonBuildPack", "PipfileBuildPack")
    return {
        "buildpack": name,
        "paths": paths,
        "runtime": list(getattr(pack, "runtime", (None, None, None))),
        "python": str(pack.python_version if is_python else buildpacks.PythonBuildPack.major_pythons["3"]),
        "asked": is_python and _asked(pack),
        "is_package": name == "PythonBuildPack" and bool(pack._is_python_package()),  # noqa: SLF001 - it has no other
        "parsed": _parsed(paths),
    }


def _asked(pack: Any) -> bool:
    if type(pack).__name__ == "PipfileBuildPack":
        return _pipfile_names_python()
    return getattr(pack, "_python_version_source", "default") != "default"


def _pipfile_names_python() -> bool:
    texts = [Path(folder, name) for folder in ("binder", ".binder", ".") for name in ("Pipfile.lock", "Pipfile")]
    return any(
        "python_version" in path.read_text() or "python_full_version" in path.read_text()
        for path in texts
        if path.is_file()
    )


def _parsed(paths: dict[str, str]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    if "environment.yml" in paths:
        from ruamel.yaml import YAML  # only where it is needed: each import delays the build

        with Path(paths["environment.yml"]).open() as file:
            parsed["environment.yml"] = YAML(typ="safe", pure=True).load(file)
    if "Pipfile.lock" in paths:
        parsed["Pipfile.lock"] = json.loads(Path(paths["Pipfile.lock"]).read_text())
    elif "Pipfile" in paths:
        parsed["Pipfile"] = tomllib.loads(Path(paths["Pipfile"]).read_text())
    return parsed


if __name__ == "__main__":
    main()
