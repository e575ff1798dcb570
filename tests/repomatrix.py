"""Small repositories of each configuration kind, shaped like the binder-examples organisation's, and their fates.

Each is either a running session, in which a check prints ``well``, or a refusal in the words of the documentation.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gitrepos import Files, add_submodule, git, make_repo, repo_path
from gitserver import GitServer

#: What Git LFS leaves in a repository in the place of a file.
LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)

#: Bytes of the repository that is larger than builds may be.
HUGE = 260 * 2**20

#: What builders are told that a build may write: less than :data:`HUGE`, and enough for the others.
DISK = "200Mi"

_SETUP = "from setuptools import setup; setup(name='mine', version='1', py_modules=['mine'])\n"
_PROJECT = '[project]\nname = "mine"\nversion = "1"\n[build-system]\nrequires = ["setuptools"]\n'
_START = '#!/bin/sh\nexport FROM_START=it-ran\nexec "$@"\n'


@dataclass(frozen=True, slots=True)
class Row:
    """One repository; ``check`` is run in its session; ``refused`` is what a refusal says, of the process builder."""

    name: str
    files: Files
    check: str = "print('well')"
    refused: str = ""
    special: Callable[[GitServer, str], None] | None = None
    """Makes of the repository what files alone cannot."""

    def make(self, server: GitServer, **more: str) -> str:
        """Make it; returns its address."""
        make_repo(server.root, self.name, {**self.files, **more})
        if self.special is not None:
            self.special(server, self.name)
        return server.url(self.name)


def _with_submodule(server: GitServer, name: str) -> None:
    make_repo(server.root, f"inside-{name}", {"inside.txt": "x"})
    add_submodule(server.root, name, "sub", server.url(f"inside-{name}"))


def _without_commits(server: GitServer, name: str) -> None:
    bare = repo_path(server.root, name)
    git(bare, "update-ref", "-d", "refs/heads/main")
    git(bare, "update-server-info")


def _exists(path: str) -> str:
    return f"import os; print('well' if os.path.exists({path!r}) else os.listdir(b'.'))"


#: Files that every builder brings into a session, whatever makes the environment.
FILES = (
    Row("submodules", {"README": "x"}, _exists("sub/inside.txt"), special=_with_submodule),
    Row(
        "lfs",
        {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "data.bin": LFS_POINTER},
        "print('well' if open('data.bin').read().startswith('version https://git-lfs') else 'no pointer')",
    ),
    Row(
        "non-utf-8-names",
        {"caf\udce9.txt": "latin-1\n", "dir\udcff/x.ipynb": "{}", "\u00fcbung.txt": "utf-8\n"},
        "import os; names = {b'caf\\xe9.txt', b'dir\\xff', '\u00fcbung.txt'.encode()}\n"
        "print('well' if names <= set(os.listdir(b'.')) else os.listdir(b'.'))",
    ),
    Row("no-files", {}),
)

#: Disk is looked at every second, which a build has to take.
HUGE_ROW = Row(
    "huge",
    {"zeros": b"\0" * HUGE, "postBuild": "#!/bin/sh\nsleep 120\n"},
    refused="The build was ended: it wrote more than",
)
NO_COMMITS = Row("no-commits", {"README": "x"}, refused="HEAD", special=_without_commits)

#: What says how an environment is made.
ENVIRONMENTS = (
    Row("requirements", {"requirements.txt": "humanize==4.12.3\n"}, "import humanize; print('well')"),
    Row(
        "conda",
        {"environment.yml": "dependencies:\n- python=3.11\n- six=1.17\n- pip:\n  - humanize==4.12.3\n"},
        "import humanize, six, sys; print('well' if sys.version_info[:2] == (3, 11) else sys.version)",
    ),
    Row("setup-py", {"setup.py": _SETUP, "mine.py": ""}, "import mine; print('well')"),
    Row(
        "pyproject",
        {"pyproject.toml": _PROJECT, "mine.py": ""},
        "import importlib.metadata as m; m.version('mine'); print('well')",
    ),
    Row("post-build", {"postBuild": "#!/bin/sh\necho made > made.txt\n"}, _exists("made.txt")),
    Row("start", {"start": _START}, "import os; print('well' if os.environ['FROM_START'] == 'it-ran' else 'no')"),
    Row(
        "runtime",
        {"runtime.txt": "python-3.11"},
        "import sys; print('well' if sys.version_info[:2] == (3, 11) else sys.version)",
    ),
    Row(
        "nested",
        {"binder/requirements.txt": "humanize==4.12.3\n", "setup.py": "1/0\n"},
        "import humanize; print('well')",
    ),
    Row("apt", {"apt.txt": "cowsay\n"}, _exists("/usr/games/cowsay"), "apt.txt asks for Debian packages"),
)
