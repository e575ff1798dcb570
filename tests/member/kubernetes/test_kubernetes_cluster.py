"""Builds and capacity in a cluster, fake or real.

The real one is used where ``MANYBINDER_TEST_KUBECONFIG`` names a kubeconfig, of someone who may make namespaces and do
anything in them, list and watch nodes and the pods of all namespaces, and cordon nodes (one is, for seconds; where the
test is killed meanwhile, ``kubectl uncordon`` it); who may not gets failures with the API's own words.  Each test makes
a namespace of its own and removes it.  ``MANYBINDER_TEST_IMAGE`` names an image that its nodes have or can pull without
a password (an entry point does not matter), with ``/bin/sh`` and ``sleep`` in it, such as BusyBox or Debian.  A node
must take pods without tolerations (a control plane alone does not), have room for a few of 16 MiB, and count ephemeral
storage.  Nothing here may hold in the fake cluster alone: no fault is asked for, and no time is exact.
"""

import asyncio
import base64
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.events import Failure
from contract.signatures import private_pem
from member import joined
from member.builders.base import BuildRequest
from member.builders.kubernetes.builder import KubernetesBuilder
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.core import leases
from member.core.launching import Launch
from member.core.pod_log import LogPosition
from member.engines.cluster_ledger import ClusterLedger
from member.engines.replicas import Replicas
from member.joined_secret import JoinedSecret
from servicekit.tasks import Tasks
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, certificate, node
from tests.member.kubernetes.kube_harness import Reader, build_request_for, read, settings
from tests.member.member_harness import order

KUBECONFIG = os.environ.get("MANYBINDER_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("MANYBINDER_TEST_IMAGE", "")

#: Seconds that a cluster may take for anything that is waited for here.
PATIENCE_S = 240.0

#: What keeps a build from starting is told by a real cluster within this: a node may look for a minute or two for a
#: registry that is not there, and pulls the image before it misses a Secret.
SLOWLY, SOON = "200s", "45s"

#: Some seconds of work, and much more than any test waits for.  Not every sleep knows parts of a second.
LINES = 'for n in 1 2 3 4 5 6 7 8 9 10; do echo "line $n of $#"; sleep 0.15 2>/dev/null || sleep 1; done'
LONG = "echo begun; sleep 600"


@dataclass
class Place:
    """A namespace of a cluster, and builders that work in it."""

    kubeconfig: Path
    namespace: str
    client: Kubernetes
    tmp_path: Path
    stack: contextlib.AsyncExitStack
    image: str
    real: bool

    async def builder(self, script: str = LINES, **more: Any) -> KubernetesBuilder:
        """A builder whose builds run a script."""
        own = {
            "namespace": self.namespace,
            "image": self.image,
            "engine": "none",
            "command": ["/bin/sh", "-c", script, "builder"],
            "memory_request": "16Mi",
            "memory": "256Mi",
            "cpu_request": 0.01,
            "disk_request": "1Mi",
            "sessions": {"namespace": self.namespace, "memory": "64Mi"},
            **more,
        }
        made = KubernetesBuilder(settings(self.kubeconfig, "", self.tmp_path, **own))
        await made.start()
        self.stack.push_async_callback(made.close)
        return made

    def read(self, builder: KubernetesBuilder, request: BuildRequest) -> Reader:
        """Begin a build, or join it."""
        reader = read(builder, request)
        self.stack.push_async_callback(reader.leave)
        return reader

    async def pods(self) -> list[dict[str, Any]]:
        """The build pods that there are."""
        return (await self.client.list_all("pods", self.namespace, labels="component=binderhub-build")).items


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something asynchronous holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.2)


async def is_there(client: Kubernetes, plural: str, namespace: str, name: str) -> bool:
    """Whether the cluster has an object."""
    try:
        await client.get(plural, namespace, name)
    except KubernetesError as error:
        if error.status != 404:
            raise
        return False
    return True


