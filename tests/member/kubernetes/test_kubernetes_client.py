"""The client and the informer over a fake API server with every fault that a real one has."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from member.clients.informer import Informer
from member.clients.kubernetes import MAX_LINE, Kubernetes, KubernetesError
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, certificate
from tests.member.member_harness import until

#: All that is waited for is in this process.
pytestmark = pytest.mark.looptime


def pod(name: str, **labels: str) -> dict[str, Any]:
    """A pod that can be made."""
    containers = [{"name": "builder", "image": "busybox"}]
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": containers}}


@contextlib.asynccontextmanager
async def connected(tmp_path: Path) -> AsyncIterator[tuple[FakeKubernetes, Kubernetes]]:
    """A fake API server and a client."""
    async with FakeKubernetes() as api:
        client = await Kubernetes.connect(api.kubeconfig(tmp_path / "kubeconfig"))
        try:
            yield api, client
        finally:
            await client.close()


async def test_a_list_of_many_pages_is_one_state(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        for n in range(1203):
            api.store.put("configmaps", "default", {"metadata": {"name": f"c{n:04}"}})
        items, version = await client.list_all("configmaps", "default")
        assert [item["metadata"]["name"] for item in items] == [f"c{n:04}" for n in range(1203)]
        assert version == str(api.store.version)
        assert api.asked["list configmaps"] == 3


async def test_a_list_that_expires_between_pages_is_told(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        for n in range(600):
            api.store.put("configmaps", "default", {"metadata": {"name": f"c{n}"}})
        api.delay_s = 1.0
        listing = asyncio.create_task(client.list_all("configmaps", "default"))
        await asyncio.sleep(1.5)
        api.end_pages()
        with pytest.raises(KubernetesError) as caught:
            await listing
        assert (caught.value.status, caught.value.reason) == (410, "Expired")


@pytest.mark.parametrize("as_status", [False, True])
async def test_a_version_that_is_too_old_is_told(tmp_path: Path, as_status: bool) -> None:
    async with connected(tmp_path) as (api, client):
        _, version = await client.list_all("pods", "default")
        api.store.compact()
        api.expired_as_status = as_status
        with pytest.raises(KubernetesError) as caught:
            async for _ in client.watch("pods", "default", version, window_s=5):
                pass
        assert (caught.value.status, caught.value.reason) == (410, "Expired")


@pytest.mark.parametrize(
    ("status", "retry_after", "passing"),
    [(429, 3.0, True), (500, None, True), (503, 1.0, True), (401, None, False), (403, None, False)],
)
async def test_errors_say_whether_to_ask_again(
    tmp_path: Path, status: int, retry_after: float | None, passing: bool
) -> None:
    async with connected(tmp_path) as (api, client):
        api.errors["list pods"] = [(status, retry_after)]
        with pytest.raises(KubernetesError) as caught:
            await client.list_all("pods", "default")
        assert (caught.value.status, caught.value.retry_after_s, caught.value.is_passing) == (
            status,
            retry_after,
            passing,
        )


async def test_a_missing_right_is_told_in_the_apis_words(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        api.forbidden.add("list pods")
        with pytest.raises(KubernetesError, match=r'cannot list resource "pods" in API group "" in the namespace'):
            await client.list_all("pods", "default")


async def test_what_does_not_answer_is_an_error_in_time(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        api.delay_s = 3600
        with pytest.raises(KubernetesError, match="no answer in time") as caught:
            await client.get("namespaces", None, "default")
        assert caught.value.is_passing
        api.delay_s, api.deaf = 0, True
        begun = asyncio.get_running_loop().time()
        with contextlib.suppress(KubernetesError):
            async for _ in client.watch("pods", "default", str(api.store.version), window_s=10):
                pass
        assert asyncio.get_running_loop().time() - begun <= 21
    late = await Kubernetes.connect(tmp_path / "kubeconfig")
    with pytest.raises(KubernetesError, match="does not answer") as caught:
        await late.get("namespaces", None, "default")
    assert caught.value.is_passing
    await late.close()


async def test_a_line_of_a_log_has_a_largest_length_and_any_bytes(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        kubelet = Kubelet(api, "default")
        await client.create("pods", "default", pod("p"))
        assert [line async for line in client.log("default", "p", "builder")] == []
        kubelet.schedule("p", "node-1")
        with pytest.raises(KubernetesError, match="waiting to start: ContainerCreating"):
            async for _ in client.log("default", "p", "builder"):
                pass
        kubelet.run("p")
        kubelet.write("p", "short", "x" * (2 * MAX_LINE), "\udcff\udcfe not UTF-8", "")
        kubelet.finish("p")
        lines = [line async for line in client.log("default", "p", "builder")]
        assert [len(line) for line in lines[1:2]] == [MAX_LINE]
        assert lines[0].endswith(b" short")
        assert lines[2].endswith(b"\xff\xfe not UTF-8")
        assert len(lines) == 4
        since = [line async for line in client.log("default", "p", "builder", since="2099-01-01T00:00:00Z")]
        assert since == []


async def test_an_authority_need_not_say_all_that_a_strict_check_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(*given: Any, **more: Any) -> ssl.SSLContext:
        """What Python gives from 3.13 on."""
        made = context(*given, **more)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    context = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", strict)
    async with FakeKubernetes(certificate=certificate()) as api:
        client = await Kubernetes.connect(api.kubeconfig(tmp_path / "kubeconfig"))
        assert (await client.get("namespaces", None, "default"))["kind"] == "Namespace"
        await client.close()
        # That of another cluster is refused all the same.
        api.certificate = certificate()
        client = await Kubernetes.connect(api.kubeconfig(tmp_path / "kubeconfig"))
        with pytest.raises(KubernetesError, match="certificate verify failed"):
            await client.get("namespaces", None, "default")
        await client.close()


async def test_a_token_that_is_refused_is_told(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        api.token = "another"
        with pytest.raises(KubernetesError, match="Unauthorized"):
            await client.get("namespaces", None, "default")


async def test_an_informer_hears_what_happens_and_what_a_selector_leaves_out(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        api.store.put("pods", "default", pod("old", which="mine"))
        informer = Informer(client, "pods", "default", dict, labels="which=mine")
        task = asyncio.create_task(informer.run())
        await informer.wait_synced(5)
        assert set(informer.objects) == {"default/old"}
        change = informer.next_change
        api.store.put("pods", "default", pod("new", which="mine"))
        await asyncio.wait_for(change.wait(), 5)
        api.store.put("pods", "default", pod("foreign", which="theirs"))
        api.change("pods", "default", "old", metadata={"labels": {"which": "theirs"}})
        await until(lambda: set(informer.objects) == {"default/new"})
        # Nothing is listed anew for a watch that ends in order.
        await asyncio.sleep(200)
        assert api.asked["list pods"] == 1
        assert api.asked["watch pods"] >= 3
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_informer_without_an_api_says_so_and_recovers(tmp_path: Path) -> None:
    async with connected(tmp_path) as (api, client):
        api.errors["list pods"] = [(503, None)] * 4
        informer = Informer(client, "pods", "default", dict)
        task = asyncio.create_task(informer.run())
        with pytest.raises(KubernetesError, match="503"):
            await informer.wait_synced(1)
        assert informer.error is not None
        await informer.wait_synced(60)
        assert informer.error is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_watch_that_is_cut_after_a_while_is_soon_another_and_one_that_is_cut_at_once_is_not(
    tmp_path: Path,
) -> None:
    async with connected(tmp_path) as (api, client):
        informer = Informer(client, "pods", "default", dict)
        task = asyncio.create_task(informer.run())
        await informer.wait_synced(5)
        for n in range(8):
            await asyncio.sleep(30)
            assert api.cut() == 1
            api.store.put("pods", "default", pod(f"p{n}"))
            await asyncio.sleep(2)
            assert f"default/p{n}" in informer.objects
        before = api.asked["watch pods"]
        for _ in range(600):
            api.cut()
            await asyncio.sleep(0.1)
        assert api.asked["watch pods"] - before < 15
        # Nor is one that nobody takes, however long it has waited.
        api.delay_s = 3600
        api.cut()
        before = api.asked["watch pods"]
        await asyncio.sleep(350)
        assert api.asked["watch pods"] - before <= 10
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def disturb(api: FakeKubernetes, chance: random.Random) -> float:
    """Something happens, to a pod or to who watches; how many seconds pass."""
    name = f"p{chance.randrange(6)}"
    match chance.randrange(9):
        case 0 | 1 | 2:
            which = chance.choice(["mine", "theirs"])
            api.store.put("pods", "default", {**pod(name, which=which), "status": {"n": chance.random()}})
        case 3 if api.store.get("pods", "default", name):
            api.store.remove("pods", "default", name)
        case 4:
            api.cut()
        case 5:
            api.store.compact()
        case 6:
            api.lose = None if api.lose else lambda _: True
        case 7:
            verb = chance.choice(["list", "watch"])
            api.errors[f"{verb} pods"] = [(chance.choice([429, 500, 503]), chance.choice([None, 2.0]))]
        case _:
            return chance.uniform(0, 30)
    return chance.uniform(0, 2)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_breaks_an_informer_ends_up_with_what_there_is(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with connected(tmp_path) as (api, client):
        api.bookmarks, api.expired_as_status = chance.random() < 0.5, chance.random() < 0.5

        def version(item: Mapping[str, Any]) -> str:
            return str(item["metadata"]["resourceVersion"])

        informer = Informer(client, "pods", "default", version, labels="which=mine", relist_s=120)
        task = asyncio.create_task(informer.run())
        for _ in range(60):
            await asyncio.sleep(disturb(api, chance))
        api.lose = None
        await asyncio.sleep(200)
        mine = [item for item in api.store.all("pods", "default") if item["metadata"]["labels"]["which"] == "mine"]
        assert informer.objects == {f"default/{item['metadata']['name']}": version(item) for item in mine}
        assert informer.error is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
