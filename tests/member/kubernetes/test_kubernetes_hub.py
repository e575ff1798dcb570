"""Sessions in a cluster: a real JupyterHub, as zero-to-jupyterhub loads our spawner into it, over the fake cluster.

Once with what the Hub of zero-to-jupyterhub 4.4 holds (JupyterHub 5), once with JupyterHub 6.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from member.clients.hub import SpawnFailedError
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, node
from tests.member.kubernetes.hub_harness import ROOT, ClusterHub, cluster_hub, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VISITOR = {"Authorization": "token the-visitors"}
OPTIONS = {
    "image": "registry/x:1",
    "token": "the-visitors",
    "repo_url": "https://git.example/org/repo",
    "binder_launch_host": "https://binder.example/",
    "binder_request": "v2/gh/org/repo/main",
}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images of all sessions hold."""
    return environment(tmp_path_factory.mktemp("image") / "env", ROOT / "member" / "builders" / "jupyterlab.txt")


@pytest.fixture(scope="module", params=["JupyterHub 5", "JupyterHub 6"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Hub's image holds."""
    if request.param == "JupyterHub 6":
        return Path(sys.executable)
    place = environment(tmp_path_factory.mktemp("hub") / "env", ROOT / "requirements" / "z2jh-hub.txt")
    return place / "bin" / "python"


@pytest.fixture
async def cluster(sessions: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeKubernetes]:
    monkeypatch.setenv("PATH", f"{sessions}/bin:/usr/bin:/bin")
    async with FakeKubernetes() as api:
        api.namespace("hub")
        api.store.put("nodes", "", node("node-1"))
        yield api


async def launch(hub: ClusterHub, user: str, **options: str) -> None:
    await hub.client.start(user, OPTIONS | options)
    async with asyncio.timeout(250):
        _ = [message async for message in hub.client.progress(user)]


async def until_no_pod(cluster: FakeKubernetes) -> None:
    async with asyncio.timeout(150):
        while cluster.store.all("pods", "hub"):
            await asyncio.sleep(0.1)


async def test_a_session_is_a_pod_that_only_its_visitor_may_use_until_it_is_ended(
    cluster: FakeKubernetes, python: Path, tmp_path: Path
) -> None:
    kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
    async with (
        Kubelet(cluster, "hub"),
        cluster_hub(python, tmp_path / "hub", kubeconfig, cors_allow_origin="https://page.example") as hub,
        aiohttp.ClientSession() as http,
    ):
        await launch(hub, "org-repo-1")
        (pod,) = cluster.store.all("pods", "hub")
        container = pod["spec"]["containers"][0]
        environ = {item["name"]: item.get("value") for item in container["env"]}
        assert container["image"] == "registry/x:1"
        assert container["resources"] == {
            "limits": {"cpu": 1.0, "memory": 2 * 2**30},
            "requests": {"cpu": 0.05, "memory": 2**30},
        }
        assert environ["JUPYTER_TOKEN"] == "the-visitors"
        assert environ["BINDER_REPO_URL"] == "https://git.example/org/repo"
        assert environ["GIVEN"] == "by the operator"
        assert not [name for name in environ if name.startswith(("JUPYTERHUB_", "JPY_"))]
        assert "the-visitors" not in str(container.get("args")) + str(container.get("command"))
        assert pod["metadata"]["labels"]["component"] == "singleuser-server"
        assert pod["spec"]["imagePullSecrets"] == [{"name": "manybinder-registry"}]

        status = f"{hub.session_url}user/org-repo-1/api/status"
        async with http.get(status) as response:
            assert response.status == 403
        async with http.get(status, headers={**VISITOR, "Origin": "https://page.example"}) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
        async with http.get(status, headers={**VISITOR, "Origin": "https://other.example"}) as response:
            assert response.headers.get("Access-Control-Allow-Origin") in (None, "https://page.example")
        (user,) = await hub.client.users()
        assert (user.name, user.ready, user.repo_url) == ("org-repo-1", True, "https://git.example/org/repo")

        await hub.client.remove("org-repo-1")
        await until_no_pod(cluster)
        assert await hub.client.users() == []
        page = {"Accept": "text/html"}
        async with http.get(f"{hub.url}user/org-repo-1/lab", headers=page) as response:
            assert response.status == 410
            assert 'href="https://binder.example/v2/gh/org/repo/main"' in await response.text()

        # One that nobody ends is ended by the culler, which the chart of the Hub starts.
        await launch(hub, "org-repo-2")
        async with hub.culler(max_age_s=1):
            await until_no_pod(cluster)
            async with asyncio.timeout(150):
                while await hub.client.users():
                    await asyncio.sleep(0.1)


async def test_what_keeps_a_session_from_starting_is_said_in_plain_words_and_leaves_nothing(
    cluster: FakeKubernetes, python: Path, tmp_path: Path
) -> None:
    kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
    traits = {"pull_timeout": 1.0, "start_timeout": 20}
    async with (
        Kubelet(cluster, "hub", images=lambda image: "absent" not in image),
        cluster_hub(python, tmp_path / "hub", kubeconfig, **traits) as hub,
    ):
        for n in range(3):
            with pytest.raises(
                SpawnFailedError, match=r"image cannot be pulled \((ErrImagePull|ImagePullBackOff): .*x/absent"
            ):
                await launch(hub, f"absent-{n}", image="x/absent:1")
        cluster.change("nodes", "", "node-1", spec={"unschedulable": True})
        with pytest.raises(SpawnFailedError, match=r"No node of the cluster has room for the session \(0/1 nodes are"):
            await launch(hub, "no-room")
        cluster.change("nodes", "", "node-1", spec={"unschedulable": False})
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", urlsplit(hub.session_url).port or 0))
            with pytest.raises(SpawnFailedError, match=r"ended while it started \(exit status 1\).*already in use"):
                await launch(hub, "broken")
        await until_no_pod(cluster)
        for user in await hub.client.users():
            await hub.client.remove(user.name)
        # It would end itself, and all launches with it.
        assert "consecutive spawns failed" not in hub.log


async def test_a_pod_that_is_taken_away_while_it_starts_fails_the_launch_at_once(
    cluster: FakeKubernetes, python: Path, tmp_path: Path
) -> None:
    kubelet = Kubelet(cluster, "hub")

    async def fails(hub: ClusterHub, user: str, end: Callable[[str], object], said: str) -> None:
        """Start a session, end its pod by its name, and see what the Hub says of it."""
        await hub.client.start(user, OPTIONS)
        async with asyncio.timeout(60):
            while not cluster.store.all("pods", "hub"):
                await asyncio.sleep(0.1)
        (pod,) = cluster.store.all("pods", "hub")
        name = pod["metadata"]["name"]
        kubelet.schedule(name, "node-1")
        messages = hub.client.progress(user)
        async with asyncio.timeout(150):
            await anext(messages)
            end(name)
            with pytest.raises(SpawnFailedError, match=said):
                _ = [message async for message in messages]
        await until_no_pod(cluster)

    def delete(name: str) -> None:
        """As a drain of its node does; it is gone once its node has let go of it."""
        cluster.change("pods", "hub", name, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
        letting_go.append(asyncio.create_task(let_go(name, cluster.asked["delete pods"])))

    async def let_go(name: str, before: int) -> None:
        async with asyncio.timeout(150):
            while cluster.asked["delete pods"] == before:
                await asyncio.sleep(0.1)
        kubelet.remove(name)

    letting_go: list[asyncio.Task[None]] = []

    async with cluster_hub(python, tmp_path / "hub", cluster.kubeconfig(tmp_path / "kubeconfig")) as hub:
        message = "The node was low on resource: memory."
        said = r"node gave it up \(Evicted: The node was low on resource: memory\)"
        await fails(hub, "evicted", lambda name: kubelet.evict(name, message), said)
        said = r"node gave it up \(OutOfpods: Pod was rejected"
        await fails(hub, "refused", lambda name: kubelet.refuse(name, "node-1", "OutOfpods"), said)
        await fails(hub, "deleted", delete, "was removed from the cluster while it started")
        await asyncio.gather(*letting_go)
