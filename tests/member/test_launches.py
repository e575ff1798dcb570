"""Launches over a Hub that fails as told: what a visitor is told, and that nothing is left at the Hub."""

import asyncio
import contextlib

import pytest

from contract.events import BuildEvent, Failure, Phase
from member.builders.base import BuildFailedError
from member.core.builds import BuildLimits
from member.core.launching import Launch, Outcome, user_name
from member.engines.reaper import Reaper
from tests.fakes.hub import FakeServer
from tests.member.member_harness import COMMIT, Rig, build_request, order, rig, until


def brief(events: list[BuildEvent]) -> list[tuple[str, str]]:
    """Phases and messages."""
    return [(item.phase.value, item.message) for item in events]


async def running(made: Rig, name: str = "repo") -> Launch:
    """A launch whose server the Hub has been asked to start, and does not."""
    made.hub.gate = asyncio.Event()
    launch = made.launches.start(order(name))
    await until(lambda: made.hub.users.get(launch.user))
    return launch


async def test_a_fresh_launch_tells_binderhubs_phases_in_order() -> None:
    async with rig() as made:
        what = order()
        events = await made.launch(what)
        (user,) = made.hub.users
        url = f"{made.hub.url}user/{user}/"
        assert brief(events) == [
            ("waiting", "Waiting for build to start...\n"),
            ("fetching", "Fetching the repository\n"),
            ("building", "Step 1\n"),
            ("building", "Step 2\n"),
            ("built", "Built image, launching...\n"),
            ("launching", "Launching server...\n"),
            ("launching", "Server requested\n"),
            ("launching", "Starting the notebook server...\n"),
            ("ready", f"server running at {url}\n"),
        ]
        assert events[4].fields == {"imageName": what.image}
        assert made.builder.begun == [what.image]


async def test_a_launch_of_an_image_that_is_there_builds_nothing() -> None:
    async with rig() as made:
        await made.launch(order())
        events = await made.launch(order())
        assert [item.phase for item in events] == [Phase.BUILT, *[Phase.LAUNCHING] * 3, Phase.READY]
        assert events[0].message == "Found built image, launching...\n"
        assert events[0].fields == {"imageName": order().image}
        assert len(made.builder.begun) == 1
        assert len(made.hub.users) == 2


async def test_ready_has_binderhubs_fields_and_the_session_gets_the_same() -> None:
    async with rig() as made:
        what = order()
        ready = (await made.launch(what))[-1].fields
        ((user, server),) = made.hub.users.items()
        assert server is not None
        shared = {
            "image": what.image,
            "repo_url": "https://git.example/org/repo",
            "binder_ref_url": f"https://git.example/org/repo/tree/{COMMIT}",
            "binder_launch_host": "https://gateway.example/",
            "binder_request": "v2/gh/org/repo/main",
            "binder_persistent_request": f"v2/gh/org/repo/{COMMIT}",
            "binder_client_ip": "192.0.2.7",
            "token": server.options["token"],
        }
        assert ready == {**shared, "url": f"{made.hub.url}user/{user}/"}
        assert server.options == {**shared, "repo": "git.example/org/repo"}
        assert len(ready["token"]) >= 43
        async with made.http.get(
            f"{ready['url']}api/status", headers={"Authorization": f"token {ready['token']}"}
        ) as response:
            assert response.status == 200
        assert user.startswith("org-repo-")
        assert what.launch_id not in str(server.options) + user


