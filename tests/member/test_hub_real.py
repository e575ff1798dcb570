"""The member's own JupyterHub and Traefik, really started; sessions are a stand-in that answers at once."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from contract.events import Failure, Phase
from member.clients.hub import HubClient, SpawnFailedError, UserRefusedError
from member.core.builds import BuildLimits
from member.core.launching import Outcome, user_options
from member.core.quotas import SessionLimits
from member.engines.builds import Builds
from member.engines.launches import Launches
from member.engines.servers import Servers
from member.metrics import Metrics
from member.processes import processes
from member.settings import LaunchSettings, MemberSettings
from servicekit.tasks import Tasks
from tests.fakes.builder import FakeBuilder
from tests.manybinder import supervised
from tests.member import stand_in_session
from tests.member.member_harness import hub_settings, make_logs, order, until

pytestmark = pytest.mark.timeout(400)

STAND_IN = [sys.executable, stand_in_session.__file__]


@dataclass
class RealHub:
    """A Hub and its proxy that run."""

    settings: MemberSettings
    process: subprocess.Popen[bytes]
    secrets: dict[str, str]

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted((self.data_dir / "logs").iterdir()))

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def client(self, http: aiohttp.ClientSession) -> HubClient:
        return HubClient(http, self.settings.hub.url, self.secrets["hub_api_token"], 60)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """One for all tests of this file."""
    base = tmp_path_factory.mktemp("real-hub")
    settings = hub_settings(base / "data")
    specs = [spec for spec in processes(settings, base / "member.yaml") if not spec.name.endswith("/api")]
    hub_json = settings.data_dir / "hub" / "hub.json"
    config = json.loads(hub_json.read_text())
    hub_json.write_text(json.dumps({**config, "traits": {"SessionSpawner": {"session_command": STAND_IN}}}))
    argv = [sys.executable, supervised.__file__, supervised.as_json(specs), str(base / "changes")]
    process = subprocess.Popen(argv)
    try:
        end = time.monotonic() + 170
        while not (base / "changes").exists() or "culler READY" not in (base / "changes").read_text():
            if time.monotonic() > end or process.poll() is not None:
                raise AssertionError((settings.data_dir / "logs" / "hub.log").read_text())
            time.sleep(0.1)
        secrets = {path.name: path.read_text().strip() for path in (settings.data_dir / "secrets").iterdir()}
        yield RealHub(settings, process, secrets)
    finally:
        started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGTERM)
        process.wait(150)
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive, f"left running: {alive}"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@contextlib.asynccontextmanager
async def launching(
    real: RealHub, http: aiohttp.ClientSession, *, limit: int = 10, concurrent: int = 2
) -> AsyncIterator[Launches]:
    tasks, metrics, settings = Tasks(), Metrics(), LaunchSettings(concurrent=concurrent)
    servers = Servers(
        real.client(http),
        http,
        settings,
        SessionLimits(limit),
        public_url=real.settings.hub.public_url,
        tasks=tasks,
        metrics=metrics,
    )
    logs = make_logs(real.data_dir / "build-logs")
    builds = Builds(FakeBuilder(), BuildLimits(), logs, tasks=tasks, metrics=metrics)
    launches = Launches(builds, servers, settings, tasks=tasks, metrics=metrics)
    try:
        yield launches
    finally:
        await launches.close()
        await tasks.close()


async def launch(launches: Launches, **changes: Any) -> dict[str, Any]:
    """The fields of its ready event, and its user."""
    started = launches.start(order(**changes))
    async with asyncio.timeout(150):
        events = [entry.event async for entry in started.journal.follow()]
    assert events[-1].phase == Phase.READY, events[-1]
    assert any(event.message == "Starting the notebook server...\n" for event in events)
    return {"user": started.user, **events[-1].fields}


def test_what_is_written_and_shown_holds_no_secret_that_others_can_read(tmp_path: Path) -> None:
    settings = hub_settings(tmp_path / "data")
    specs = processes(settings, tmp_path / "member.yaml")
    assert [spec.name.partition("/")[2] for spec in specs] == ["proxy", "hub", "culler", "api"]
    secrets = [path.read_text() for path in (settings.data_dir / "secrets").iterdir()]
    assert len(set(secrets)) == 4
    assert all(len(secret) == 64 for secret in secrets)
    for spec in specs:
        assert not any(secret in argument for secret in secrets for argument in spec.argv)
    for path in settings.data_dir.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert (settings.data_dir / "secrets").stat().st_mode & 0o777 == 0o700
    # A second start finds them as they were.
    processes(settings, tmp_path / "member.yaml")
    assert [path.read_text() for path in (settings.data_dir / "secrets").iterdir()] == secrets


def test_an_operators_hub_is_not_run_here(tmp_path: Path) -> None:
    settings = hub_settings(tmp_path / "data")
    own = settings.model_copy(update={"hub": settings.hub.model_copy(update={"managed": None})})
    assert [spec.name for spec in processes(own, tmp_path / "member.yaml")] == ["member-1/api"]


@pytest.mark.slow
async def test_a_launch_passes_through_hub_and_proxy(real: RealHub, http: aiohttp.ClientSession) -> None:
    async with launching(real, http) as launches:
        ready = await launch(launches)
        assert ready["url"] == f"{real.settings.hub.public_url}user/{ready['user']}/"
        status = f"{ready['url']}api/status"
        async with http.get(status, headers={"Authorization": f"token {ready['token']}"}) as response:
            assert response.status == 200
            assert await response.text() == "v2/gh/org/repo/main"
        for headers in ({}, {"Authorization": "token wrong"}):
            async with http.get(status, headers=headers) as response:
                assert response.status == 403
        client = real.client(http)
        (user,) = [user for user in await client.users() if user.name == ready["user"]]
        assert (user.ready, user.pending, user.repo_url) == (True, False, "https://git.example/org/repo")
        # Asking again for what runs already is no error, and starts nothing.
        await client.start(user.name, {"image": "i", "token": "t"})
        assert [message async for message in client.progress(user.name)] == []
        await client.remove(user.name)
        assert user.name not in {user.name for user in await client.users()}
        await client.remove(user.name)
        async with http.get(status, allow_redirects=False) as response:
            assert response.status not in (200, 403)


@pytest.mark.slow
async def test_a_session_that_ends_while_it_starts_fails_the_launch_at_once(
    real: RealHub, http: aiohttp.ClientSession
) -> None:
    async with launching(real, http) as launches:
        started = launches.start(order("broken", image="broken"))
        begun = time.monotonic()
        async with asyncio.timeout(150):
            events = [entry.event async for entry in started.journal.follow()]
        # The Hub alone would wait for as long as a start may take.
        assert time.monotonic() - begun < 100
        assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.MEMBER)
        said = " ".join(event.message for event in events)
        assert "The session ended while it started (exit status 7)" in said


@pytest.mark.slow
async def test_a_cancelled_launch_leaves_no_user_and_no_process(real: RealHub, http: aiohttp.ClientSession) -> None:
    async with launching(real, http) as launches:
        started = launches.start(order("cancelled"))
        client = real.client(http)
        async with asyncio.timeout(150), contextlib.aclosing(started.journal.follow()) as entries:
            # The first word of the Hub itself; the session is not there before the last one.
            async for entry in entries:
                if entry.event.phase == Phase.LAUNCHING and entry.event.message != "Launching server...\n":
                    break
        launches.cancel(started)
        async with asyncio.timeout(150):
            while started.user in {user.name for user in await client.users()}:
                await asyncio.sleep(0.1)
        assert started.outcome == Outcome.CANCELLED
        await until(lambda: not any(started.user in " ".join(_argv(process)) for process in real.below()))


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["image", "token"])
async def test_a_server_without_image_or_token_is_refused(
    real: RealHub, http: aiohttp.ClientSession, missing: str
) -> None:
    client = real.client(http)
    options = {**user_options(order(), "a-token"), missing: ""}
    user = f"without-{missing}"
    await client.start(user, options)
    with pytest.raises(SpawnFailedError, match=f"{missing} is required"):
        async for _ in client.progress(user):
            pass
    await client.remove(user)


@pytest.mark.slow
@pytest.mark.parametrize("name", [" alice", "a/b", ".", ".."])
async def test_a_name_that_jupyterhub_does_not_take_is_known(
    real: RealHub, http: aiohttp.ClientSession, name: str
) -> None:
    with pytest.raises(UserRefusedError):
        await real.client(http).start(name, user_options(order("repo"), "token"))
    assert name not in [user.name for user in await real.client(http).users()]


@pytest.mark.slow
async def test_nothing_secret_stands_in_an_argv_or_a_log(real: RealHub, http: aiohttp.ClientSession) -> None:
    """The notebook token in the server's argv, and in the Hub's log."""
    async with launching(real, http) as launches:
        ready = await launch(launches)
        secrets = {**real.secrets, "token": ready["token"]}
        seen = [" ".join(_argv(process)) for process in real.below()]
        assert any(ready["user"] in argv for argv in seen)
        for name, secret in secrets.items():
            assert not any(secret in argv for argv in seen), name
            assert secret not in real.logs(), name
        await real.client(http).remove(ready["user"])


@pytest.mark.slow
async def test_a_session_inherits_none_of_the_hubs_secrets(real: RealHub, http: aiohttp.ClientSession) -> None:
    async with launching(real, http) as launches:
        ready = await launch(launches)
        (session,) = [process for process in real.below() if ready["user"] in " ".join(_argv(process))]
        environ = session.environ()
        assert environ["JUPYTER_TOKEN"] == ready["token"]
        assert environ["BINDER_REQUEST"] == "v2/gh/org/repo/main"
        assert not [name for name in environ if name.startswith("JUPYTERHUB_")]
        assert not any(secret in value for secret in real.secrets.values() for value in environ.values())
        fd = int(environ["MANYBINDER_LIFELINE_FD"])
        assert str(Path(f"/proc/{session.pid}/fd/{fd}").readlink()).startswith("pipe:")
        await real.client(http).remove(ready["user"])


@pytest.mark.slow
async def test_nobody_gets_in_without_a_secret(real: RealHub, http: aiohttp.ClientSession) -> None:
    managed = real.settings.hub.managed
    assert managed is not None
    hub, proxy = real.settings.hub.url, real.settings.hub.public_url
    proxy_api = f"http://127.0.0.1:{managed.proxy_api_port}/"
    asked = [
        *(
            f"{base}hub/api/{path}"
            for base in (hub, proxy)
            for path in ("users", "proxy", "services", "info", "groups")
        ),
        *(f"{base}api/{path}" for base in (proxy, proxy_api) for path in ("rawdata", "http/routers", "overview")),
        f"{proxy}dashboard/",
        f"{proxy_api}dashboard/",
    ]
    for url in asked:
        for headers in ({}, {"Authorization": "token wrong"}, {"Authorization": "Basic anVweXRlcmh1Yjp3cm9uZw=="}):
            async with http.get(url, headers=headers, allow_redirects=False) as response:
                text = await response.text()
                assert response.status != 200, url
                assert "member-1" not in text
                assert "routers" not in text
    async with http.post(f"{hub}hub/api/users/intruder") as response:
        assert response.status == 403
    # No one can log in, with whatever name.
    async with http.post(
        f"{proxy}hub/login", data={"username": "admin", "password": "admin"}, allow_redirects=False
    ) as response:
        assert response.status in (403, 404, 405)
    for process in real.below():
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), (process, connection)


@pytest.mark.slow
async def test_sessions_outlive_the_hub(real: RealHub, http: aiohttp.ClientSession) -> None:
    async with launching(real, http) as launches:
        ready = await launch(launches)
        (hub,) = [process for process in real.below() if "jupyterhub" in _argv(process)]
        hub.send_signal(signal.SIGKILL)
        headers = {"Authorization": f"token {ready['token']}"}
        async with http.get(f"{ready['url']}api/status", headers=headers) as response:
            assert response.status == 200
        client = real.client(http)
        async with asyncio.timeout(150):
            while True:
                with contextlib.suppress(Exception):
                    users = {user.name: user for user in await client.users()}
                    if users[ready["user"]].ready:
                        break
                await asyncio.sleep(0.1)
        async with http.get(f"{ready['url']}api/status", headers=headers) as response:
            assert response.status == 200
        again = await launch(launches)
        for user in (ready["user"], again["user"]):
            await client.remove(user)


def _argv(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
async def test_the_address_of_an_ended_session_says_so_and_offers_to_launch_again(
    real: RealHub, http: aiohttp.ClientSession
) -> None:
    page = {"Accept": "text/html,application/xhtml+xml"}
    async with launching(real, http) as launches:
        ready = await launch(launches, spec="gh/org/repo/main%22%3E%3Cscript%3E")
        client = real.client(http)
        await client.remove(ready["user"])
        for path in ("lab", "lab/tree/index.ipynb?token=x", ""):
            async with http.get(ready["url"] + path, headers=page) as response:
                assert response.status == 410
                assert response.content_type == "text/html"
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                text = await response.text()
            assert "This session has ended" in text
            link = "https://gateway.example/v2/gh/org/repo/main%22%3E%3Cscript%3E"
            assert f'href="{link}"' in text
            assert "<script" not in text
            assert ready["token"] not in text
        # A JupyterLab that is still open somewhere learns it too.
        async with http.get(f"{ready['url']}api/kernels") as response:
            assert response.status == 424
            assert (await response.json())["message"] == "This session has ended."
        unknown = f"{real.settings.hub.public_url}user/nobody-knows-whom/lab"
        async with http.get(unknown, headers=page) as response:
            assert response.status == 404
            assert "no session at this address" in await response.text()


@pytest.mark.slow
async def test_the_address_of_a_session_that_starts_is_no_ended_one(real: RealHub, http: aiohttp.ClientSession) -> None:
    client = real.client(http)
    what = order("slowly", image="slow")
    await client.start("slowly-abc", user_options(what, "t"))
    address = f"{real.settings.hub.public_url}user/slowly-abc/lab"
    async with http.get(address, headers={"Accept": "text/html"}) as response:
        assert response.status == 503
        assert "This session is starting" in await response.text()
    await client.remove("slowly-abc")


@pytest.mark.slow
async def test_fifty_at_once_are_all_served_by_a_real_hub_or_refused_for_the_quota(
    real: RealHub, http: aiohttp.ClientSession
) -> None:
    async with launching(real, http, limit=44, concurrent=3) as launches:
        started = [launches.start(order("crowd")) for _ in range(50)]
        async with asyncio.timeout(350):
            told = [[entry.event async for entry in item.journal.follow()] for item in started]
        ended = [events[-1] for events in told]
        assert sum(event.phase == Phase.READY for event in ended) == 44
        refused = [event for event in ended if event.phase == Phase.FAILED]
        assert {(event.failure, event.message) for event in refused} == {
            (Failure.REFUSED, "Too many users on this BinderHub! Try again soon.\n")
        }
        builds = sum(any(event.message == "Built image, launching...\n" for event in events) for events in told)
        assert builds == 50  # each followed the only one
        waited = [events for events in told if any("position" in event.fields for event in events)]
        assert len(waited) == 44 - 3
        client = real.client(http)
        await asyncio.gather(*(client.remove(item.user) for item in started))
        crowd = {item.user for item in started}
        assert not crowd & {user.name for user in await client.users()}
