"""A session ends when it is too old, however busy it is; how an idle one ends is tested where sessions are run."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from federation import Federation, git_spec, ready
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Longer than a session and a kernel take to start on a machine that is busy itself.
MAX_AGE_S = 45


@pytest.fixture
def short_lived(tmp_path: Path, member_config: Path) -> Iterator[Federation]:
    """A federation of one member whose sessions do not live long."""
    config = tmp_path / "members.yaml"
    config.write_text(f"{member_config.read_text()}  max_age: {MAX_AGE_S}s\n")
    federation = Federation.start(tmp_path / "up", "--members", "1", "--member-config", str(config))
    yield federation
    federation.stop()


async def _answers(notebook: Notebook) -> bool:
    try:
        await notebook.get("api/status")
    except aiohttp.ClientError:
        return False
    return True


async def test_a_busy_session_lives_until_it_is_too_old(
    short_lived: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "mortal", {"requirements.txt": ""})
    asked = time.monotonic()
    fields = ready(await short_lived.launch(http, git_spec(git_server.url("mortal"))))
    busy = Notebook(http, fields["url"], fields["token"])
    work = asyncio.create_task(busy.run("import time\nfor _ in range(1200): time.sleep(0.5)", deadline_s=850))
    async with asyncio.timeout(600):
        while not any(kernel["execution_state"] == "busy" for kernel in await busy.get("api/kernels")):
            await asyncio.sleep(0.2)
        while await _answers(busy):
            await asyncio.sleep(1)
    assert time.monotonic() - asked > MAX_AGE_S
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    async with asyncio.timeout(60):
        while list((short_lived.data_dir / "member-1" / "sessions").glob("*")):
            await asyncio.sleep(0.5)
