"""Builds that do not start, nodes that go, clean-up, sticky builds, and room that shrinks: over the fake cluster."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from contract.events import Failure, Phase
from contract.rendezvous import score
from member.builders.kubernetes.builder import KubernetesBuilder
from tests.fakes.kubernetes import Kubelet, node, quota
from tests.member.kubernetes.kube_harness import NAMESPACE, cluster, settings
from tests.member.member_harness import until

#: All that is waited for is in this process.
pytestmark = pytest.mark.looptime


def now() -> float:
    """Virtual seconds."""
    return asyncio.get_running_loop().time()


async def test_a_build_that_finds_no_node_is_told_and_given_up_after_its_time(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder(start_timeout="5m")
        begun = now()
        reader = there.read(builder)
        there.kubelet.unschedulable(await there.pod())
        await reader.end()
        assert 300 <= now() - begun <= 320
        assert reader.error is not None
        assert reader.error.failure is Failure.MEMBER
        assert "Insufficient memory" in str(reader.error)
        told = [item for item in reader.events if "Insufficient memory" in item.message]
        assert [item.phase for item in told] == [Phase.WAITING]
        await until(lambda: not there.pods)


async def test_a_node_that_is_found_late_is_no_failure(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder(start_timeout="5m")
        reader = there.read(builder)
        there.kubelet.unschedulable(await there.pod())
        await asyncio.sleep(290)
        there.succeed(await there.running())
        await reader.end()
        assert reader.error is None


@pytest.mark.parametrize(
    ("reason", "at_most_s", "words"),
    [
        ("InvalidImageName", 5, "not valid"),
        ("CreateContainerConfigError", 60, "lacks a Secret"),
        ("ErrImagePull", 120, "cannot be pulled"),
    ],
)
async def test_what_needs_an_operator_is_given_up_sooner(
    tmp_path: Path, reason: str, at_most_s: float, words: str
) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        begun = now()
        reader = there.read(builder)
        name = await there.pod()
        there.kubelet.schedule(name, "node-1")
        there.kubelet.waiting(name, reason)
        await reader.end()
        assert now() - begun <= at_most_s
        assert reader.error is not None
        assert reader.error.failure is Failure.MEMBER
        assert words in str(reader.error)
        await until(lambda: "deletionTimestamp" in there.pods[0]["metadata"])


async def test_a_pull_that_backs_off_between_tries_has_one_patience(tmp_path: Path) -> None:
    """The ImagePullBackOff that nobody notices."""
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.pod()
        there.kubelet.schedule(name, "node-1")
        begun = now()
        while reader.task is not None and not reader.task.done():
            for reason in ("ErrImagePull", "ImagePullBackOff"):
                there.kubelet.waiting(name, reason, "not found")
                await asyncio.sleep(10)
        assert 60 <= now() - begun <= 130


async def test_what_the_cluster_says_of_a_pod_that_hangs_is_told(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder(start_timeout="1m")
        reader = there.read(builder)
        name = await there.pod()
        there.kubelet.schedule(name, "node-1")
        uid = there.pods[0]["metadata"]["uid"]
        there.api.store.put(
            "events",
            NAMESPACE,
            {
                "metadata": {"name": "e1"},
                "involvedObject": {"kind": "Pod", "name": name, "uid": uid},
                "type": "Warning",
                "reason": "FailedMount",
                "message": 'MountVolume.SetUp failed for volume "docker-socket": hostPath type check failed',
                "lastTimestamp": "2026-01-01T00:00:00Z",
            },
        )
        await reader.end()
        assert "hostPath type check failed" in str(reader.error)


async def test_a_node_that_is_lost_is_the_members_failure(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        reader = there.read(builder)
        name = await there.running()
        there.kubelet.write(name, "begun")
        await until(lambda: "begun\n" in reader.log)
        # What the taint manager does, a minute after the node was last heard of; the log hangs.
        disrupted = {
            "type": "DisruptionTarget",
            "status": "True",
            "message": "Taint manager: deleting due to NoExecute",
        }
        there.api.change("pods", NAMESPACE, name, status={"conditions": [disrupted]})
        there.api.change("pods", NAMESPACE, name, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
        begun = now()
        await reader.end()
        assert now() - begun < 60
        assert reader.error is not None
        assert reader.error.failure is Failure.MEMBER
        assert "Taint manager" in str(reader.error)


async def test_finished_and_old_build_pods_are_removed_and_no_others(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder(keep_finished="2m", max_age="4h")
        reader = there.read(builder)
        there.succeed(await there.running())
        await reader.end()

        def put(name: str, made: str, **status: Any) -> None:
            meta = {"name": name, "labels": {"component": "binderhub-build"}, "creationTimestamp": made}
            there.api.store.put("pods", NAMESPACE, {"metadata": meta, "spec": {}, "status": status})

        put("old", "2026-01-01T00:00:00Z", phase="Running")
        ended = {"name": "builder", "state": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z", "exitCode": 1}}}
        put("failed", "2099-01-01T00:00:00Z", phase="Failed", containerStatuses=[ended])
        put("new", "2099-01-01T00:00:00Z", phase="Running")
        there.api.store.put(
            "pods", NAMESPACE, {"metadata": {"name": "other"}, "spec": {}, "status": {"phase": "Failed"}}
        )
        await asyncio.sleep(1)
        await builder.clean()
        left = [pod["metadata"]["name"] for pod in there.pods]
        assert len(left) == 3
        assert {"new", "other"} < set(left)


def engine(name: str, at: str | None, *, ready: bool = True) -> dict[str, Any]:
    """A pod of the engine's DaemonSet."""
    return {
        "metadata": {"name": name, "labels": {"app": "binder", "component": "image-builder"}},
        "spec": {"nodeName": at} if at else {},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


async def test_sticky_builds_go_to_one_ready_node_and_none_is_needed(tmp_path: Path) -> None:
    """Sticky builds that crash without builder pods, or with one that has no node."""
    async with cluster(tmp_path) as there:
        builder = await there.builder(sticky=True)
        request = there.request()

        async def wanted() -> list[str] | None:
            reader = there.read(builder, request)
            await there.pod(lambda pod: "manybinder.org/image" in (pod["metadata"].get("annotations") or {}))
            made = next(pod for pod in there.pods if pod["metadata"].get("annotations"))
            await reader.leave()
            affinity = made["spec"]["affinity"]
            assert ("nodeAffinity" in affinity) is not ("podAntiAffinity" in affinity)
            terms = affinity.get("nodeAffinity", {}).get("preferredDuringSchedulingIgnoredDuringExecution", [])
            return terms[0]["preference"]["matchFields"][0]["values"] if terms else None

        assert await wanted() is None
        there.api.store.put("pods", NAMESPACE, engine("unplaced", None, ready=False))
        there.api.store.put("pods", NAMESPACE, engine("unready", "node-9", ready=False))
        await asyncio.sleep(1)
        assert await wanted() is None
        nodes = [f"node-{n}" for n in range(5)]
        for at in nodes:
            there.api.store.put("pods", NAMESPACE, engine(f"engine-{at}", at))
        await asyncio.sleep(1)
        best = sorted(nodes, key=lambda at: -score(1.0, request.repo, at))
        assert await wanted() == best[:1]
        there.api.store.remove("pods", NAMESPACE, f"engine-{best[0]}")
        await asyncio.sleep(1)
        assert await wanted() == best[1:2]


async def test_room_for_sessions_shrinks_within_seconds_of_what_takes_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        there.api.store.put("nodes", "", node("node-1", memory="10Gi"))
        there.api.store.put("nodes", "", node("node-2", memory="10Gi"))
        builder = await there.builder(sessions={"namespace": "hub", "memory": "1Gi"})

        async def room(expected: int) -> None:
            begun = now()
            while (await builder.resources()).sessions != expected:
                assert now() - begun < 5, f"{(await builder.resources()).sessions} is not {expected}"
                await asyncio.sleep(0.1)

        def session(name: str, **more: Any) -> dict[str, Any]:
            labels = {"app": "jupyterhub", "component": "singleuser-server"}
            container = {"name": "notebook", "resources": {"requests": {"memory": "1Gi"}}}
            return {
                "metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"nodeName": "node-2", "containers": [container]},
                "status": {"phase": "Running"},
                **more,
            }

        await room(20)
        there.api.store.put("pods", "hub", session("jupyter-a"))
        await room(19)
        there.api.change("nodes", "", "node-1", spec={"unschedulable": True})
        await room(9)
        there.api.store.put("resourcequotas", "hub", quota("few", {"pods": "10"}, {"pods": "6"}))
        await room(4)
        there.api.store.put("resourcequotas", "hub", quota("few", {"pods": "10"}, {"pods": "10"}))
        await room(0)
        there.api.store.remove("resourcequotas", "hub", "few")
        await room(9)
        # What was refused long ago says nothing of now; what has waited as long, and is refused now, does.
        ago = "2026-01-01T00:00:00Z"
        refused = {"phase": "Failed", "reason": "OutOfpods", "startTime": ago}
        there.api.store.put("pods", "hub", session("jupyter-old", status=refused))
        there.api.store.put("pods", "hub", session("jupyter-b", status={"phase": "Pending"}))
        await room(8)
        Kubelet(there.api, "hub").refuse("jupyter-b", "node-2", "OutOfpods")
        await room(0)
        there.api.change("nodes", "", "node-1", spec={"unschedulable": None})
        await room(10)
        known = await builder.checks()
        assert known[-1].ok
        assert "1 sessions run, 0 wait, 2 have failed" in known[-1].message


async def test_an_api_that_is_gone_leaves_no_room_and_comes_back(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        builder = await there.builder()
        assert (await builder.resources()).sessions
        there.api.deaf = True
        requests = [f"{verb} {what}" for verb in ("list", "watch") for what in ("pods", "nodes")]
        there.api.errors = {request: [(503, None)] * 50 for request in requests}
        there.api.cut()
        await asyncio.sleep(60)
        # That may pass.
        assert (await builder.resources()).sessions
        assert all(check.ok for check in await builder.checks())
        await asyncio.sleep(140)
        assert (await builder.resources()).sessions == 0
        assert [check.service for check in await builder.checks() if not check.ok] == [
            "Kubernetes API",
            "Cluster capacity",
        ]
        there.api.errors.clear()
        there.api.deaf = False
        await asyncio.sleep(30)
        assert (await builder.resources()).sessions
        assert all(check.ok for check in await builder.checks())


async def test_a_member_without_rights_says_which_at_its_start(tmp_path: Path) -> None:
    async with cluster(tmp_path) as there:
        there.api.forbidden.add("list nodes")
        with pytest.raises(RuntimeError, match=r'cannot list resource "nodes" .* at the cluster scope'):
            await there.builder()
        limited = await there.builder(capacity="limit")
        assert (await limited.resources()).sessions is None
        there.api.token = "another"
        with pytest.raises(RuntimeError, match="HTTP 401"):
            await there.builder()


async def test_outside_of_a_cluster_a_kubeconfig_is_needed(tmp_path: Path) -> None:
    builder = KubernetesBuilder(settings(tmp_path / "none", "http://127.0.0.1:9", tmp_path))
    with pytest.raises(RuntimeError, match="none cannot be used"):
        await builder.start()
    builder = KubernetesBuilder(settings(None, "http://127.0.0.1:9", tmp_path))
    with pytest.raises(RuntimeError, match="does not run in a pod"):
        await builder.start()
