"""What has gone wrong in public federations, played against a gateway process and members on real sockets.

Each test bears the story in its name; what a member fakes, it fakes over HTTP.  Faults of whole member processes, with
real notebooks, are in ``tests/faults``.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Failure, Phase, parse_event
from contract.reports import Builds, Sessions
from contract.signatures import private_pem, public_pem
from gateway.core.policies import POLICIES
from tests.fakes.member import FakeMember
from tests.federation import free_port
from tests.gateway.harness import COMMIT, SPEC, spec_of

#: Quick ejections and returns; patient otherwise, for a busy machine is no fault of a member's.
SETTINGS: dict[str, Any] = {
    "probes": {"interval": "200ms", "timeout": "5s", "report_max_age": "1h", "slow_start": "1s"},
    "ejection": {"base_time": "1s", "max_time": "2s"},
    "launch": {"connect_timeout": "20s", "first_event_timeout": "20s", "member_timeout": "60s"},
    "providers": {"git": {"allow_private_addresses": True}},
}


@dataclass
class Federation:
    """A gateway process in front of members."""

    url: str
    http: aiohttp.ClientSession
    members: dict[str, FakeMember]
    process: asyncio.subprocess.Process
    settings: Path

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of an address."""
        async with self.http.get(self.url + path) as response:
            return response.status, await response.text()

    async def views(self) -> dict[str, dict[str, Any]]:
        """What the gateway believes of each member."""
        _, text = await self.get("api/v1/federation")
        return {member["name"]: member for member in json.loads(text)["members"]}

    async def launch(self, spec: str = SPEC, patience: float = 150) -> list[BuildEvent]:
        """All events of a launch, in one stream, which may last ``patience`` seconds."""
        events = []
        async with asyncio.timeout(patience), self.open(spec) as response:
            assert response.status == 200, await response.text()
            parser = sse.Parser()
            async for chunk in response.content.iter_any():
                events += [parse_event(item.data) for item in parser.feed(chunk)]
        assert [event.is_final for event in events] == [False] * (len(events) - 1) + [True]
        return events

    @contextlib.asynccontextmanager
    async def open(self, spec: str = SPEC) -> AsyncIterator[aiohttp.ClientResponse]:
        """A launch's stream."""
        url = URL(f"{self.url}build/{spec}", encoded=True)
        async with self.http.get(url, headers={"Accept": sse.CONTENT_TYPE}) as response:
            yield response

    async def taken_by(self, spec: str = SPEC) -> str:
        """The member at which a launch becomes ready, as it must."""
        last = (await self.launch(spec))[-1]
        assert last.phase == Phase.READY, last.message
        return str(last.fields["member"])

    async def report(self, name: str, **changes: Any) -> None:
        """Send a member's capacity report."""
        member = self.members[name]
        report = member.signed(member.report(time.time(), images=(), **changes))
        async with self.http.post(f"{self.url}api/v1/reports", data=report) as response:
            assert response.status == 204, await response.text()

    async def until(self, name: str, deadline_s: float = 60, **expected: Any) -> dict[str, Any]:
        """Wait until the gateway believes this of a member."""
        async with asyncio.timeout(deadline_s):
            while True:
                view = (await self.views())[name]
                if all(view[key] == value for key, value in expected.items()):
                    return view
                await asyncio.sleep(0.05)

    async def gauges(self, metric: str) -> dict[str, float]:
        """A metric's samples by their labels."""
        _, text = await self.get("metrics")
        lines = [line for line in text.splitlines() if line.startswith(f"{metric}{{")]
        return {line.split("{")[1].split("}")[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


@contextlib.asynccontextmanager
async def federation(tmp_path: Path, count: int = 3, **changes: Any) -> AsyncIterator[Federation]:
    """A real gateway process and members on real sockets."""
    async with contextlib.AsyncExitStack() as stack:
        members = [await FakeMember(f"member-{n + 1}").start() for n in range(count)]
        for member in members:
            stack.push_async_callback(member.stop)
        port = free_port()
        path = write_settings(tmp_path, port, members, **changes)
        log = stack.enter_context((tmp_path / "gateway.log").open("wb"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "manybinder", "gateway", "--config", str(path), stderr=log
        )
        stack.push_async_callback(ended, process)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        running = Federation(
            f"http://127.0.0.1:{port}/", http, {member.name: member for member in members}, process, path
        )
        await serving(running)
        yield running
        assert process.returncode is None
    assert "Traceback" not in (tmp_path / "gateway.log").read_text()


async def serving(running: Federation) -> None:
    """Wait until a gateway has seen all its members."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                if (await running.get("readyz"))[0] == 200:
                    return
            await asyncio.sleep(0.05)


async def ended(process: asyncio.subprocess.Process) -> None:
    """End a gateway."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(60):
        assert await process.wait() == 0


def write_settings(tmp_path: Path, port: int, members: list[FakeMember], **changes: Any) -> Path:
    """A gateway's settings as its operator writes them."""
    tree: dict[str, Any] = {
        "schema": 1,
        "public_url": f"http://127.0.0.1:{port}/",
        "listen": {"port": port},
        "data_dir": str(tmp_path / "data"),
        "signing_key": private_pem(Ed25519PrivateKey.generate()),
        "members": [
            {"name": fake.name, "url": fake.url, "report_key": public_pem(fake.key.public_key())} for fake in members
        ],
    }
    for name in {*SETTINGS, *changes}:
        change = changes.get(name, {})
        tree[name] = {**SETTINGS.get(name, {}), **change} if isinstance(change, dict) else change
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


async def test_row_1_the_prime_member_was_suspended_and_the_whole_site_went_down_with_it(tmp_path: Path) -> None:
    async with federation(tmp_path, launch={"member_timeout": "3s"}) as running:
        for gone in ("member-1", "member-2"):
            await running.members[gone].stop()
            await running.until(gone, health="unreachable")
            assert await running.taken_by() not in ("member-1", gone)
        await running.members["member-3"].stop()
        await running.until("member-3", health="unreachable")
        for page in ("", "status", "about", "badge_logo.svg", f"v2/{SPEC}", "api/repoproviders", "versions"):
            assert (await running.get(page))[0] == 200, page
        assert (await running.get("health"))[0] == 503
        events = await running.launch()
        assert events[-2].fields["reason"] == "waiting"
        assert events[-1].failure == Failure.REFUSED
        assert events[-1].fields["retry_after_s"] > 0
        assert "member-3 is unreachable" in events[-1].message


async def test_row_1_with_no_member_left_launches_wait_in_a_bounded_queue_until_one_returns(tmp_path: Path) -> None:
    async with federation(tmp_path, 1, launch={"waiting_limit": 3}) as running:
        await running.members["member-1"].stop()
        await running.until("member-1", health="unreachable")
        launches = [asyncio.create_task(running.launch(spec_of(f"r{n}"))) for n in range(3)]
        async with asyncio.timeout(60):
            while (json.loads((await running.get("api/v1/federation"))[1]))["waiting"] < 3:
                await asyncio.sleep(0.02)
        refused = await running.launch(spec_of("one-too-many"))
        assert refused[-1].failure == Failure.REFUSED
        await running.members["member-1"].start()
        assert {(await launch)[-1].phase for launch in launches} == {Phase.READY}


async def test_row_2_a_full_member_skipped_its_version_check_and_up_to_date_ones_were_thrown_out(
    tmp_path: Path,
) -> None:
    async with federation(tmp_path) as running:
        await running.report("member-1", sessions=Sessions(10, 0, 10, 0), versions={"manybinder": "0.0.1"})
        for name in ("member-2", "member-3"):
            await running.report(name, versions={"manybinder": "99.0"})
        views = await running.views()
        assert views["member-1"]["state"] == "full"
        assert {views[name]["state"] for name in ("member-2", "member-3")} == {"available"}
        assert {await running.taken_by(spec_of(f"r{n}")) for n in range(12)} == {"member-2", "member-3"}


async def test_row_3_a_members_deploy_failed_and_an_exact_version_match_kept_it_out_for_days(tmp_path: Path) -> None:
    async with federation(tmp_path) as running:
        await running.report("member-2", versions={"manybinder": "99.0"})
        view = (await running.views())["member-2"]
        assert (view["state"], view["available"]) == ("available", True)
        assert "99.0" in view["version_skew"]
        assert "99.0" in (await running.get("status"))[1]
        skewed = await running.gauges("federation_version_skew")
        assert skewed == {'member="member-1"': 0, 'member="member-2"': 1, 'member="member-3"': 0}
        assert "member-2" in {await running.taken_by(spec_of(f"r{n}")) for n in range(20)}


async def test_row_4_zero_launches_for_eleven_hours_while_health_said_ok(tmp_path: Path) -> None:
    async with federation(tmp_path) as running:
        broken = running.members[await running.taken_by()]
        broken.knobs.final = {"phase": "failed", "message": "exceeded quota: pods\n", "failure": "member"}
        assert (await running.views())[broken.name]["checks"][0]["ok"]
        ejected = False
        for n in range(60):
            assert await running.taken_by() != broken.name
            view = (await running.views())[broken.name]
            ejected = ejected or view["health"] == "ejected"
            if ejected and n > 10:
                break
            await asyncio.sleep(0.4)
        assert ejected
        reasons = [item["reason"] for item in view["history"] if item["after"] == "ejected"]
        assert "3 launches in a row failed there" in reasons[0]
        # The member's own words may be about one visitor's repository: for the log, not for the public.
        assert "exceeded quota: pods" not in reasons[0]
        assert "exceeded quota: pods" in (tmp_path / "gateway.log").read_text()
        assert (await running.gauges("federation_health_check"))[f'check="launching",member="{broken.name}"'] == 0
        sent = len(broken.builds)
        broken.knobs.final = None
        async with asyncio.timeout(60):
            while (await running.views())[broken.name]["health"] != "healthy":
                assert (await running.launch())[-1].phase == Phase.READY
        assert len(broken.builds) > sent


async def test_row_5_a_members_registry_was_down_and_hurt_another_member(tmp_path: Path) -> None:
    async with federation(tmp_path, 2) as running:
        first, second = running.members.values()
        first.knobs.health_status = 503
        first.knobs.health_checks = [{"service": "Docker registry", "ok": False}, {"service": "JupyterHub", "ok": True}]
        view = await running.until(first.name, health="failing")
        assert view["reasons"] == ["It says that it is not healthy: Docker registry."]
        assert (await running.views())[second.name]["state"] == "available"
        assert {await running.taken_by(spec_of(f"r{n}")) for n in range(6)} == {second.name}
        first.knobs.health_status = 200
        await running.until(first.name, health="healthy")


async def test_row_6_one_member_was_removed_and_the_next_drowned_in_its_load(tmp_path: Path) -> None:
    async with federation(tmp_path, probes={"slow_start": "1h"}) as running:
        room = {"member-1": 100, "member-2": 100, "member-3": 20}
        for name, limit in room.items():
            await running.report(name, sessions=Sessions(0, 0, limit, limit), builds=Builds(limit=50))
        await running.members["member-1"].stop()
        await running.until("member-1", health="unreachable")
        taken = Counter(await asyncio.gather(*[running.taken_by(spec_of(f"r{n}")) for n in range(90)]))
        assert set(taken) == {"member-2", "member-3"}
        # By room, and none beyond it.
        assert taken["member-3"] <= 20
        assert taken["member-2"] <= 100
        for name in ("member-2", "member-3"):
            assert (await running.views())[name]["believed_free"] == room[name] - taken[name]
        await running.members["member-1"].start()
        view = await running.until("member-1", health="healthy")
        # Nor does it drown itself when it is back.
        assert view["slow_start"] == 0.1
        assert "slowly at first" in " ".join(view["reasons"])


async def test_row_7_a_member_that_hung_kept_receiving_traffic_and_the_metrics_said_healthy(tmp_path: Path) -> None:
    probes = {"timeout": "1s"}
    async with federation(
        tmp_path, probes=probes, launch={"first_event_timeout": "2s", "connect_timeout": "1s"}
    ) as running:
        hung = running.members[await running.taken_by()]
        hung.knobs.health_hang = hung.knobs.hang = True
        assert await running.taken_by() != hung.name
        view = await running.until(hung.name, health="unreachable")
        assert view["reasons"] == ["It did not answer within 1 s."]
        health = await running.gauges("federation_health")
        assert health[f'member="{hung.name}",reason="unreachable"'] == 0
        builds = len(hung.builds)
        assert hung.name not in {await running.taken_by(spec_of(f"r{n}")) for n in range(6)}
        assert len(hung.builds) == builds
        hung.knobs.health_hang = hung.knobs.hang = False
        await running.until(hung.name, health="healthy")
        health = await running.gauges("federation_health")
        assert [value for labels, value in health.items() if hung.name in labels] == [1]
        checks = await running.gauges("federation_health_check")
        assert {value for labels, value in checks.items() if hung.name in labels} == {1}


@pytest.mark.parametrize("policy", sorted(POLICIES))
async def test_row_8_a_typo_in_one_balancing_mode_reached_production(tmp_path: Path, policy: str) -> None:
    async with federation(tmp_path, routing={"policy": policy}) as running:
        taken = Counter(await asyncio.gather(*[running.taken_by(spec_of(f"r{n}")) for n in range(30)]))
        assert set(taken) == set(running.members)
        gone = running.members["member-2"]
        await gone.stop()
        assert "member-2" not in set(await asyncio.gather(*[running.taken_by(spec_of(f"s{n}")) for n in range(10)]))


async def test_row_8_a_policy_that_does_not_exist_never_starts(tmp_path: Path) -> None:
    path = write_settings(tmp_path, free_port(), [], routing={"policy": "rendezvouz"})
    code, errors = await checked(path)
    assert code == 2
    assert "routing: policy: unknown policy 'rendezvouz' (known: random, rendezvous, tiered)" in errors


async def test_row_9_two_hundred_people_of_one_tutorial_came_within_a_minute(tmp_path: Path) -> None:
    async with federation(tmp_path) as running:
        for name, member in running.members.items():
            await running.report(name, sessions=Sessions(0, 0, 100, 100), builds=Builds(limit=6))
            member.knobs.gate_at = 2
        crowd = [asyncio.create_task(running.launch()) for _ in range(200)]
        async with asyncio.timeout(90):
            while sum(member.open_streams for member in running.members.values()) < 200:
                await asyncio.sleep(0.05)
        for member in running.members.values():
            member.gate.set()
        ends = [(await launch)[-1] for launch in crowd]
        assert Counter(end.phase for end in ends) == {Phase.READY: 200}
        taken = Counter(end.fields["member"] for end in ends)
        # Where it is being built first, and then spread before that one is full: each builds it once.
        assert len(taken) == 3
        assert max(taken.values()) <= 85
        launches = await running.gauges("manybinder_gateway_launches_total")
        assert sum(value for labels, value in launches.items() if 'outcome="ready"' in labels) == 200
        assert sum(value for labels, value in launches.items() if 'outcome="ready"' not in labels) == 0


async def test_row_11_the_four_hour_cookie_pinned_people_to_a_broken_member(tmp_path: Path) -> None:
    async with federation(tmp_path, mode="redirect") as running:
        url = URL(f"{running.url}build/{SPEC}", encoded=True)
        cookie, sent = "", []
        for _ in range(2):
            headers = {"Accept": sse.CONTENT_TYPE, "Cookie": cookie}
            async with running.http.get(url, headers=headers, allow_redirects=False) as response:
                assert response.status == 307
                cookie = response.headers["Set-Cookie"].partition(";")[0]
                sent.append(cookie.partition("=")[2].partition("~")[0])
        # The launch page never saw the first launch become ready, so the refresh went elsewhere.
        assert sent[0] != sent[1]


async def test_row_19_the_status_page_always_showed_success(tmp_path: Path) -> None:
    async with federation(tmp_path) as running:
        await running.members["member-2"].stop()
        running.members["member-3"].knobs.health_status = 503
        await running.until("member-2", health="unreachable")
        await running.until("member-3", health="failing")
        views = await running.views()
        _, page = await running.get("status")
        for name, view in views.items():
            row = page.split(f">{name}</a>")[1].split("</article>")[0]
            assert f'{"good" if view["available"] else "bad"}">{view["state"]}<' in row
            assert all(reason.partition("'")[0] in row for reason in view["reasons"])
        assert "Members taking launches: 1 of 3" in page
        decision = json.loads((await running.get(f"api/v1/explain?repo={SPEC.replace('%', '%25')}"))[1])
        assert decision["member"] == "member-1"
        assert {item["member"] for item in decision["rejected"]} == {"member-2"}


async def test_row_20_a_member_set_to_null_crashed_the_loading_of_the_configuration(tmp_path: Path) -> None:
    path = write_settings(tmp_path, free_port(), [])
    tree = yaml.safe_load(path.read_text())
    tree["members"] = [None, {"name": "b", "url": None}]
    tree["listen"]["port"] = "many"
    path.write_text(yaml.safe_dump(tree))
    code, errors = await checked(path)
    assert code == 2
    for where in ("members[0]: ", "members[1].url: ", "listen.port: "):
        assert where in errors
    assert "Traceback" not in errors


async def test_row_20_bad_settings_leave_a_running_gateway_as_it_is(tmp_path: Path) -> None:
    async with federation(tmp_path, 2) as running:
        good = yaml.safe_load(running.settings.read_text())

        async def reload(tree: dict[str, Any], outcome: str) -> None:
            label = f'outcome="{outcome}"'
            before = (await running.gauges("manybinder_gateway_config_reloads_total"))[label]
            running.settings.write_text(yaml.safe_dump(tree))
            running.process.send_signal(signal.SIGHUP)
            async with asyncio.timeout(60):
                while (await running.gauges("manybinder_gateway_config_reloads_total"))[label] == before:
                    await asyncio.sleep(0.05)

        await reload({**good, "members": [None, *good["members"]], "routing": {"policy": "none"}}, "refused")
        log = (tmp_path / "gateway.log").read_text()
        assert "the settings were not changed" in log
        assert "members[0]: " in log
        assert "unknown policy 'none'" in log
        assert set(await running.views()) == {"member-1", "member-2"}
        first = await running.taken_by()
        # What is mended takes effect at once, and what is believed of those that stay is kept.
        third = await FakeMember("member-3").start()
        running.members["member-3"] = third
        gone = {"member-1": "member-2", "member-2": "member-1"}[first]
        new = {"name": third.name, "url": third.url, "report_key": public_pem(third.key.public_key())}
        stays = [{**item, "weight": 7} for item in good["members"] if item["name"] == first]
        before = (await running.views())[first]
        await reload({**good, "members": [*stays, new]}, "accepted")
        await running.until("member-3", state="available")
        views = await running.views()
        assert set(views) == {first, "member-3"}
        assert (views[first]["weight"], views[first]["history"]) == (7, before["history"])
        assert gone not in {await running.taken_by(spec_of(f"r{n}")) for n in range(6)}
        await running.report("member-3")
        await third.stop()


async def test_row_21_each_ref_of_a_repository_went_to_another_member(tmp_path: Path) -> None:
    async with federation(tmp_path) as running:
        for repo in ("one", "two", "three", "four"):
            members = set()
            for ref in (COMMIT, "b" * 40, "c" * 40):
                spec = spec_of(repo).replace(COMMIT, ref)
                for spelling in (spec, spec.replace(f"{repo}/", f"{repo}.git/"), spec.replace("https", "HTTPS")):
                    members.add(await running.taken_by(spelling))
            assert len(members) == 1
        # Nor does the provider: a project has one name, whichever way and at whichever ref it is addressed.
        members = set()
        for ref in (COMMIT, "b" * 40):
            for spec in ("gl/Group%2Fproject/{}", "git/https%3A%2F%2Fgitlab.com%2Fgroup%2Fproject.git/{}"):
                members.add(await running.taken_by(spec.format(ref)))
        assert len(members) == 1


async def checked(path: Path) -> tuple[int | None, str]:
    """What ``manybinder gateway --check-config`` says of settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "manybinder",
        "gateway",
        "--check-config",
        "--config",
        str(path),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()
