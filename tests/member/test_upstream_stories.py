"""What BinderHub gets wrong, story by story, and how a member of ours does it instead.

Stories that need a container engine, a registry, a cluster or a repo provider are told where those are tested.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from contract import sse
from contract.events import BuildEvent, Failure, Phase
from contract.repos import repo_key
from member.builders.base import BuildFailedError
from member.core.builds import BuildLimits
from member.core.images import image_name
from tests.member.member_harness import COMMIT, build_request, until
from tests.member.web_harness import DIRECT, SPEC, Member, member_of, read


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    async with member_of(tmp_path) as made:
        yield made


async def launch(member: Member, **claims: object) -> list[BuildEvent]:
    return [event for _, event in await member.events(member.bearer(member.claims(**claims)))]


async def test_a_failed_build_closes_its_stream_and_is_no_longer_in_progress(member: Member) -> None:
    """The failed build that never closes its stream, its gauge up for ever."""
    gate = member.engines.builder.hold(build_request("repo").image)
    member.engines.builder.fail(build_request("repo").image, BuildFailedError(Failure.USER, "no"))
    streams = [asyncio.create_task(launch(member)) for _ in range(3)]
    await until(lambda: member.engines.gauge("binderhub_inprogress_launches") == 3)
    assert member.engines.gauge("binderhub_inprogress_builds") == 1
    gate.set()
    async with asyncio.timeout(60):
        # Each is read until the server closes it.
        for events in await asyncio.gather(*streams):
            assert [event.phase for event in events if event.is_final] == [Phase.FAILED]
    await until(lambda: member.engines.gauge("binderhub_inprogress_builds") == 0)
    assert member.engines.gauge("binderhub_inprogress_launches") == 0


async def test_a_quota_met_after_the_build_is_one_event_that_says_so(tmp_path: Path) -> None:
    """The quota hit after the build that gives two failed events, the second "Internal Server Error"."""
    async with member_of(tmp_path, engine={"session_limit": 1}) as member:
        member.engines.hub.server("other")
        events = await launch(member)
        assert Phase.BUILT in {event.phase for event in events}
        assert [event.phase for event in events].count(Phase.FAILED) == 1
        assert (events[-1].message, events[-1].failure) == (
            "Too many users on this BinderHub! Try again soon.\n",
            Failure.REFUSED,
        )
    async with member_of(tmp_path / "2", engine={"per_repo": 1}) as member:
        member.engines.hub.server("other", repo_url="https://git.example/org/repo.git")
        events = await launch(member)
        assert [event.phase for event in events].count(Phase.FAILED) == 1
        assert events[-1].message == "Too many users running https://git.example/org/repo! Try again soon.\n"
        # Another repository has room.
        other = build_request("other")
        assert (await launch(member, repo_url=other.repo_url))[-1].phase == Phase.READY


@pytest.mark.parametrize(
    "accept",
    [
        "text/event-stream",
        "text/event-stream, */*",
        "*/*, text/event-stream;q=0.9",
        "text/html,text/event-stream",
    ],
)
async def test_an_accept_header_with_several_kinds_is_accepted(member: Member, accept: str) -> None:
    """``Accept: text/event-stream, */*`` that is rejected."""
    items = await member.events({**member.bearer(member.claims()), "Accept": accept})
    assert items[-1][1].phase == Phase.READY


async def test_an_unknown_path_is_not_found(member: Member) -> None:
    """Any unknown path that answers 200."""
    for path in ("nowhere", "build", "build/gh", "api/v1/nothing", "v2"):
        async with member.http.get(member.url + path) as response:
            assert response.status == 404, path
            assert response.content_type == "application/problem+json"
        async with member.http.get(member.url + path, headers={"Accept": "text/html"}) as response:
            assert (response.status, response.content_type) == (404, "text/html")


@pytest.mark.parametrize("let_in", ["https://notes.example", "*"])
async def test_a_script_of_another_origin_may_send_its_api_token(tmp_path: Path, let_in: str) -> None:
    """The preflight without ``Authorization``."""
    origin = "https://notes.example"
    async with member_of(tmp_path, cors_allow_origin=let_in) as member:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,cache-control,last-event-id",
        }
        async with member.http.options(f"{member.url}build/{SPEC}", headers=asked) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == let_in
            assert "Access-Control-Allow-Credentials" not in response.headers
            allowed = {item.strip().lower() for item in response.headers["Access-Control-Allow-Headers"].split(",")}
        assert allowed >= {"authorization", "cache-control", "last-event-id"}


async def test_viewers_of_one_build_take_no_slot_and_who_waits_knows_its_place(tmp_path: Path) -> None:
    """The build limit that counts watchers, without a place in the queue."""
    async with member_of(tmp_path, engine={"limits": BuildLimits(slots=2, grace_s=0.05)}) as member:
        builder = member.engines.builder
        gate = builder.hold(build_request("popular").image)
        popular = build_request("popular").repo_url
        viewers = [asyncio.create_task(launch(member, repo_url=popular)) for _ in range(20)]
        await until(lambda: member.engines.launches.running == 20)
        second = builder.hold(build_request("second").image)
        begun = asyncio.create_task(launch(member, repo_url=build_request("second").repo_url))
        await until(lambda: builder.running == 2)
        waiting = asyncio.create_task(launch(member, repo_url=build_request("third").repo_url))
        await until(lambda: member.engines.builds.queued == 1)
        second.set()
        assert (await begun)[-1].phase == Phase.READY
        assert [event.fields["position"] for event in await waiting if "position" in event.fields] == [1]
        gate.set()
        await asyncio.gather(*viewers)


async def test_a_launch_that_fails_leaves_no_user(member: Member) -> None:
    """Failed launch attempts that leak users."""
    member.engines.hub.spawn_fails = "no luck"
    events = await launch(member)
    assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.MEMBER)
    await until(lambda: not member.engines.hub.users)


async def test_a_client_that_leaves_stops_its_spawn(tmp_path: Path) -> None:
    """The client that leaves and does not stop its spawn."""
    async with member_of(tmp_path, engine={"linger": "100ms"}) as member:
        hub = member.engines.hub
        hub.gate = asyncio.Event()
        async with member.stream(member.bearer(member.claims())) as response:
            await response.content.readany()
            await until(lambda: hub.count("progress"))
        # As the member does every second.
        async with asyncio.timeout(60):
            while hub.users:
                await member.engines.launches.sweep()
                await asyncio.sleep(0.05)
        assert hub.count("stop") >= 1
        assert member.engines.launches.running == 0


async def test_after_a_cached_ready_an_event_source_that_reconnects_launches_nothing(member: Member) -> None:
    """The server that closes at once after a cached ``ready``, so that a native EventSource launches again."""
    await launch(member)
    claims = member.claims()
    items = await member.events(member.bearer(claims))
    assert items[0][1].message == "Found built image, launching...\n"
    # What a browser does after any close: it asks again, and names the last event it has seen.
    for _ in range(3):
        async with member.stream({"Last-Event-ID": items[-1][0]}) as response:
            assert response.status == 204  # which alone makes it stop
    assert len(member.engines.hub.users) == 2


async def test_specs_that_differ_in_case_only_are_built_once_where_the_host_knows_no_case(member: Member) -> None:
    """Specs that differ only in letter case and build twice on GitHub."""
    for url in ("https://github.com/Org/Repo", "https://github.com/org/repo", "https://GitHub.com/ORG/repo.git"):
        assert (await launch(member, repo_url=url))[-1].phase == Phase.READY
    assert member.engines.builder.begun == [image_name("test-", repo_key("https://github.com/org/repo"), COMMIT)]


async def test_no_metric_has_a_label_that_visitors_can_grow(member: Member) -> None:
    """The unbounded ``repo`` label."""

    async def series() -> set[str]:
        async with member.http.get(f"{member.url}metrics") as response:
            lines = (await response.text()).splitlines()
        return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}

    member.engines.builder.fail(build_request("broken-0").image, BuildFailedError(Failure.USER, "no"))
    for name in ("first", "broken-0"):
        await launch(member, repo_url=build_request(name).repo_url)
    before = await series()
    for n in range(1, 6):
        member.engines.builder.fail(build_request(f"broken-{n}").image, BuildFailedError(Failure.USER, "no"))
        for name in (f"fine-{n}", f"broken-{n}"):
            await launch(member, repo_url=build_request(name).repo_url, spec=f"gh/org/{name}/main")
    assert await series() == before


async def test_a_direct_visitors_stream_ends_in_204_too(tmp_path: Path) -> None:
    """The same story as of the cached ``ready``, for a build and a failure."""
    async with member_of(tmp_path, federated=False, required=False) as member:
        for fails in (True, False):
            image = image_name("test-", repo_key("http://127.0.0.1:1/org/repo"), COMMIT)
            if fails:
                member.engines.builder.fail(image, BuildFailedError(Failure.USER, "no"))
            else:
                member.engines.builder.failures.clear()
                member.engines.skew += 61
            async with member.stream({}, spec=DIRECT) as response:
                items = [item async for item in read(response)]
            assert items[-1][1].phase == (Phase.FAILED if fails else Phase.READY)
            async with member.stream({"Last-Event-ID": items[-1][0]}, spec=DIRECT) as response:
                assert response.status == 204
        assert len(member.engines.builder.begun) == 2


async def test_curl_and_a_plain_client_of_binderhub_need_nothing_of_ours(tmp_path: Path) -> None:
    """The documented client flow: a GET with an Accept header, data lines of JSON until ready or failed."""
    async with (
        member_of(tmp_path, federated=False, required=False) as member,
        aiohttp.ClientSession(headers={"Accept": sse.CONTENT_TYPE, "User-Agent": "curl/8"}) as http,
    ):
        url = f"{member.url}build/git/{quote('http://127.0.0.1:1/org/repo', safe='')}/{COMMIT}"
        async with http.get(URL(url, encoded=True)) as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Cache-Control"] == "no-cache"
            body = (await response.read()).decode()
        frames = [frame for frame in body.split("\n\n") if frame]
        for frame in frames:
            assert any(line.startswith("data: {") for line in frame.splitlines())
        assert '"phase":"ready"' in frames[-1]
