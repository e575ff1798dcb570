"""Builds and capacity in a cluster, fake or real.

The real one is used where ``MANYBINDER_TEST_KUBECONFIG`` names a kubeconfig, of someone who may make namespaces; the
test makes one of its own and removes it.  ``MANYBINDER_TEST_IMAGE`` names an image that its nodes have or can pull,
with ``/bin/sh`` in it.  Nothing here may hold in the fake cluster alone: no fault is asked for, and no time is exact.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.events import Failure
from member.builders.base import BuildRequest
from member.builders.kubernetes.builder import KubernetesBuilder
from member.clients.kubernetes import Kubernetes, KubernetesError
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, node
from tests.member.kubernetes.kube_harness import Reader, build_request_for, read, settings

KUBECONFIG = os.environ.get("MANYBINDER_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("MANYBINDER_TEST_IMAGE", "")

#: Seconds that a cluster may take for anything that is waited for here.
PATIENCE_S = 180.0

#: Some seconds of work, and much more than any test waits for.
LINES = 'for n in 1 2 3 4 5 6 7 8 9 10; do echo "line $n of $#"; sleep 0.15; done'
LONG = "echo begun; sleep 120"


@dataclass
class Place:
    """A namespace of a cluster, and builders that work in it."""

    kubeconfig: Path
    namespace: str
    client: Kubernetes
    tmp_path: Path
    stack: contextlib.AsyncExitStack
    image: str
    start_timeout: str
    """For a build that will not start; a real cluster needs some time to say why."""

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
            api = await stack.enter_async_context(FakeKubernetes())
            api.store.put("nodes", "", node("node-1"))
            kubeconfig, image = api.kubeconfig(tmp_path / "kubeconfig"), "busybox"
            await stack.enter_async_context(Kubelet(api, namespace, images=lambda name: name == "busybox"))
        else:
            if not KUBECONFIG or not IMAGE:
                pytest.skip("needs MANYBINDER_TEST_KUBECONFIG and MANYBINDER_TEST_IMAGE")
            kubeconfig, image = Path(KUBECONFIG), IMAGE
        client = await Kubernetes.connect(kubeconfig)
        stack.push_async_callback(client.close)
        await client.create("namespaces", None, new("Namespace", namespace))
        stack.push_async_callback(client.delete, "namespaces", None, namespace)
        # No pod can be made before its controller has made this.
        await until(lambda: is_there(client, "serviceaccounts", namespace, "default"))
        async with contextlib.AsyncExitStack() as builders:
            start_timeout = "2s" if request.param == "fake" else "45s"
            yield Place(kubeconfig, namespace, client, tmp_path, builders, image, start_timeout)


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
    ("script", "more", "failure", "words"),
    [
        ("echo no; exit 3", {}, Failure.USER, "exit status 3"),
        (LONG, {"timeout": "2s"}, Failure.USER, "longer than 2 seconds"),
        (LONG, {"image": "registry.invalid/none:1"}, Failure.MEMBER, "cannot be pulled"),
        (LONG, {"git_credentials_secret": {"name": "none", "key": "none"}}, Failure.MEMBER, "lacks a Secret"),
        (LONG, {"node_selector": {"manybinder.org/none": "none"}}, Failure.MEMBER, "no node has room"),
    ],
    ids=["fails", "deadline", "image", "secret", "node"],
)
async def test_a_build_that_fails_says_why(
    place: Place, script: str, more: dict[str, Any], failure: Failure, words: str
) -> None:
    if failure is Failure.MEMBER:
        more = {"start_timeout": place.start_timeout, **more}
    builder = await place.builder(script, **more)
    reader = place.read(builder, build_request_for("fails"))
    await reader.end(PATIENCE_S)
    assert reader.error is not None
    assert reader.error.failure is failure
    assert words in str(reader.error)


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
    watch = client.watch("configmaps", place.namespace, version, labels="which=mine", window_s=3)
    heard = [(change.type, change.object["metadata"].get("name")) async for change in watch]
    assert [item for item in heard if item[0] != "BOOKMARK"] == [("ADDED", "after"), ("DELETED", "before")]
