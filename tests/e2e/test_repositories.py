"""Repositories of each configuration kind on the process builder: a running session, or the documented refusal."""

from collections.abc import Iterator

import aiohttp
import pytest
import yaml
from federation import Federation, git_spec, ready, shared_cache_dir
from gitserver import GitServer
from notebook import Notebook
from repomatrix import DISK, ENVIRONMENTS, FILES, HUGE_ROW, NO_COMMITS, Row

from contract.events import Failure, Phase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_DOCKERFILE = Row("dockerfile", {"Dockerfile": "FROM scratch\n"}, refused="Dockerfile asks for")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A gateway and one member that builds nothing large."""
    config = tmp_path_factory.mktemp("config") / "members.yaml"
    cache = str(shared_cache_dir(tmp_path_factory.getbasetemp()))
    sessions = {"limit": 30, "memory": "400Mi", "disk": "100Mi"}
    config.write_text(yaml.safe_dump({"builder": {"cache_dir": cache, "disk": DISK}, "sessions": sessions}))
    federation = Federation.start(tmp_path_factory.mktemp("up"), "--members", "1", "--member-config", str(config))
    yield federation
    federation.stop()


@pytest.mark.parametrize(
    "row", [*ENVIRONMENTS, *FILES, HUGE_ROW, NO_COMMITS, _DOCKERFILE], ids=lambda row: str(row.name)
)
async def test_a_repository_is_a_session_or_a_refusal(
    small: Federation, http: aiohttp.ClientSession, git_server: GitServer, row: Row
) -> None:
    events = await small.launch(http, git_spec(row.make(git_server)), 500)
    if row.refused:
        assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.USER), events[-1].message
        assert row.refused in events[-1].message
        return
    fields = ready(events)
    notebook = Notebook(http, fields["url"], fields["token"])
    assert await notebook.run(row.check) == "well\n"
    if row.name == "lfs":
        assert "Git LFS" in "".join(event.message for event in events)
    async with http.post(f"{fields['url']}api/shutdown", headers={"Authorization": f"token {fields['token']}"}):
        pass
