"""Small real Git repositories, made by real Git: bare ones, ready to be served (see ``gitserver``)."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

#: One author and one date, so that the same files make the same commit.
_ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.invalid",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.invalid",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
}

Files = Mapping[str, str | bytes]


def git(directory: Path, *arguments: str) -> str:
    """Run Git in a directory; returns what it printed."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env=_ENVIRON,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def repo_path(root: Path, name: str) -> Path:
    """Where the repository of that name is."""
    return root / f"{name}.git"


def make_repo(root: Path, name: str, files: Files, branch: str = "main") -> str:
    """Make (or replace) a repository with one commit; returns its id, the same for the same files.

    A file that begins with ``#!`` is executable.
    """
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        git(work, "init", "--quiet", f"--initial-branch={branch}")
        commit = _commit(work, files)
        bare = repo_path(root, name)
        if bare.exists():
            if git(bare, "rev-parse", "HEAD") == commit:
                return commit
            shutil.rmtree(bare)
        git(root, "clone", "--quiet", "--bare", "--no-local", temporary, str(bare))
    _refresh(bare)
    return commit


def add_commit(root: Path, name: str, files: Files, branch: str = "main") -> str:
    """Add a commit to a branch of a repository (made from HEAD where there is none); returns its id."""
    bare = repo_path(root, name)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        git(work, "clone", "--quiet", str(bare), ".")
        git(work, "checkout", "--quiet", "-B", branch, *([f"origin/{branch}"] if _has_branch(bare, branch) else []))
        commit = _commit(work, files)
        git(work, "push", "--quiet", "origin", branch)
    _refresh(bare)
    return commit


def add_submodule(root: Path, name: str, path: str, url: str) -> str:
    """Add a commit with a submodule; returns its id."""
    bare = repo_path(root, name)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        git(work, "clone", "--quiet", str(bare), ".")
        git(work, "submodule", "--quiet", "add", url, path)
        commit = _commit(work, {})
        git(work, "push", "--quiet", "origin", "HEAD")
    _refresh(bare)
    return commit


def tag(root: Path, name: str, tag_name: str, commit: str = "HEAD", *, annotated: bool = False) -> None:
    """Tag a commit."""
    git(repo_path(root, name), "tag", *(["-a", "-m", tag_name] if annotated else []), tag_name, commit)
    _refresh(repo_path(root, name))


def _commit(work: Path, files: Files) -> str:
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)
    git(work, "add", "--all", "--force")
    git(work, "commit", "--quiet", "--allow-empty", "-m", "a commit")
    return git(work, "rev-parse", "HEAD")


def _has_branch(bare: Path, branch: str) -> bool:
    return bool(git(bare, "branch", "--list", branch))


def _refresh(bare: Path) -> None:
    """What dumb HTTP needs."""
    git(bare, "update-server-info")
