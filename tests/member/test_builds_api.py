"""Builds as a visitor of the member's API meets them: logs by link, building alone, trying again."""

import asyncio
import time
from pathlib import Path
from urllib.parse import urlsplit

from yarl import URL

from contract.events import Failure, Phase
from contract.repos import repo_key
from frontend.tokens import make_build_token
from member.builders.base import BuildFailedError
from member.core.builds import FORCE_AFTER_S
from member.core.images import image_name
from tests.member.member_harness import COMMIT, build_request, until
from tests.member.web_harness import DIRECT, member_of


def path_of(log_url: str) -> str:
    assert log_url.startswith("https://member.example/")
    return urlsplit(log_url).path.removeprefix("/")


async def test_a_failed_build_ends_with_a_link_to_its_whole_log(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        image = build_request("repo").image
        member.engines.builder.fail(image, BuildFailedError(Failure.USER, "requirements.txt names no package."))
        events = [event for _, event in await member.events(member.bearer(member.claims()))]
        assert (events[-1].phase, events[-1].failure) == (Phase.FAILED, Failure.USER)
        url = events[-1].fields["log_url"]
        assert events[0].fields["log_url"] == url
        async with member.http.get(member.url + path_of(url)) as response:
            assert response.status == 200
            assert (response.content_type, response.charset) == ("text/plain", "utf-8")
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            text = await response.text()
        assert text == "".join(event.message for event in events)
        held = [event for _, event in await member.events(member.bearer(member.claims()))]
        assert [event.phase for event in held] == [Phase.FAILED]
        assert held[0].fields["reason"] == "held"
        assert held[0].fields["log_url"] == url
        assert 0 < held[0].fields["retry_after_s"] <= 60


async def test_a_log_is_told_while_the_build_runs(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        gate = member.engines.builder.hold(build_request("repo").image)
        following = asyncio.create_task(member.events(member.bearer(member.claims())))
        await until(lambda: member.engines.builder.running)
        (log,) = member.engines.logs._growing.values()
        address = f"{member.url}api/v1/builds/{log.id}/log"
        async with asyncio.timeout(60), member.http.get(address) as response:
            seen = b""
            while b"Step 1\n" not in seen:
                seen += await response.content.readany()
            assert b"Step 2" not in seen
            async with member.http.get(f"{address}?follow=false") as now:
                assert (await now.read()) == seen
            async with member.http.head(address) as head:
                assert (head.status, head.content_type) == (200, "text/plain")
            gate.set()
            assert (await response.read()).endswith(b"Step 2\n")
        assert (await following)[-1][1].phase == Phase.READY


async def test_a_reader_of_a_log_that_leaves_and_an_id_that_nobody_has(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        gate = member.engines.builder.hold(build_request("repo").image)
        following = asyncio.create_task(member.events(member.bearer(member.claims())))
        await until(lambda: member.engines.builder.running)
        (log,) = member.engines.logs._growing.values()
        async with member.http.get(f"{member.url}api/v1/builds/{log.id}/log") as response:
            await response.content.readany()
        gate.set()
        assert (await following)[-1][1].phase == Phase.READY
        for unknown in ("0" * 32, "..%2f..%2fsecrets", "x"):
            async with member.http.get(f"{member.url}api/v1/builds/{unknown}/log") as response:
                assert response.status == 404
                assert response.content_type == "application/problem+json"


async def test_where_it_is_enabled_an_image_is_built_and_nothing_launched(tmp_path: Path) -> None:
    async with member_of(tmp_path, api_only=True) as member:
        for said, phases in (
            ("Done! Image built\n", [Phase.WAITING, Phase.FETCHING, Phase.BUILDING, Phase.BUILDING, Phase.READY]),
            ("Done! Found built image\n", [Phase.READY]),
        ):
            events = [
                event for _, event in await member.events(member.bearer(member.claims()), query="?build_only=true")
            ]
            assert [event.phase for event in events] == phases
            assert events[-1].message == said
            assert events[-1].fields == {"imageName": build_request("repo").image}
        assert not member.engines.hub.users
        assert member.engines.hub.count("start") == 0
        # A launch is one still, and there are no pages.
        assert (await member.events(member.bearer(member.claims())))[-1][1].fields["url"]
        for path in ("", "about", "v2/gh/org/repo/main"):
            async with member.http.get(member.url + path, headers={"Accept": "text/html"}) as response:
                assert response.status == 404


async def test_what_a_gateway_signs_to_be_built_alone_is_no_launch_and_no_session(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        launches, gate = member.engines.launches, member.engines.builder.hold(build_request("repo").image)
        headers = member.bearer(member.claims(build_only=True))
        following = asyncio.create_task(member.events(headers, query="?build_only=true"))
        await until(lambda: member.engines.builder.running)
        assert (launches.running, launches.servers, launches.seen) == (1, frozenset(), ())
        gate.set()
        last = (await following)[-1][1]
        assert (last.phase, last.fields) == (Phase.READY, {"imageName": build_request("repo").image})
        assert not member.engines.hub.users
        assert launches.seen == ()
        # Without the query too: it is the gateway's word that counts.
        again = await member.events(member.bearer(member.claims(build_only=True)))
        assert [event.message for _, event in again] == ["Done! Found built image\n"]
        async with member.http.get(f"{member.url}metrics") as response:
            text = await response.text()
        assert 'binderhub_build_count_total{provider="gh",status="success"} 1.0' in text
        assert "binderhub_launch_count_total{" not in text


async def test_force_builds_again_for_who_comes_from_a_page_and_for_no_script(tmp_path: Path) -> None:
    async with member_of(tmp_path, federated=False, required=False) as member:
        repo = repo_key("http://127.0.0.1:1/org/repo")
        builder, image = member.engines.builder, image_name("test-", repo, COMMIT)
        builder.fail(image, BuildFailedError(Failure.USER, "no"))
        token = make_build_token(member.secret, DIRECT, URL(member.url).authority, time.time())

        async def attempt(query: str) -> str:
            (_, last) = (await member.events({}, spec=DIRECT, query=query))[-1]
            assert last.failure == Failure.USER
            return str(last.fields.get("reason", "built"))

        assert await attempt("") == "built"
        assert await attempt(f"?force=true&build_token={token}") == "held"  # it has failed just now
        member.engines.skew = FORCE_AFTER_S
        assert await attempt("?force=true") == "held"
        assert await attempt(f"?build_token={token}") == "held"
        assert await attempt(f"?force=true&build_token={token}") == "built"
        assert builder.begun == [image] * 2


async def test_a_gateway_passes_its_visitors_wish_on(tmp_path: Path) -> None:
    async with member_of(tmp_path) as member:
        builder, image = member.engines.builder, build_request("repo").image
        builder.fail(image, BuildFailedError(Failure.USER, "no"))
        await member.events(member.bearer(member.claims()))
        member.engines.skew = FORCE_AFTER_S
        await member.events(member.bearer(member.claims()))
        assert builder.begun == [image]
        await member.events(member.bearer(member.claims(force=True)))
        assert builder.begun == [image] * 2
