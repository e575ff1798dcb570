"""Sessions as the Hub's spawner starts them: a notebook server that answers, kernels, limits, and a clean end."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiohttp
import psutil
import pytest
from builderkit import TOKEN, build_files, own, running, session, settings, traces, until_gone
from gitserver import GitServer

from gateway.clients.notebooks import Notebook
from member.builders.process.builder import ProcessBuilder
from member.confine.reaper import reap_sessions

_FILES = {"requirements.txt": "humanize==4.12.3\n", "data.txt": "from the repository\n"}


@pytest.fixture
async def image(builder: ProcessBuilder, git_server: GitServer) -> str:
    """An image with one package."""
    outcome = await build_files(builder, git_server, "session", _FILES)
    assert outcome.failure is None, outcome.message
    return outcome.image


async def test_a_session_serves_and_leaves_nothing(data_dir: Path, image: str, tmp_path: Path) -> None:
    environ = {"BINDER_REPO_URL": "http://git.example/repo"}
    async with session(data_dir, image, tmp_path, environ) as started:
        output = await started.notebook.run(
            "import humanize, os, sys\n"
            "print(humanize.intcomma(1234567), sys.prefix != sys.base_prefix, open('data.txt').read().strip())\n"
            "print(sorted(name for name in os.environ if 'HUB' in name), os.environ['BINDER_REPO_URL'], os.getuid())\n"
        )
        assert output == "1,234,567 True from the repository\n[] http://git.example/repo 1000\n"
        async with aiohttp.ClientSession() as http, http.get(f"{started.notebook.url}api/contents") as response:
            assert response.status == 403
        tree = [psutil.Process(started.process.pid), *psutil.Process(started.process.pid).children(recursive=True)]
        assert len(tree) > 3
        assert not any(TOKEN in " ".join(process.cmdline()) for process in tree)
        # The server's, and one of the kernel, on which it takes its forked children's output if they know a random id;
        # a kernel's channels are files in its own /tmp, where no neighbour can listen.
        ports = {c.laddr.port for process in tree for c in process.net_connections("tcp") if c.status == "LISTEN"}
        assert len(ports) == 2
        code = "import glob, json; print(json.load(open(glob.glob('/tmp/jupyter/kernel*.json')[0]))['transport'])"
        assert await started.notebook.run(code) == "ipc\n"
    _, alive = psutil.wait_procs(tree, timeout=60)
    assert not alive
    assert TOKEN not in started.log.read_text()
    assert "Traceback" not in started.log.read_text()
    assert not traces(data_dir)


@pytest.mark.slow
async def test_a_session_for_the_pages_of_one_site_passes_a_gateways_check(
    data_dir: Path, image: str, tmp_path: Path
) -> None:
    security = {"cors_allow_origin": "https://book.example"}
    async with session(data_dir, image, tmp_path, security=security) as started, aiohttp.ClientSession() as http:
        notebook = Notebook(http, started.notebook.url, TOKEN)
        assert await notebook.open() == (
            "pages of https://book.example, and of no other origin beside its own (cors_allow_origin)"
        )
        await notebook.compute()
    # By itself it asks for its token alone.
    async with session(data_dir, image, tmp_path) as started, aiohttp.ClientSession() as http:
        assert await Notebook(http, started.notebook.url, TOKEN).open() == "a page of any other origin"


@pytest.mark.slow
async def test_what_a_session_installs_and_writes_is_its_own(data_dir: Path, image: str, tmp_path: Path) -> None:
    install = (
        "import subprocess\n"
        "def run(*a): return subprocess.run(a, capture_output=True, text=True)\n"
        "one = run('pip', 'install', '-q', 'six==1.17.0'); two = run('uv', 'pip', 'install', '-q', 'toolz==1.0.0')\n"
        "print(one.returncode, two.returncode, one.stderr, two.stderr)\n"
        "print(run('python', '-c', 'import six, toolz; print(six.__version__, toolz.__version__)').stdout)\n"
        "_ = open('data.txt', 'w').write('changed')\n"
    )
    async with session(data_dir, image, tmp_path / "one") as one, session(data_dir, image, tmp_path / "two") as two:
        assert (await one.notebook.run(install)).split() == ["0", "0", "1.17.0", "1.0.0"]
        check = "import importlib.util as u; print(u.find_spec('toolz'), open('data.txt').read())"
        assert await two.notebook.run(check) == "None from the repository\n\n"


@pytest.mark.slow
async def test_a_start_script_runs_with_the_server_as_its_arguments(
    builder: ProcessBuilder, data_dir: Path, git_server: GitServer, tmp_path: Path
) -> None:
    start = '#!/bin/sh\nexport FROM_START="it ran in $PWD"\nexec "$@"\n'
    outcome = await build_files(builder, git_server, "start", {"binder/start": start, "binder/requirements.txt": ""})
    assert outcome.failure is None, outcome.message
    async with session(data_dir, outcome.image, tmp_path) as started:
        output = await started.notebook.run("import os; print(os.environ['FROM_START'])")
        assert output == "it ran in /home/jovyan\n"


@pytest.mark.slow
async def test_a_session_that_takes_too_much_memory_is_ended(data_dir: Path, image: str, tmp_path: Path) -> None:
    async with session(data_dir, image, tmp_path, sessions={"memory": "600Mi"}) as started:
        greedy = (
            "import subprocess, sys\n"
            "code = 'import time; x = b\"x\" * 300_000_000; time.sleep(98710)'\n"
            "ps = [subprocess.Popen([sys.executable, '-c', code]) for _ in range(3)]\n"
            "[p.wait() for p in ps]"
        )
        running_code = asyncio.create_task(started.notebook.run(own(greedy)))
        assert await started.wait() == 77
        running_code.cancel()
        await asyncio.gather(running_code, return_exceptions=True)
        assert "600.0 MiB of memory" in started.log.read_text()
    await until_gone("98710")
    assert not traces(data_dir)


@pytest.mark.slow
async def test_one_process_cannot_have_more_memory_than_the_session(data_dir: Path, image: str, tmp_path: Path) -> None:
    async with session(data_dir, image, tmp_path, sessions={"memory": "1Gi"}) as started:
        assert "MemoryError" in await started.notebook.run("x = b'x' * (6 * 2**30)")


async def test_a_session_that_is_killed_takes_its_processes_with_it_and_is_reaped(
    data_dir: Path, image: str, tmp_path: Path
) -> None:
    async with session(data_dir, image, tmp_path) as started:
        hidden = own("import subprocess; subprocess.Popen(['setsid', 'sleep', '98711']); print('on')")
        assert await started.notebook.run(hidden) == "on\n"
        assert running("98711")
        assert await asyncio.to_thread(reap_sessions, data_dir) == 0
        os.kill(started.process.pid, signal.SIGKILL)
        await started.wait()
    await until_gone("98711")
    assert traces(data_dir)
    assert await asyncio.to_thread(reap_sessions, data_dir) == 1
    assert not traces(data_dir)


@pytest.mark.slow
async def test_an_image_in_use_is_not_evicted(
    builder: ProcessBuilder, data_dir: Path, image: str, tmp_path: Path
) -> None:
    async with session(data_dir, image, tmp_path) as started:
        assert not await asyncio.to_thread(builder._store.evict, image)
        assert await builder.has_image(image)
        assert await started.notebook.run("print('on')") == "on\n"
    assert await asyncio.to_thread(builder._store.evict, image)
    assert not await builder.has_image(image)
    assert not traces(data_dir)


async def test_an_image_that_is_not_there_is_told(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="the image nobody-built-this is not here"):
        async with session(data_dir, "nobody-built-this", tmp_path):
            pass
    assert not traces(data_dir)


@pytest.mark.slow
@pytest.mark.timeout(700)
async def test_an_idle_session_ends_by_itself_and_a_busy_one_does_not(
    data_dir: Path, image: str, tmp_path: Path
) -> None:
    # Long enough for a kernel to start on a machine that is busy itself: until its code runs it is idle, too.
    quick = {"sessions": {"idle_timeout": "25s"}}
    async with (
        # The busy one is older: when the idle one ends, Jupyter, which looks once a minute, has looked at both.
        session(data_dir, image, tmp_path / "busy", **quick) as busy,
        session(data_dir, image, tmp_path / "idle", **quick) as idle,
    ):
        until_told = "import os, time\nwhile not os.path.exists('over'): time.sleep(0.1)\nprint('done')"
        working = asyncio.create_task(busy.notebook.run(until_told, deadline_s=450))
        assert await idle.notebook.run("print('on')") == "on\n"
        async with asyncio.timeout(195):
            while idle.process.poll() is None:
                # An open page asks for this all the time; it is no activity.
                with contextlib.suppress(aiohttp.ClientError):
                    await idle.notebook.get("api/status")
                await asyncio.sleep(1)
        assert await idle.wait() == 0
        assert not working.done()
        assert await busy.notebook.run("open('over', 'w').close()") == ""
        assert await working == "done\n"
    assert not traces(data_dir)


@pytest.mark.slow
async def test_a_session_where_nothing_confines(
    builder: ProcessBuilder, data_dir: Path, cache_dir: Path, git_server: GitServer, tmp_path: Path
) -> None:
    section = {"cache_dir": str(cache_dir), "confine": "off", "python_downloads": False}
    plain = ProcessBuilder(settings(tmp_path / "data", builder=section))
    await plain.start()
    outcome = await build_files(plain, git_server, "unconfined", {**_FILES, "postBuild": "#!/bin/sh\npwd\n"})
    assert outcome.failure is None, outcome.message
    assert not plain.confined
    async with session(tmp_path / "data", outcome.image, tmp_path, builder={"confine": "off"}) as started:
        code = "import humanize, sys; print(humanize.__version__, open('data.txt').read().strip(), sys.prefix)"
        version, *text, prefix = (await started.notebook.run(code)).split()
        assert (version, " ".join(text)) == ("4.12.3", "from the repository")
        assert "/sessions/" in prefix
    await plain.close()
    assert not traces(tmp_path / "data")