@pytest.mark.parametrize("request_name", ["users", "make user", "start", "progress"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_hub_is_asked_again(request_name: str, status: int) -> None:
    async with rig() as made:
        made.hub.errors[request_name] = [status]
        events = await made.launch(order())
        assert events[-1].phase == Phase.READY
        assert made.hub.count(request_name) == 2
        assert len(made.hub.users) == 1


@pytest.mark.parametrize("request_name", ["make user", "start"])
async def test_an_answer_that_is_lost_after_the_deed_makes_no_second_user_or_server(request_name: str) -> None:
    async with rig() as made:
        made.hub.lost_answers[request_name] = 1
        events = await made.launch(order())
        assert events[-1].phase == Phase.READY
        assert len(made.hub.users) == 1


@pytest.mark.parametrize("fault", ["progress_cuts", "progress_ends"])
async def test_a_progress_stream_that_breaks_is_followed_again(fault: str) -> None:
    async with rig() as made:
        setattr(made.hub, fault, 1)
        events = await made.launch(order())
        assert events[-1].phase == Phase.READY
        assert made.hub.count("progress") == 2
        assert len(made.hub.users) == 1


async def test_a_spawn_that_fails_is_the_members_failure_and_its_user_goes() -> None:
    async with rig() as made:
        made.hub.spawn_fails = "no place for it"
        what = order()
        last = (await made.launch(what))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.MEMBER)
        assert last.message == f"Failed to launch image {what.image}: Spawn failed: no place for it\n"
        await until(lambda: not made.hub.users)


async def test_a_hub_that_does_not_know_the_member_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    async with rig() as made:
        made.hub.token = "another"
        what = order()
        last = (await made.launch(what))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.MEMBER)
        assert last.message == f"Failed to launch image {what.image}\n"
        assert "does not accept this member's token" in caplog.text
        assert "another" not in caplog.text


@pytest.mark.parametrize("name", ["a b", "..", "Ünï/code"])
async def test_a_name_that_the_hub_does_not_take_is_its_bearers_failure(name: str) -> None:
    async with rig() as made:
        made.hub.username_pattern = r"[a-z]+$"
        last = (await made.launch(order(user=name)))[-1]
        assert (last.phase, last.failure, last.fields["status_code"]) == (Phase.FAILED, Failure.USER, 403)
        assert last.message == f"The JupyterHub here takes nobody who is called {name}. Log in under another name.\n"
        assert not made.hub.users
        assert (await made.launch(order(user="alice")))[-1].phase == Phase.READY
        # A name of this member's own is not its visitor's fault.
        last = (await made.launch(order()))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.MEMBER)


@pytest.mark.parametrize("fault", ["hang", "gate", "session"])
async def test_a_launch_that_takes_too_long_fails_and_leaves_nothing(fault: str) -> None:
    async with rig(timeout="3s", hub_timeout_s=1) as made:
        if fault == "hang":
            made.hub.hang.add("make user")
        elif fault == "gate":
            made.hub.gate = asyncio.Event()
        else:
            made.hub.session_status = 503
        what = order()
        launch = made.launches.start(what)
        last = (await made.events(launch))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.MEMBER)
        assert last.message == f"Image {what.image} for user {launch.user} took too long to launch\n"
        await until(lambda: made.hub.count("remove user") and not made.hub.users)


async def test_a_page_of_the_hub_is_no_session() -> None:
    """Until its route is there, a session's address leads to the Hub, which sends browsers to a page."""
    async with rig() as made:
        made.hub.no_route = 3
        events = await made.launch(order())
        assert events[-1].phase == Phase.READY
        assert made.hub.count("session") == 4
        assert made.hub.count("login") == 0


async def test_a_member_that_is_full_refuses_in_binderhubs_words() -> None:
    async with rig(session_limit=2) as made:
        made.hub.server("somebody")
        made.hub.server("somebody-else", ready=False)
        made.hub.users["without-server"] = None
        last = (await made.launch(order()))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.REFUSED)
        assert last.message == "Too many users on this BinderHub! Try again soon.\n"
        assert last.fields["retry_after_s"] == 60
        assert made.hub.count("make user") == 0
        del made.hub.users["somebody"]
        assert (await made.launch(order()))[-1].phase == Phase.READY


async def test_launches_at_once_cannot_take_more_sessions_than_there_are() -> None:
    async with rig(session_limit=3, concurrent=2) as made:
        await made.launch(order())
        ends = await asyncio.gather(*(made.launch(order()) for _ in range(6)))
        outcomes = sorted(str(events[-1].failure or "ready") for events in ends)
        assert outcomes == ["ready", "ready", "refused", "refused", "refused", "refused"]
        assert len(made.hub.users) == 3


