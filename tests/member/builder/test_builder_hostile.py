"""What a repository's own code can see and change: its own environment and home, and nothing else."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from builderkit import build_files, session
from gitrepos import make_repo
from gitserver import GitServer

from member.builders.process.builder import ProcessBuilder

#: Tries what it should not be able to do; prints what worked. What it could write is looked for from outside: the
#: directories above what it may read exist in its own ``/tmp`` too, and there it may write.
SPY = """
import glob, json, os, socket, stat, sys
targets = json.load(open('targets.json'))
worked = []
def attempt(name, action):
    try:
        result = action()
    except Exception:
        return
    worked.append([name, str(result)[:80]])
def append(path):
    with open(path, 'ab') as file:
        file.write(b'x')
for path in targets:
    if os.path.isdir(path):
        attempt('list ' + path, lambda: os.listdir(path) or 1 / 0)
    else:
        attempt('read ' + path, lambda: open(path, 'rb').read(20))
for path in targets:
    for write in (lambda: append(path + '/planted'), lambda: append(path)):
        try:
            write()
        except OSError:
            pass
attempt('core_pattern', lambda: append('/proc/sys/kernel/core_pattern'))
attempt('sysrq', lambda: append('/proc/sysrq-trigger'))
attempt('oom', lambda: append('/proc/self/oom_score_adj'))
attempt('usr', lambda: append('/usr/planted'))
attempt('root', lambda: append('/planted'))
attempt('etc', lambda: append('/etc/planted'))
attempt('dev', lambda: append('/dev/planted'))
attempt('python', lambda: append(os.path.realpath(sys.executable) + '.planted'))
attempt('python', lambda: append(os.path.realpath(sys.executable)))
attempt('uv', lambda: append('/srv/bin/uv'))
for root in glob.glob('/proc/[0-9]*/root'):
    # Whoever has the first target below its root is outside.
    if os.path.exists(root + targets[0]):
        attempt('memory of others', lambda: open(root.removesuffix('root') + 'mem', 'rb').fileno())
for path in glob.glob('/dev/*'):
    if stat.S_ISBLK(os.lstat(path).st_mode):
        attempt('disk', lambda: open(path, 'rb').fileno())
attempt('mount', lambda: os.system('mount -t tmpfs none /tmp') == 0 or 1 / 0)
attempt('user namespace', lambda: os.system('unshare -U true 2>/dev/null') == 0 or 1 / 0)
attempt('environ', lambda: [name for name in os.environ if 'MANYBINDER' in name or 'HUB' in name][0])
attempt('parent', lambda: open('/proc/1/environ', 'rb').read().index(b'hub-secret'))
pids = [pid for pid in os.listdir('/proc') if pid.isdigit()]
lines = [open(f'/proc/{pid}/cmdline').read() for pid in pids if os.path.exists(f'/proc/{pid}/cmdline')]
telling = ('pytest', 'member', 'images/', 'sessions/', 'site-packages')
worked += [['sees process', line] for line in lines if any(word in line for word in telling)]
print('SPY' + json.dumps(worked))
"""


def _targets(data_dir: Path, cache_dir: Path) -> list[str]:
    named = [data_dir, cache_dir, Path.home(), Path("/root"), Path("/etc/shadow"), Path(__file__), Path("/var/log")]
    named += [Path("/sys"), Path("/run"), Path("/boot"), Path("/etc/ssl/private"), Path("/opt")]
    checkout = Path(__file__).parents[3]
    named += [checkout / "tests", checkout / "member", checkout / "pyproject.toml"]
    inside = [*data_dir.glob("*"), *data_dir.glob("*/*"), *data_dir.glob("images/*/*")]
    bases = sorted(data_dir.glob("bases/*/env/bin/*"))[:3]
    return [str(path) for path in [*named, *inside, *bases] if path.exists()]


def _sizes(targets: list[str]) -> dict[str, int]:
    """How long each file is, by its path, in bytes."""
    return {target: Path(target).stat().st_size for target in targets if Path(target).is_file()}


def _digest(directory: Path) -> str:
    """Over names and contents of everything below a directory that is not being written."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        digest.update(str(path).encode())
        if path.is_file() and not path.is_symlink():
            digest.update(str(path.stat().st_size).encode() + str(path.stat().st_mtime_ns).encode())
    return digest.hexdigest()


def _worked(text: str) -> list[list[str]]:
    worked: list[list[str]] = json.loads(text.split("SPY", 1)[1].splitlines()[0])
    return worked


