"""Sessions end by themselves: an idle one soon, a busy one only when it is too old."""

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

#: A kernel starts within the first on a machine that is busy itself: until its code runs, a session is idle.
IDLE_S, MAX_AGE_S = 30, 100

#: Jupyter looks for idleness once a minute.
LOOKS_EVERY_S = 60


@pytest.fixture
def short_lived(tmp_path: Path, member_config: Path) -> Iterator[Federation]:
    """A federation of one member whose sessions do not live long."""
    config = tmp_path / "members.yaml"
    sessions = f"  max_age: {MAX_AGE_S}s\n"
    config.write_text(member_config.read_text().replace("90s", f"{IDLE_S}s") + sessions)
    federation = Federation.start(tmp_path / "up", "--members", "1", "--member-config", str(config))
    yield federation
    federation.stop()


async def _answers(notebook: Notebook) -> bool:
    try:
        await notebook.get("api/status")
    except aiohttp.ClientError:
        return False
    return True


async def _until_ended(notebook: Notebook, deadline_s: float) -> float:
    begun = time.monotonic()
    async with asyncio.timeout(deadline_s):
        while await _answers(notebook):
            # Jupyter does not count this question as activity.
            await asyncio.sleep(1)
    return time.monotonic() - begun


async def test_an_idle_session_ends_and_a_busy_one_lives_until_it_is_too_old(
    short_lived: Federation, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "mortal", {"requirements.txt": ""})
    spec = git_spec(git_server.url("mortal"))
    # The idle one is older, so that it has its end well before the other is too old.
    fields = ready(await short_lived.launch(http, spec))
    idle = Notebook(http, fields["url"], fields["token"])
    asked = time.monotonic()
    fields = ready(await short_lived.launch(http, spec))
    busy, born = Notebook(http, fields["url"], fields["token"]), time.monotonic()
    work = asyncio.create_task(busy.run("import time\nfor _ in range(1200): time.sleep(0.5)", deadline_s=850))

    # Three times what is due is generous, and the busy one must outlive the idle one in any case.
    await _until_ended(idle, 3 * (IDLE_S + LOOKS_EVERY_S))
    assert await _answers(busy), "a busy session was ended as if it were idle"
    assert time.monotonic() - born < MAX_AGE_S

    await _until_ended(busy, 6 * MAX_AGE_S)
    assert time.monotonic() - asked > MAX_AGE_S
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    async with asyncio.timeout(60):
        while list((short_lived.data_dir / "member-1" / "sessions").glob("*")):
            await asyncio.sleep(0.5)