async def test_one_launch_id_has_one_launch() -> None:
    async with rig() as made:
        what = order()
        launch = made.launches.start(what)
        assert made.launches.start(what) is launch
        await made.events(launch)
        assert made.launches.start(what) is launch
        assert len(made.hub.users) == 1
        assert made.launches.seen == (what.launch_id,)


async def test_a_build_that_fails_ends_the_launch_with_its_sentence_and_reaches_no_hub() -> None:
    async with rig() as made:
        what = order()
        made.builder.fail(what.image, BuildFailedError(Failure.USER, "No package is called nonsense."))
        last = (await made.launch(what))[-1]
        assert (last.failure, last.message) == (Failure.USER, "No package is called nonsense.\n")
        assert not made.hub.users
        assert made.launches.find(what.launch_id).outcome == Outcome.USER  # type: ignore[union-attr]
        # It is no session here, and must not be taken for one: the federation may have sent it on.
        assert made.launches.seen == ()


async def test_cancelling_a_launch_that_builds_ends_the_build() -> None:
    async with rig() as made:
        what = order()
        made.builder.hold(what.image)
        launch = made.launches.start(what)
        await until(lambda: made.builder.running)
        made.launches.cancel(launch)
        last = (await made.events(launch))[-1]
        assert (last.phase, last.failure, last.fields["reason"]) == (Phase.FAILED, Failure.USER, "cancelled")
        await until(lambda: made.builder.ended == [what.image])
        await until(lambda: not made.builds.requests)


async def test_cancelling_one_of_two_leaves_the_build_to_the_other() -> None:
    async with rig() as made:
        gate = made.builder.hold(order().image)
        first, second = made.launches.start(order()), made.launches.start(order())
        await until(lambda: made.builder.running)
        made.launches.cancel(first)
        await made.events(first)
        gate.set()
        assert (await made.events(second))[-1].phase == Phase.READY
        assert len(made.builder.begun) == 1


async def test_cancelling_while_the_server_starts_removes_it_even_if_that_takes_long() -> None:
    async with rig() as made:
        launch = await running(made)
        made.hub.slow_stop = 2
        made.launches.cancel(launch)
        last = (await made.events(launch))[-1]
        assert last.message == "The launch was cancelled.\n"
        assert launch.outcome == Outcome.CANCELLED
        await until(lambda: not made.hub.users)
        made.launches.cancel(launch)  # once more does nothing


async def test_cancelling_what_is_ready_changes_nothing() -> None:
    async with rig() as made:
        launch = made.launches.start(order())
        await made.events(launch)
        made.launches.cancel(launch)
        await asyncio.sleep(0)
        assert launch.outcome == Outcome.READY
        assert len(made.hub.users) == 1


async def test_cancelling_before_the_first_step_ends_with_an_event_too() -> None:
    async with rig() as made:
        launch = made.launches.start(order())
        made.launches.cancel(launch)
        events = await made.events(launch)
        assert [item.fields.get("reason") for item in events] == ["cancelled"]


async def test_what_nobody_watches_is_given_up_after_linger_and_not_before() -> None:
    async with rig(linger="60s") as made:
        launch = await running(made)
        with made.launches.watching(launch):
            made.skew = 1000
            await made.launches.sweep()
        made.skew += 59
        await made.launches.sweep()
        await asyncio.sleep(0.05)
        assert launch.finished_at is None
        made.skew += 2
        await made.launches.sweep()
        last = (await made.events(launch))[-1]
        assert last.fields["reason"] == "abandoned"
        await until(lambda: not made.hub.users)


async def test_a_finished_launch_is_forgotten_after_a_while_but_not_under_a_watchers_eyes() -> None:
    async with rig(keep_finished="10m") as made:
        launch = made.launches.start(order())
        await made.events(launch)
        made.skew = 599
        await made.launches.sweep()
        assert made.launches.find(launch.order.launch_id) is launch
        made.skew = 700
        with made.launches.watching(launch):
            await made.launches.sweep()
            assert made.launches.find(launch.order.launch_id) is launch
        await made.launches.sweep()
        assert made.launches.find(launch.order.launch_id) is None
        assert len(made.hub.users) == 1


