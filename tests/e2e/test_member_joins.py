"""A second member, on its own data directory and ports, joins with one command and one token, and leaves again."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml
from federation import Federation, git_spec, ready, shared_cache_dir
from gitrepos import make_repo
from gitserver import GitServer
from notebook import Notebook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


class Site:
    """A federation with one member, its operator, and the operator of another member."""

    def __init__(self, place: Path, cache: Path) -> None:
        self.place = place
        self.token_file = place / "operator"
        self.token_file.write_text("an-operators-token-for-tests\n")
        self.environ = {**os.environ, "MANYBINDER__BUILDER__CACHE_DIR": str(cache)}
        gateway = {
            "admin": {"tokens": [{"name": "alice", "token_file": str(self.token_file)}]},
            "joining": {"allow_loopback": True},
        }
        (place / "gateway.yaml").write_text(yaml.safe_dump(gateway))
        (place / "member.yaml").write_text(yaml.safe_dump({"builder": {"cache_dir": str(cache)}}))
        self.federation = Federation.start(
            place / "up",
            *("--members", "1", "--gateway-config", str(place / "gateway.yaml")),
            *("--member-config", str(place / "member.yaml")),
        )
        self.second: subprocess.Popen[bytes] | None = None
        self.data_dir = place / "second"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "manybinder", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=self.environ)

    def admin(self, *arguments: str) -> str:
        """What an operator's command says."""
        done = self.run(
            "admin", "--gateway", self.federation.url, "--token-file", str(self.token_file), "--json", *arguments
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def member(self, name: str) -> dict[str, Any]:
        """What operators see of a member; nothing, if it does not belong."""
        lines = [json.loads(line) for line in self.admin("members").splitlines()]
        return next((item for item in lines if item["name"] == name), {})

    def start_second(self, token: str) -> None:
        """One command, one token."""
        (self.place / "token").write_text(token)
        with (self.place / "second.log").open("wb") as log:
            self.second = subprocess.Popen(
                [
                    *(sys.executable, "-m", "manybinder", "member", "--join", self.federation.url),
                    *("--token-file", str(self.place / "token"), "--data-dir", str(self.data_dir)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environ,
            )

    def log(self) -> str:
        """What the second member has said."""
        return (self.place / "second.log").read_text()

    def stop(self) -> None:
        """End all of it."""
        if self.second is not None:
            children: list[psutil.Process] = []
            with suppress(psutil.Error):
                children = psutil.Process(self.second.pid).children(recursive=True)
            self.second.terminate()
            self.second.wait(120)
            _, alive = psutil.wait_procs(children, timeout=60)
            assert not alive, f"left running: {alive}"
        self.federation.stop()


@pytest.fixture
def site(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path, shared_cache_dir(tmp_path_factory.getbasetemp()))
    try:
        yield site
    finally:
        site.stop()


async def test_a_member_joins_is_checked_works_is_drained_and_leaves_and_no_launch_is_lost(
    site: Site, http: aiohttp.ClientSession, git_server: GitServer
) -> None:
    make_repo(git_server.root, "plain", {"README.md": "plain\n"})
    spec = git_spec(git_server.url("plain"))
    launched: list[str] = []
    ended = asyncio.Event()

    async def visitors() -> None:
        """One launch after the other, from beginning to end; every one must become ready."""
        while not ended.is_set():
            fields = ready(await site.federation.launch(http, spec, deadline_s=600))
            launched.append(fields["member"])
            async with http.post(
                f"{fields['url']}api/shutdown", headers={"Authorization": f"token {fields['token']}"}
            ) as response:
                assert response.status == 200
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), 5)

    visiting = asyncio.create_task(visitors())

    async def seen(condition: Any, name: str = "second", deadline_s: float = 600) -> dict[str, Any]:
        """A member, once something holds of it."""
        async with asyncio.timeout(deadline_s):
            while True:
                assert not visiting.done(), visiting.exception()
                member = await asyncio.to_thread(site.member, name)
                if condition(member):
                    return member
                await asyncio.sleep(1)

    try:
        made = json.loads(await asyncio.to_thread(site.admin, "join-token", "second", "--hosts", "127.0.0.1"))
        await asyncio.to_thread(site.start_second, made["token"])
        pending = await seen(lambda member: member)
        assert pending["policy"] == "pending" or pending["check"]["passed"], site.log()
        checked = await seen(lambda member: not member["check"]["due"])
        assert checked["check"]["passed"], checked["check"]
        steps = [step["name"] for step in checked["check"]["steps"]]
        assert steps == ["health", "versions", "report", "clock", "launch", "session", "websocket"]
        slow = await seen(lambda member: member["available"])
        assert slow["slow_start"] < 1

        # A session of somebody's, at the new member.
        await asyncio.to_thread(site.admin, "drain", "member-1")
        await seen(lambda member: member["policy"] == "draining", "member-1")
        fields = ready(await site.federation.launch(http, spec, deadline_s=600))
        assert fields["member"] == "second"
        await asyncio.to_thread(site.admin, "undrain", "member-1")
        notebook = Notebook(http, fields["url"], fields["token"])
        assert await notebook.run("print(6 * 7)") == "42\n"

        # Its key changes while it works.
        rotated = await asyncio.to_thread(site.run, "member", "rotate-key", "--data-dir", str(site.data_dir))
        assert rotated.returncode == 0, rotated.stderr
        assert (await seen(lambda member: member["capacity_age_s"] < 5))["available"]

        # It is drained, and waited for.
        waiting = asyncio.create_task(asyncio.to_thread(site.admin, "members", "drain", "second", "--wait"))
        await seen(lambda member: member["policy"] == "draining")
        left = await asyncio.to_thread(site.run, "member", "leave", "--data-dir", str(site.data_dir), "--timeout", "1s")
        assert left.returncode == 1
        assert "second holds" in left.stderr
        assert not waiting.done()
        assert await notebook.run("print('still here')") == "still here\n"
        async with http.post(
            f"{fields['url']}api/shutdown", headers={"Authorization": f"token {fields['token']}"}
        ) as response:
            assert response.status == 200
        assert json.loads(await asyncio.wait_for(waiting, 600))["empty"] is True

        left = await asyncio.to_thread(site.run, "member", "leave", "--data-dir", str(site.data_dir))
        assert left.returncode == 0, left.stderr
        assert await seen(lambda member: not member) == {}
        before = len(launched)
        async with asyncio.timeout(600):
            while len(launched) < before + 2:
                assert not visiting.done(), visiting.exception()
                await asyncio.sleep(0.5)
    finally:
        ended.set()
        await asyncio.wait_for(visiting, 600)
    assert launched
    assert launched[-1] == "member-1"