def new(kind: str, name: str, *, labels: dict[str, str] | None = None, **parts: Any) -> dict[str, Any]:
    """An object to be made."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **parts}


@pytest.fixture(params=["fake", "real"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """A namespace of its own."""
    namespace = f"manybinder-test-{secrets.token_hex(4)}"
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "fake":
            api = await stack.enter_async_context(FakeKubernetes(certificate=certificate()))
            api.store.put("nodes", "", node("node-1"))
            kubeconfig, image = api.kubeconfig(tmp_path / "kubeconfig"), "busybox"
            await stack.enter_async_context(Kubelet(api, namespace, images=lambda name: name == "busybox"))
        else:
            if bool(KUBECONFIG) != bool(IMAGE):
                pytest.fail("MANYBINDER_TEST_KUBECONFIG and MANYBINDER_TEST_IMAGE go together")
            if not KUBECONFIG:
                pytest.skip("needs MANYBINDER_TEST_KUBECONFIG and MANYBINDER_TEST_IMAGE")
            kubeconfig, image = Path(KUBECONFIG), IMAGE
        client = await Kubernetes.connect(kubeconfig)
        stack.push_async_callback(client.close)
        # Build pods run as root, which a cluster may forbid where nothing is said.  By the other label you find what a
        # test that was killed has left.
        labels = {"pod-security.kubernetes.io/enforce": "privileged", "app.kubernetes.io/part-of": "manybinder-tests"}
        await client.create("namespaces", None, new("Namespace", namespace, labels=labels))
        stack.push_async_callback(client.delete, "namespaces", None, namespace)
        # No pod can be made before its controller has made this.
        await until(lambda: is_there(client, "serviceaccounts", namespace, "default"))
        async with contextlib.AsyncExitStack() as builders:
            yield Place(kubeconfig, namespace, client, tmp_path, builders, image, request.param == "real")


def lines(reader: Reader) -> list[str]:
    """What the script has said."""
    return [text for text in reader.log if text.startswith(("line", "begun"))]


async def test_a_build_runs_and_tells_its_log(place: Place) -> None:
    builder = await place.builder()
    request = build_request_for("runs")
    reader = place.read(builder, request)
    await reader.end(PATIENCE_S)
    assert reader.error is None
    # So many words has repo2docker's command line.
    assert lines(reader) == [f"line {n} of 13\n" for n in range(1, 11)]
    assert await builder.has_image(request.image)


async def test_replicas_share_a_build_and_a_third_one_joins_after_a_restart(place: Place) -> None:
    request = build_request_for("shared")
    first, second = await place.builder(), await place.builder()
    readers = [place.read(first, request), place.read(second, request)]
    async with asyncio.timeout(PATIENCE_S):
        while not all(lines(reader) for reader in readers):
            await asyncio.sleep(0.1)
    await first.close()
    third = await place.builder()
    readers = [readers[1], place.read(third, request)]
    for reader in readers:
        await reader.end(PATIENCE_S)
        assert reader.error is None
        assert lines(reader) == [f"line {n} of 13\n" for n in range(1, 11)]
    assert len(await place.pods()) == 1


async def test_a_build_that_is_given_up_leaves_no_pod(place: Place) -> None:
    builder = await place.builder(LONG)
    reader = place.read(builder, build_request_for("given-up"))
    async with asyncio.timeout(PATIENCE_S):
        while not lines(reader):
            await asyncio.sleep(0.1)
    await reader.leave()

    async def gone() -> bool:
        return not await place.pods()

    await until(gone)


@pytest.mark.parametrize(
    ("script", "more", "start_timeout", "failure", "words"),
    [
        ("echo no; exit 3", {}, SLOWLY, Failure.USER, "exit status 3"),
        (LONG, {"timeout": "2s"}, SLOWLY, Failure.USER, "longer than 2 seconds"),
        (LONG, {"image": "registry.invalid/none:1"}, SLOWLY, Failure.MEMBER, "cannot be pulled"),
        (LONG, {"git_credentials_secret": {"name": "none", "key": "none"}}, SLOWLY, Failure.MEMBER, "lacks a Secret"),
        (LONG, {"node_selector": {"manybinder.org/none": "none"}}, SOON, Failure.MEMBER, "no node has room"),
    ],
    ids=["fails", "deadline", "image", "secret", "node"],
)
async def test_a_build_that_fails_says_why(
    place: Place, script: str, more: dict[str, Any], start_timeout: str, failure: Failure, words: str
) -> None:
    if place.real:
        more = {"start_timeout": start_timeout, **more}
    elif failure is Failure.MEMBER:
        more = {"start_timeout": "2s", **more}
    builder = await place.builder(script, **more)
    reader = place.read(builder, build_request_for("fails"))
    await reader.end(PATIENCE_S)
    assert reader.error is not None
    assert reader.error.failure is failure
    assert words in str(reader.error)


async def test_an_address_gets_no_variable_of_the_build(place: Place) -> None:
    # The kubelet puts variables into arguments, those from Secrets too.
    coded = base64.b64encode(b"username=me").decode()
    await place.client.create("secrets", place.namespace, new("Secret", "git", data={"credentials": coded}))
    builder = await place.builder(
        'for word; do last=$word; done; echo "line $last"; test "$GIT_CREDENTIAL_ENV" = username=me',
        git_credentials_secret={"name": "git", "key": "credentials"},
    )
    request = replace(build_request_for("address"), repo_url="https://example.org/$(GIT_CREDENTIAL_ENV)/$$x/$y/$")
    reader = place.read(builder, request)
    await reader.end(PATIENCE_S)
    assert reader.error is None
    assert lines(reader) == ["line https://example.org/$(GIT_CREDENTIAL_ENV)/$$x/$y/$\n"]


async def test_a_log_is_read_from_where_one_was(place: Place) -> None:
    builder = await place.builder()
    reader = place.read(builder, build_request_for("log"))
    await reader.end(PATIENCE_S)
    name = (await place.pods())[0]["metadata"]["name"]

    async def log(since: str = "") -> list[bytes]:
        return [line async for line in place.client.log(place.namespace, name, "builder", since=since)]

    position, whole = LogPosition(), await log()
    assert [position.take(line) for line in whole] == [f"line {n} of 13" for n in range(1, 11)]
    # All of that second come again, and none from before it.
    again = await log(position.since)
    assert again
    assert whole[-len(again) :] == again
    position.reopen()
    assert [position.take(line) for line in again] == [None] * len(again)
    assert await log("2099-01-01T00:00:00Z") == []
    with pytest.raises(KubernetesError) as caught:
        await anext(place.client.log(place.namespace, name, "another"))
    assert caught.value.status == 400


async def test_what_has_ended_is_cleaned_away(place: Place) -> None:
    builder = await place.builder("exit 0", keep_finished="0s")
    reader = place.read(builder, build_request_for("clean"))
    await reader.end(PATIENCE_S)

    async def gone() -> bool:
        await builder.clean()
        return not await place.pods()

    await until(gone)


async def test_a_quota_takes_the_room_for_sessions_away(place: Place) -> None:
    builder = await place.builder()
    assert all(check.ok for check in await builder.checks()), await builder.checks()
    assert ((await builder.resources()).sessions or 0) > 0
    quota = new("ResourceQuota", "none", spec={"hard": {"pods": "0"}})
    await place.client.create("resourcequotas", place.namespace, quota)

    async def without_room() -> bool:
        return (await builder.resources()).sessions == 0

    await until(without_room)


async def test_a_node_that_is_cordoned_takes_its_room_away(place: Place) -> None:
    builder = await place.builder()
    # Where a build has gone, there is room.
    place.read(await place.builder(LONG), build_request_for("cordon"))
    where = await _node_of(place, "component=binderhub-build")
    before = (await builder.resources()).sessions or 0
    assert before > 0

    async def less() -> bool:
        return ((await builder.resources()).sessions or 0) < before

    try:
        await place.client.patch("nodes", None, where, {"spec": {"unschedulable": True}})
        await until(less)
    finally:
        await place.client.patch("nodes", None, where, {"spec": {"unschedulable": None}})


async def test_a_sticky_build_wants_to_go_where_an_engine_is_ready(place: Place) -> None:
    container = {"name": "engine", "image": place.image, "command": ["/bin/sh", "-c", "sleep 600"]}
    engine = new("Pod", "engine", labels={"which": "engine"}, spec={"containers": [container]})
    await place.client.create("pods", place.namespace, engine)

    async def ready() -> bool:
        status = (await place.client.get("pods", place.namespace, "engine")).get("status") or {}
        return any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or [])

    await until(ready)
    where = await _node_of(place, "which=engine")
    builder = await place.builder(LONG, sticky=True, builder_pods="which=engine", slots=5)
    wanted = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [where]}]}
    tried = 0

    async def goes_there() -> bool:
        # A builder that has just started may not have seen the engine yet.
        nonlocal tried
        tried += 1
        place.read(builder, build_request_for(f"sticky-{tried}"))
        await until(lambda: _are(place, tried))
        terms = [
            term["preference"]
            for pod in await place.pods()
            for term in (pod["spec"]["affinity"].get("nodeAffinity") or {}).get(
                "preferredDuringSchedulingIgnoredDuringExecution", []
            )
        ]
        return wanted in terms

    await until(goes_there)


async def _are(place: Place, number: int) -> bool:
    return len(await place.pods()) >= number


async def _node_of(place: Place, labels: str) -> str:
    """The node of the one pod with these labels, once it has one."""
    found: list[str] = []

    async def scheduled() -> bool:
        items = (await place.client.list_all("pods", place.namespace, labels=labels)).items
        found[:] = [item["spec"]["nodeName"] for item in items if item["spec"].get("nodeName")]
        return bool(found)

    await until(scheduled)
    return found[0]


async def test_the_api_refuses_as_the_client_expects(place: Place) -> None:
    client, name = place.client, "conflict"
    made = await client.create("configmaps", place.namespace, new("ConfigMap", name, data={"a": "1"}))
    with pytest.raises(KubernetesError) as caught:
        await client.create("configmaps", place.namespace, new("ConfigMap", name))
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
    patched = await client.patch("configmaps", place.namespace, name, {"data": {"a": None, "b": "2"}})
    assert patched["data"] == {"b": "2"}
    for wrong in ({"uid": "00000000-0000-0000-0000-000000000000"}, {"resource_version": "1"}):
        with pytest.raises(KubernetesError) as caught:
            await client.delete("configmaps", place.namespace, name, **wrong)
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    other = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}
    with pytest.raises(KubernetesError) as caught:
        await client.patch("configmaps", place.namespace, name, other)
    assert caught.value.status == 422
    await client.delete("configmaps", place.namespace, name, uid=made["metadata"]["uid"])
    with pytest.raises(KubernetesError) as caught:
        await client.get("configmaps", place.namespace, name)
    assert caught.value.status == 404
    with pytest.raises(KubernetesError) as caught:
        await client.list_all("pods", place.namespace, fields="spec.hostname=x")
    assert caught.value.status == 400


async def test_a_watch_goes_on_where_a_list_has_ended(place: Place) -> None:
    client = place.client
    await client.create("configmaps", place.namespace, new("ConfigMap", "before", labels={"which": "mine"}))
    items, version = await client.list_all("configmaps", place.namespace, labels="which=mine")
    assert [item["metadata"]["name"] for item in items] == ["before"]
    for name, label in (("after", "mine"), ("other", "foreign")):
        await client.create("configmaps", place.namespace, new("ConfigMap", name, labels={"which": label}))
    # What stops to match is gone, for who watches what matches.
    await client.patch("configmaps", place.namespace, "before", {"metadata": {"labels": {"which": "no-more"}}})
    heard: list[tuple[str, str]] = []
    async with contextlib.aclosing(
        client.watch("configmaps", place.namespace, version, labels="which=mine", window_s=60)
    ) as watch:
        async for change in watch:
            if change.type != "BOOKMARK":
                heard.append((change.type, change.object["metadata"]["name"]))
            if len(heard) == 2:
                break
    assert heard == [("ADDED", "after"), ("DELETED", "before")]
    # For so long as was asked for, and with the version at its end.
    version = (await client.list_all("configmaps", place.namespace, labels="which=none")).resource_version
    silent = client.watch("configmaps", place.namespace, version, labels="which=none", window_s=2)
    changes = [change async for change in silent]
    assert {change.type for change in changes} <= {"BOOKMARK"}


async def test_of_two_changes_of_one_version_one_is_refused(place: Place) -> None:
    client = place.client
    made = await client.create("leases", place.namespace, a_lease("mine"))
    assert made["spec"]["renewTime"] == "2026-01-02T03:04:05.678901Z"
    version = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    changed = await client.patch("leases", place.namespace, "mine", {**version, "spec": {"holderIdentity": "one"}})
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    with pytest.raises(KubernetesError) as caught:
        await client.patch("leases", place.namespace, "mine", {**version, "spec": {"holderIdentity": "other"}})
    assert (caught.value.status, caught.value.reason) == (409, "Conflict")
    # Who names no version changes whatever is there.
    await client.patch("leases", place.namespace, "mine", {"spec": {"holderIdentity": "third"}})
    there = await client.get("leases", place.namespace, "mine")
    assert (there["spec"]["holderIdentity"], there["spec"]["leaseDurationSeconds"]) == ("third", 15)


def a_lease(name: str) -> dict[str, Any]:
    state = leases.ReplicaState(address="http://192.0.2.1:9001")
    return leases.lease(name, "member", leases.REPLICA, "zero", state, now="2026-01-02T03:04:05.678901Z", duration_s=15)


async def replica(place: Place, name: str, tasks: Tasks) -> ClusterLedger:
    """A replica of a member, which has no more to it."""

    async def state() -> leases.ReplicaState:
        return leases.ReplicaState(address=f"http://{name}:9001", ok=True)

    client = await Kubernetes.connect(place.kubeconfig)
    replicas = Replicas(client, place.namespace, "member", name, state=state, tasks=tasks)
    made = ClusterLedger(client, place.namespace, "member", replicas, tasks)
    await made.start()
    return made


async def test_replicas_find_each_other_and_share_launches(place: Place) -> None:
    async with contextlib.AsyncExitStack() as stack:
        tasks = Tasks()
        stack.push_async_callback(tasks.close)
        first, second = [await replica(place, name, tasks) for name in ("a", "b")]

        async def met() -> bool:
            return [item.address for item in second.others] == ["http://a:9001"] and len(first.others) == 1

        await until(met)
        assert first.boot_id == second.boot_id
        mine = order(issued_at=1.0)
        assert await first.take(mine) is None
        assert await first.take(mine) is None
        assert await second.take(mine) == "http://a:9001"
        assert await second.find(mine.launch_id) == "http://a:9001"
        assert await second.find("0" * 32) is None
        launch = Launch(mine, "somebody")
        assert list(await first.claim(launch)) == []
        theirs = order(issued_at=1.0)
        assert await second.take(theirs) is None
        assert [item.key for item in await second.claim(Launch(theirs, "else"))] == ["somebody"]
        assert await first.holds(launch)
        assert not await second.holds(launch)
        # What one has, the other may have once it says good-bye.
        await first.close()
        assert await second.take(mine) is None
        assert await second.find(mine.launch_id) is None

        async def alone() -> bool:
            return not second.others

        await until(alone)
        await second.close()
    left = (await place.client.list_all("leases", place.namespace)).items
    assert left == []


async def test_a_secret_keeps_what_replicas_have_joined(place: Place) -> None:
    key = Ed25519PrivateKey.generate()
    url = "https://binder.example.org/a~b/"
    known = joined.Joined("m", url, f"{url}api/v1/reports", (key.public_key(),), 1.0, key)
    places = [place.tmp_path / name for name in ("one", "other")]
    clients = [await Kubernetes.connect(place.kubeconfig) for _ in places]
    for client in clients:
        place.stack.push_async_callback(client.close)
    kept = [
        JoinedSecret(client, place.namespace, "federations", directory)
        for client, directory in zip(clients, places, strict=True)
    ]
    for one in kept:
        await one.settle()
    joined.keep(places[0], known)
    for directory in places:
        joined.fresh_key(directory, "rotate-x")
    await asyncio.gather(*(one.settle() for one in kept))
    await asyncio.gather(*(one.settle() for one in kept))
    assert [len(joined.read_all(directory)) for directory in places] == [1, 1]
    keys = {private_pem(joined.fresh_key(directory, "rotate-x")) for directory in places}
    assert len(keys) == 1
    # A Secret that somebody has deleted takes no key with it.
    await place.client.delete("secrets", place.namespace, "federations")
    for one in (*kept, *kept):
        await one.settle()
    assert {private_pem(joined.fresh_key(directory, "rotate-x")) for directory in places} == keys
    assert (await place.client.get("secrets", place.namespace, "federations"))["data"]
    joined.forget(places[1], known)
    joined.forget_key(places[1], "rotate-x")
    await kept[1].settle()
    await kept[0].settle()
    assert joined.read_all(places[0]) == []
    assert not (await place.client.get("secrets", place.namespace, "federations")).get("data")