async def test_no_more_servers_start_at_once_than_allowed_and_who_waits_knows_its_place() -> None:
    async with rig(concurrent=2) as made:
        await made.launch(order())
        made.hub.gate = asyncio.Event()
        launches = [made.launches.start(order()) for _ in range(8)]
        await until(lambda: made.hub.starting == 2 and made.launches.queued == 6)
        assert made.gauge("manybinder_member_queued_launches") == 6
        assert made.gauge("binderhub_inprogress_launches") == 8
        assert len(made.hub.users) == 3
        made.hub.gate.set()
        ends = [await made.events(launch) for launch in launches]
        assert all(events[-1].phase == Phase.READY for events in ends)
        assert made.hub.most_starting == 2
        places = sorted([item.fields["position"] for item in events if "position" in item.fields] for events in ends)
        assert [told[0] for told in places if told] == [1, 2, 3, 4, 5, 6]
        assert all(told == sorted(set(told), reverse=True) for told in places)
        assert made.launches.queued == 0
        assert made.gauge("manybinder_member_queued_launches") == 0
        assert made.gauge("binderhub_inprogress_launches") == 0


async def test_who_leaves_the_queue_lets_the_others_move_up() -> None:
    async with rig(concurrent=1) as made:
        await made.launch(order())
        made.hub.gate = asyncio.Event()
        first, second, third = (made.launches.start(order()) for _ in range(3))
        await until(lambda: made.launches.queued == 2)
        waiting = [launch for launch in (first, second, third) if launch.user not in made.hub.users]
        made.launches.cancel(waiting[0])
        await made.events(waiting[0])
        assert made.launches.queued == 1
        made.hub.gate.set()
        for launch in (first, second, third):
            await made.events(launch)
        outcomes = sorted(str(launch.outcome) for launch in (first, second, third))
        assert outcomes == ["cancelled", "ready", "ready"]
        assert waiting[0].user not in made.hub.users


async def test_closing_ends_every_launch_with_an_event_and_leaves_no_server() -> None:
    async with rig(concurrent=1, limits=BuildLimits(slots=2, grace_s=0.05)) as made:
        await made.launch(order("ready"))
        held = order("builds")
        made.builder.hold(held.image)
        building = made.launches.start(held)
        starting = await running(made)
        waiting = made.launches.start(order())
        await until(lambda: made.builder.running and made.launches.queued)
        await made.launches.close()
        for launch in (building, starting, waiting):
            last = (await made.events(launch, deadline_s=1))[-1]
            assert (last.phase, last.failure, last.fields["reason"]) == (Phase.FAILED, Failure.MEMBER, "restart")
        # Closing has waited for the Hub: right after it the process ends.
        assert starting.user not in made.hub.users
        assert len(made.hub.users) == 1


async def test_closing_does_not_wait_for_a_hub_that_is_gone() -> None:
    async with rig() as made:
        await running(made)
        made.hub.hang |= {"stop", "remove user"}
        async with asyncio.timeout(25):  # less than the Hub is waited for
            await made.launches.close()


async def test_every_way_to_end_is_counted() -> None:
    async with rig() as made:
        await made.launch(order())
        broken = order("broken")
        made.builder.fail(broken.image, BuildFailedError(Failure.USER, "no"))
        await made.launch(broken)
        launch = await running(made)
        made.launches.cancel(launch)
        await made.events(launch)
        sample = made.metrics.registry.get_sample_value
        counted = {
            status: sample("binderhub_launch_count_total", {"status": status, "provider": "gh"})
            for status in ("ready", "user", "cancelled", "member")
        }
        assert counted == {"ready": 1, "user": 1, "cancelled": 1, "member": None}
        times = {
            status: sample("binderhub_launch_time_seconds_count", {"status": status, "retries": "0"})
            for status in ("success", "failure", "cancelled")
        }
        assert times == {"success": 1, "failure": None, "cancelled": 1}
        assert made.gauge("binderhub_inprogress_launches") == 0


