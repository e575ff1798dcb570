"""Builds in pods: what visitors see and what the cluster is asked, whatever breaks on the way."""

import asyncio
import json
from pathlib import Path

import pytest

from contract.events import Failure, Phase
from member.builders.base import BuildFailedError
from member.core.pods import pod_name
from tests.fakes.kubernetes import quota
from tests.member.kubernetes.kube_harness import NAMESPACE, cluster
from tests.member.member_harness import until

#: All that is waited for is in this process.
pytestmark = pytest.mark.looptime


def r2d(phase: str, message: str) -> str:
    """A line as repo2docker writes it."""
    return json.dumps({"phase": phase, "message": message})


async def test_a_build_is_a_pod_whose_log_is_told_and_whose_image_is_there(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        request = there.request()
        assert not await builder.has_image(request.image)
        reader = there.read(builder, request)
        name = await there.running()
        there.kubelet.write(name, r2d("fetching", "Cloning\n"), r2d("building", "Step 1"), "not JSON")
        await until(lambda: len([item for item in reader.events if item.phase is not Phase.WAITING]) == 3)
        there.kubelet.write(name, r2d("failed", "no end by a tool's word"))
        there.succeed(name)
        log = await reader.end()
        assert reader.error is None
        assert log[-4:] == ["Cloning\n", "Step 1\n", "not JSON\n", "no end by a tool's word\n"]
        assert not any(item.is_final for item in reader.events)
        assert await builder.has_image(request.image)
        assert [image.image for image in await builder.images()] == [request.image]


async def test_two_replicas_share_one_pod_and_each_tells_the_whole_log(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        replicas = [await there.builder(), await there.builder()]
        first = there.read(replicas[0])
        name = await there.running()
        there.kubelet.write(name, *(r2d("building", f"Step {n}\n") for n in range(50)))
        await until(lambda: "Step 49\n" in first.log)
        second = there.read(replicas[1])
        await until(lambda: "Step 49\n" in second.log)
        there.succeed(name)
        for reader in (first, second):
            log = await reader.end()
            assert [line for line in log if line.startswith("Step")] == [f"Step {n}\n" for n in range(50)]
        assert there.api.asked["create pods"] == 2


async def test_who_leaves_last_deletes_the_pod(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        replicas = [await there.builder(), await there.builder()]
        readers = [there.read(replicas[0]), there.read(replicas[1])]
        name = await there.running()
        there.kubelet.write(name, "a line")
        await until(lambda: all("a line\n" in reader.log for reader in readers))
        await readers[0].leave()
        assert "deletionTimestamp" not in there.pods[0]["metadata"]
        there.kubelet.write(name, "another")
        await until(lambda: "another\n" in readers[1].log)
        await readers[1].leave()
        assert "deletionTimestamp" in there.pods[0]["metadata"]


async def test_a_member_that_restarts_joins_the_builds_that_run(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        before = await there.builder()
        reader = there.read(before)
        name = await there.running()
        there.kubelet.write(name, "one")
        await until(lambda: "one\n" in reader.log)
        await before.close()
        await reader.end()
        assert "deletionTimestamp" not in there.pods[0]["metadata"]
        there.kubelet.write(name, "two")
        after = await there.builder()
        again = there.read(after)
        await until(lambda: "two\n" in again.log)
        there.succeed(name)
        assert [line for line in await again.end() if line in ("one\n", "two\n")] == ["one\n", "two\n"]
        assert len(there.pods) == 1
        third = await there.builder()
        assert [image.image for image in await third.images()] == [there.request().image]


@pytest.mark.parametrize("fault", ["cut", "end"])
async def test_a_log_that_breaks_goes_on_without_a_line_lost_or_twice(tmp_path: Path, fault: str) -> None:
    async with cluster(tmp_path) as there:
        faults = there.api.logs.cut_after if fault == "cut" else there.api.logs.end_after
        faults += [3, 0, 7, 1, 12]
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        second = 1_800_000_000_000_000_000
        for n in range(40):
            # Several lines of one moment, several moments of one second.
            there.kubelet.write(name, f"line {n}", at_ns=second + (n // 3) * 150_000_000)
        await until(lambda: not faults)
        there.kubelet.write(name, "line 40")
        there.succeed(name)
        log = await reader.end()
        assert [line for line in log if line.startswith("line")] == [f"line {n}\n" for n in range(41)]


async def test_watches_that_break_expire_or_lose_events_lose_no_build(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        await until(lambda: there.api.asked["get pods/log"])
        there.api.cut()
        there.api.store.compact()
        there.kubelet.write(name, "after the cut")
        await until(lambda: "after the cut\n" in reader.log)
        await asyncio.sleep(60)
        assert there.api.asked["list pods"] > 2
        # From here on nothing of pods is told any more.
        there.api.lose = lambda change: change.plural == "pods"
        there.succeed(name)
        await reader.end()
        assert reader.error is None


async def test_a_deletion_that_no_watch_tells_ends_the_build(tmp_path: Path) -> None:
    """The DELETED event that is missed between two watches, and hangs the build for ever."""
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        await until(lambda: there.api.asked["get pods/log"])
        there.api.deaf = True
        there.kubelet.remove(name)
        await reader.end()
        assert reader.error is not None
        assert reader.error.failure is Failure.MEMBER
        assert "deleted" in str(reader.error)


async def test_a_pod_that_was_cleared_away_after_its_success_is_a_success(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        await until(lambda: there.api.asked["get pods/log"])
        there.api.deaf = True
        there.succeed(name)
        there.kubelet.remove(name)
        await reader.end()
        assert reader.error is None


async def test_a_lost_answer_to_the_creation_makes_no_second_pod(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        there.api.lost_answers["create pods"] = 2
        there.api.errors["create pods"] = [(429, 7.0), (503, None)]
        builder = await there.builder()
        begun = asyncio.get_running_loop().time()
        reader = there.read(builder)
        name = await there.running()
        assert asyncio.get_running_loop().time() - begun >= 7
        there.succeed(name)
        await reader.end()
        assert reader.error is None
        assert len(there.pods) == 1


async def test_a_quota_that_is_counted_for_others_meanwhile_is_asked_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        there.api.errors["create pods"] = [(409, None)] * 3
        reader = there.read(builder)
        there.succeed(await there.running())
        await reader.end()
        assert reader.error is None
        assert there.api.asked["create pods"] == 4
        # Not for ever.
        there.api.errors["create pods"] = [(409, None)] * 1000
        begun = asyncio.get_running_loop().time()
        refused = there.read(builder, there.request("another"))
        await refused.end()
        assert 30 < asyncio.get_running_loop().time() - begun <= 60
        assert refused.error is not None
        assert refused.error.failure is Failure.MEMBER


async def test_an_earlier_build_that_failed_is_replaced(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        there.kubelet.finish(await there.running(), 1)
        await reader.end()
        assert reader.error is not None
        uid = there.pods[0]["metadata"]["uid"]
        again = there.read(builder)
        await until(lambda: there.pods and there.pods[0]["metadata"]["uid"] != uid)
        there.succeed(await there.running())
        await again.end()
        assert again.error is None


async def test_a_pod_of_another_image_under_the_same_name_is_left_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        request = there.request()
        name = pod_name(request.repo, request.commit)
        meta = {"name": name, "annotations": {"manybinder.org/image": "another:1"}}
        there.api.store.put("pods", NAMESPACE, {"metadata": meta, "spec": {}, "status": {"phase": "Pending"}})
        reader = there.read(builder)
        second = await there.pod(lambda pod: bool(pod["metadata"]["name"] != name))
        assert second[:-2] == name[:-2]
        there.kubelet.schedule(second, "node-1")
        there.kubelet.run(second)
        there.succeed(second)
        await reader.end()
        assert reader.error is None
        assert len(there.pods) == 2


async def test_an_image_that_is_gone_from_the_registry_is_built_anew(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        there.succeed(name)
        await reader.end()
        there.registry.manifests.clear()
        uid = there.pods[0]["metadata"]["uid"]
        again = there.read(builder)
        await until(lambda: there.pods and there.pods[0]["metadata"]["uid"] != uid)
        there.succeed(await there.running())
        await again.end()
        assert again.error is None


async def test_a_registry_that_is_broken_is_not_an_image_that_is_missing(tmp_path: Path) -> None:
    """A registry's error that is read as "image not found"."""
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        there.registry.status = 500
        with pytest.raises(BuildFailedError, match=r"the registry .* answered HTTP 500") as caught:
            await builder.has_image(there.request().image)
        assert caught.value.failure is Failure.MEMBER
        assert [check.ok for check in await builder.checks()] == [True, False, True]
        there.registry.status = None
        assert [check.ok for check in await builder.checks()] == [True, True, True]


async def test_a_quota_without_room_and_a_missing_right_are_told_apart(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        there.api.store.put("resourcequotas", NAMESPACE, quota("few", {"pods": "1"}, {"pods": "1"}))
        builder = await there.builder()
        reader = there.read(builder)
        await reader.end()
        assert reader.error is not None
        assert "quota has no room" in str(reader.error)
        there.api.forbidden.add("create pods")
        reader = there.read(builder)
        await reader.end()
        assert reader.error is not None
        assert reader.error.failure is Failure.MEMBER
        assert "does not take the build" in str(reader.error)


async def test_builds_use_no_right_beyond_those_that_the_documentation_lists(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder(sticky=True, start_timeout="30s", keep_finished="0s")
        kept, given_up, stuck = (there.read(builder, there.request(name)) for name in "abc")
        await until(lambda: len(there.pods) == 3)
        names = {pod["metadata"]["annotations"]["binder-repo"][-1]: pod["metadata"]["name"] for pod in there.pods}
        there.kubelet.schedule(names["a"], "node-1")
        there.kubelet.run(names["a"])
        there.succeed(names["a"])
        await kept.end()
        await given_up.leave()
        there.kubelet.unschedulable(names["c"])
        await stuck.end()
        await asyncio.sleep(2)
        await builder.clean()
        documented = (Path(__file__).parents[3] / "docs" / "kubernetes-builder.md").read_text()
        for request, count in there.api.asked.items():
            verb, _, resource = request.partition(" ")
            assert any(
                f"`{resource}`" in line and f"`{verb}`" in line for line in documented.splitlines() if line[:1] == "|"
            ), f"{request} ({count} times) is not in the table"
