"""Packages from npm, for tests that run what others publish; a test is skipped where npm cannot bring one."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest


def unpack(package: str, directory: Path) -> Path:
    """Unpack a package (``name@version``) alone, without what it depends on; gives where its files are."""
    _npm(["pack", package], package, directory)
    (packed,) = directory.glob("*.tgz")
    with tarfile.open(packed) as archive:
        archive.extractall(directory, filter="data")
    return directory / "package"


def install(package: str, directory: Path) -> None:
    """Install a package with all that it depends on, whose scripts are not run."""
    _npm(
        ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory), package],
        package,
        directory,
    )


def _npm(arguments: list[str], package: str, directory: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no node on PATH")
    try:
        subprocess.run([npm, *arguments], capture_output=True, text=True, timeout=120, check=True, cwd=directory)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        pytest.skip(f"npm cannot install {package}: {error}")