async def test_users_are_read_page_by_page() -> None:
    async with rig() as made:
        for n in range(5):
            made.hub.server(f"user-{n}", repo_url=f"https://git.example/org/{n}", ready=n % 2 == 0)
        made.hub.users["user-5"] = None
        users = await made.client.users()
        assert [user.name for user in users] == [f"user-{n}" for n in range(6)]
        assert [user.ready for user in users] == [True, False, True, False, True, False]
        assert [user.has_server for user in users] == [True] * 5 + [False]
        assert users[3].repo_url == "https://git.example/org/3"


async def test_the_reaper_removes_users_whose_session_has_ended_and_no_others() -> None:
    async with rig() as made:
        made.hub.server("lively")
        made.hub.users.update({"ended": None, "new": None})
        reaper = Reaper(made.client, lambda: {"new"})
        await reaper.sweep()
        assert set(made.hub.users) == {"lively", "ended", "new"}
        await reaper.sweep()
        assert set(made.hub.users) == {"lively", "new"}
        made.hub.errors["users"] = [500]
        await reaper.sweep()


async def test_a_user_that_the_hub_cannot_remove_does_not_keep_the_others() -> None:
    async with rig() as made:
        made.hub.users.update({"a-stuck": None, "b-ended": None, "c-ended": None})
        made.hub.errors["stop"] = [403]
        reaper = Reaper(made.client, set)
        await reaper.sweep()
        await reaper.sweep()
        assert set(made.hub.users) == {"a-stuck"}
        await reaper.sweep()
        assert not made.hub.users


async def test_a_server_that_an_ended_api_has_left_is_replaced() -> None:
    async with rig(timeout="20s") as made:
        what = order()
        user = user_name(what.repo_url, what.launch_id)
        made.hub.users[user] = FakeServer({"token": "nobody-knows-it-any-more"}, ready=True)
        events = await made.launch(what)
        assert events[-1].phase is Phase.READY
        server = made.hub.users[user]
        assert server is not None
        assert server.options["token"] == events[-1].fields["token"]


async def test_a_launch_that_is_watched_in_full_has_numbered_entries_from_any_place() -> None:
    async with rig() as made:
        launch = made.launches.start(order())
        await made.events(launch)
        async with contextlib.aclosing(launch.journal.follow(5)) as entries:
            assert [entry.n async for entry in entries] == list(range(6, launch.journal.next_n))
        assert build_request("repo").image == launch.order.image


async def test_a_server_that_does_not_start_is_tried_again_and_leaves_nothing_in_between() -> None:
    async with rig(retries=3, retry_delay="20ms") as made:
        made.hub.spawn_fails_times = 2
        events = await made.launch(order())
        assert events[-1].phase == Phase.READY
        messages = [item.message for item in events]
        assert "Launch attempt 1 failed, retrying...\n" in messages
        assert "Launch attempt 2 failed, retrying...\n" in messages
        assert made.hub.count("remove user") == 2
        assert len(made.hub.users) == 1
        sample = made.metrics.registry.get_sample_value
        assert sample("binderhub_launch_time_seconds_count", {"status": "success", "retries": "2"}) == 1


async def test_retries_have_an_end_and_so_has_the_time_for_all_of_them() -> None:
    async with rig(retries=2, retry_delay="10ms") as made:
        made.hub.spawn_fails = "no luck"
        last = (await made.launch(order()))[-1]
        assert (last.phase, last.failure) == (Phase.FAILED, Failure.MEMBER)
        assert made.hub.count("start") == 3
        await until(lambda: not made.hub.users)
    async with rig(retries=10, retry_delay="1s", timeout="1500ms") as made:
        made.hub.spawn_fails = "no luck"
        last = (await made.launch(order()))[-1]
        assert "took too long to launch" in last.message
        assert made.hub.count("start") < 5
        await until(lambda: not made.hub.users)