async def test_a_build_and_a_session_reach_nothing_of_the_machine(
    builder: ProcessBuilder, data_dir: Path, cache_dir: Path, git_server: GitServer, tmp_path: Path
) -> None:
    neighbour = await build_files(builder, git_server, "neighbour", {"requirements.txt": "six\n", "secret.txt": "mine"})
    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    async with session(data_dir, neighbour.image, tmp_path / "neighbour"):
        targets = _targets(data_dir, cache_dir)
        assert len(targets) > 15
        sizes = _sizes(targets)
        files = {
            "spy.py": SPY,
            "targets.json": json.dumps(targets),
            "postBuild": "#!/bin/sh\npython3 spy.py\n",
            "requirements.txt": "six\n",
        }
        outcome = await build_files(builder, git_server, "spy", files)
        assert outcome.failure is None, outcome.message
        assert _worked(outcome.log) == []
        async with session(data_dir, outcome.image, tmp_path / "spy") as running:
            code = "import subprocess; print(subprocess.check_output(['python3', 'spy.py'], text=True))"
            assert _worked(await running.notebook.run(code)) == []
    assert not list(data_dir.rglob("*planted*"))
    assert not [target for target in targets if Path(target, "planted").exists()]
    assert _sizes(targets) == sizes
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern


@pytest.mark.slow
async def test_code_that_is_built_or_installed_cannot_change_what_others_use(
    builder: ProcessBuilder, data_dir: Path, cache_dir: Path, git_server: GitServer
) -> None:
    plain = await build_files(builder, git_server, "plain", {"requirements.txt": "six\n"})
    envs = sorted(data_dir.glob("bases/*/env"))
    assert envs
    bases, cache = [_digest(env) for env in envs], _digest(cache_dir)
    image_env = _digest(builder._store.directory(plain.image) / "env")
    vandal = (
        "import os, shutil, six, glob\n"
        "for place in ['/srv/cache', os.environ.get('UV_CACHE_DIR', '/srv/cache'), '/srv/env']:\n"
        "    for path in glob.glob(place + '/**', recursive=True)[:3000]:\n"
        "        if os.path.isfile(path) and not path.endswith('python3'):\n"
        "            try: open(path, 'ab').write(b'# spoilt')\n"
        "            except OSError: pass\n"
        "shutil.rmtree('/srv/cache', ignore_errors=True)\n"
    )
    files = {
        "requirements.txt": "six\n",
        "setup.py": "exec(open('vandal.py').read().replace(', six', ''))\n"
        "from setuptools import setup; setup(name='v', version='1')\n",
        "vandal.py": vandal,
        "postBuild": "#!/bin/sh\npython vandal.py\n",
    }
    outcome = await build_files(builder, git_server, "vandal", files)
    assert "Running postBuild" in outcome.log or outcome.failure is not None
    assert [_digest(env) for env in envs] == bases
    assert _digest(builder._store.directory(plain.image) / "env") == image_env
    # What is downloaded may be added to the cache; nothing of it may be changed or removed.
    if cache != _digest(cache_dir):
        spoilt = [path for path in cache_dir.rglob("*.py") if b"# spoilt" in path.read_bytes()]
        assert spoilt == []


async def test_what_a_repository_puts_in_its_home_does_not_run_where_the_shared_cache_is(
    builder: ProcessBuilder, cache_dir: Path, git_server: GitServer
) -> None:
    make_repo(git_server.root, "dependency", {"setup.py": "from setuptools import setup; setup(name='dep')\n"})
    trap = "#!/bin/sh\n: > /srv/cache/trapped\nexit 1\n"
    files = {
        "requirements.txt": f"six\ndep @ git+{git_server.url('dependency')}\n",
        **{f".local/bin/{name}": trap for name in ("uv", "git", "python", "sh", "printf")},
        ".gitconfig": "[core]\n fsmonitor = /home/jovyan/.local/bin/git\n sshCommand = /home/jovyan/.local/bin/git\n",
        ".config/git/config": "[core]\n fsmonitor = /home/jovyan/.local/bin/git\n",
        "uv.toml": "no-build = false\n",
        "sitecustomize.py": "open('/srv/cache/trapped', 'w')\n",
    }
    outcome = await build_files(builder, git_server, "trap", files)
    assert "Installing the packages of requirements.txt" in outcome.log
    assert not list(cache_dir.rglob("trapped"))


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc"])
async def test_links_in_a_repository_lead_nowhere(
    builder: ProcessBuilder, git_server: GitServer, tmp_path: Path, link: str
) -> None:
    script = f"#!/bin/sh\nrm -rf binder2; ln -s {link} binder2; ln -sf /etc/shadow notes.txt; ln -s / /tmp/top\n"
    outcome = await build_files(builder, git_server, f"links-{len(link)}", {"postBuild": script})
    assert outcome.failure is None, outcome.message
    assert os.path.exists("/etc/shadow")  # noqa: PTH110 - the machine's own
