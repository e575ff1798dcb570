"""Sessions in a cluster: a real JupyterHub with our spawner, as zero-to-jupyterhub loads it, over the fake cluster."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from manybinder.ports import free_ports
from member.clients.hub import HubClient, HubError, SpawnFailedError
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, node

HUB_FILES = Path(__file__).parents[3] / "member" / "hub"

TOKEN = "the-services-token"

CONFIG = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    "Whoever asks here goes to the session directly."
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {{}}

c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.db_url = "sqlite:///{place}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{place}/cookie"
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}
c.JupyterHub.services = [{{"name": "binder", "api_token": "{token}"}}]
scopes = ["servers", "admin:users", "read:users", "list:users"]
c.JupyterHub.load_roles = [{{"name": "binder", "services": ["binder"], "scopes": scopes}}]
c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
c.KubeSpawner.namespace = "hub"
c.KubeSpawner.port = {session}
c.KubeSpawner.environment = {{"HOME": "{place}/home", "GIVEN": "by the operator"}}
c.KubeSpawner.http_timeout = 120
c.BinderSpawner.cors_allow_origin = "https://page.example"
c.BinderSpawner.idle_timeout = 3600

load_subconfig("{place}/jupyterhub_config.d/manybinder.py")
import member.hub.kubernetes
assert member.hub.kubernetes.__file__ == "{place}/manybinder/member/hub/kubernetes.py"
"""


@contextlib.asynccontextmanager
async def a_hub(place: Path, kubeconfig: Path) -> AsyncIterator[tuple[HubClient, int]]:
    """A Hub, its client, and the port at which the session will listen; our files are where a chart mounts them."""
    hub_port, session_port = free_ports(2)
    own = place / "manybinder" / "member" / "hub"
    for directory in (own, place / "jupyterhub_config.d", place / "home"):
        directory.mkdir(parents=True)
    for name in ("binder.py", "kubernetes.py"):
        shutil.copy(HUB_FILES / name, own)
    shutil.copy(HUB_FILES / "z2jh_config.py", place / "jupyterhub_config.d" / "manybinder.py")
    (place / "cookie").write_text("0" * 64)
    (place / "cookie").chmod(0o600)
    config = CONFIG.format(hub=hub_port, session=session_port, place=place, token=TOKEN)
    (place / "jupyterhub_config.py").write_text(config)
    # The Hub's image has nothing else of ours.
    code = f"import sys; sys.path.remove({str(HUB_FILES.parents[1])!r}); from jupyterhub.app import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", code, "--config", str(place / "jupyterhub_config.py")),
        env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        cwd=place,
        stdout=(place / "hub.log").open("w"),
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession() as http:
            client = HubClient(http, f"http://127.0.0.1:{hub_port}/", TOKEN, 20)
            async with asyncio.timeout(120):
                while True:
                    assert process.returncode is None, (place / "hub.log").read_text()[-3000:]
                    with contextlib.suppress(HubError):
                        await client.users()
                        break
                    await asyncio.sleep(0.3)
            yield client, session_port
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)


@pytest.mark.slow
async def test_a_session_is_a_pod_with_the_token_the_member_gave_and_nothing_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{sys.prefix}/bin:{os.environ['PATH']}")
    async with FakeKubernetes() as api:
        api.namespace("hub")
        api.store.put("nodes", "", node("node-1"))
        async with Kubelet(api, "hub"), a_hub(tmp_path, api.kubeconfig(tmp_path / "kubeconfig")) as (hub, port):
            with pytest.raises(HubError, match="image is required"):
                await hub.start("nobody-1", {"token": "x"})
            await hub.remove("nobody-1")
            options = {"image": "registry/x:1", "token": "the-visitors", "repo_url": "https://git.example/org/repo"}
            await hub.start("org-repo-1", options)
            async with asyncio.timeout(150):
                messages = [message async for message in hub.progress("org-repo-1")]
            assert messages
            pod = next(pod for pod in api.store.all("pods", "hub"))
            container = pod["spec"]["containers"][0]
            environ = {item["name"]: item.get("value") for item in container["env"]}
            assert container["image"] == "registry/x:1"
            assert environ["JUPYTER_TOKEN"] == "the-visitors"
            assert environ["BINDER_REPO_URL"] == "https://git.example/org/repo"
            assert environ["GIVEN"] == "by the operator"
            assert not [name for name in environ if name.startswith(("JUPYTERHUB_", "JPY_"))]
            assert "the-visitors" not in str(container.get("args")) + str(container.get("command"))
            assert pod["metadata"]["labels"]["component"] == "singleuser-server"
            url = f"http://127.0.0.1:{port}/user/org-repo-1/api/status"
            async with aiohttp.ClientSession() as http:
                async with http.get(url) as response:
                    assert response.status == 403
                headers = {"Authorization": "token the-visitors", "Origin": "https://page.example"}
                async with http.get(url, headers=headers) as response:
                    assert response.status == 200
                    assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
            await hub.remove("org-repo-1")
            assert not api.store.all("pods", "hub")


@pytest.mark.slow
async def test_a_pod_that_ends_while_it_starts_is_a_failed_spawn(tmp_path: Path) -> None:
    async with FakeKubernetes() as api:
        api.namespace("hub")
        kubelet = Kubelet(api, "hub")
        async with a_hub(tmp_path, api.kubeconfig(tmp_path / "kubeconfig")) as (hub, _):
            await hub.start("org-repo-2", {"image": "registry/x:1", "token": "t"})
            async with asyncio.timeout(60):
                while not api.store.all("pods", "hub"):
                    await asyncio.sleep(0.1)
            name = api.store.all("pods", "hub")[0]["metadata"]["name"]
            kubelet.schedule(name, "node-1")
            kubelet.run(name)
            kubelet.finish(name, 1)
            async with asyncio.timeout(200):
                with pytest.raises(SpawnFailedError):
                    _ = [message async for message in hub.progress("org-repo-2")]
