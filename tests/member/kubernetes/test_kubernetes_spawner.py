"""The spawner for a cluster's Hub: the pods that KubeSpawner makes by it, and the files that a chart mounts."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio.client import ApiClient
from tornado import web

from member.hub.kubernetes import BinderSpawner

HUB_FILES = Path(__file__).parents[3] / "member" / "hub"

OPTIONS = {"image": "registry/x:1", "token": "the-visitors", "repo_url": "https://git.example/org/repo"}


def spawner(monkeypatch: pytest.MonkeyPatch, options: dict[str, str], **traits: Any) -> BinderSpawner:
    """A spawner whose start makes no pod."""

    async def no_pod(self: Any) -> None:
        """Nothing."""

    monkeypatch.setattr("kubespawner.KubeSpawner._start", no_pod)
    for client in ("load_config", "shared_client"):
        monkeypatch.setattr(f"kubespawner.spawner.{client}", lambda *_, **__: None)
    made = BinderSpawner(_mock=True, cmd=["jupyterhub-singleuser"], enable_user_namespaces=False, **traits)
    made.user_options = options
    return made


async def manifest(made: BinderSpawner) -> dict[str, Any]:
    """The pod, as KubeSpawner sends it."""
    await made.start()
    pod = await made.get_pod_manifest()
    async with ApiClient() as api:
        return dict(api.sanitize_for_serialization(pod))


async def test_a_pod_has_the_image_and_the_token_and_nothing_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    made = spawner(
        monkeypatch,
        OPTIONS,
        environment={"GIVEN": "by the operator"},
        cors_allow_origin="https://page.example",
        idle_timeout=300,
    )
    container = (await manifest(made))["spec"]["containers"][0]
    environ = {item["name"]: item.get("value") for item in container["env"]}
    assert container["image"] == "registry/x:1"
    assert environ["JUPYTER_TOKEN"] == "the-visitors"
    assert environ["BINDER_REPO_URL"] == "https://git.example/org/repo"
    assert environ["GIVEN"] == "by the operator"
    assert not [name for name in environ if name.startswith(("JUPYTERHUB_", "JPY_"))]
    command = container.get("command", []) + container.get("args", [])
    assert "the-visitors" not in str(command)
    assert "jupyterhub-singleuser" not in command
    assert "--ServerApp.allow_origin=https://page.example" in command
    assert "--ServerApp.shutdown_no_activity_timeout=300" in command
    assert f"--ServerApp.port={made.port}" in command


@pytest.mark.parametrize("missing", ["image", "token"])
async def test_a_start_without_image_or_token_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    made = spawner(monkeypatch, {name: value for name, value in OPTIONS.items() if name != missing})
    with pytest.raises(web.HTTPError, match=f"{missing} is required"):
        await made.start()


async def test_the_files_work_where_a_chart_mounts_them_and_nothing_else_of_ours_is(tmp_path: Path) -> None:
    own = tmp_path / "manybinder" / "member" / "hub"
    config = tmp_path / "jupyterhub_config.d" / "manybinder.py"
    for path in (own, config.parent):
        path.mkdir(parents=True)
    for name in ("binder.py", "kubernetes.py"):
        (own / name).write_text((HUB_FILES / name).read_text())
    config.write_text((HUB_FILES / "z2jh_config.py").read_text())
    code = f"""
import sys
sys.path = [path for path in sys.path if path != {str(HUB_FILES.parents[1])!r}]
from traitlets.config.loader import PyFileConfigLoader
chosen = PyFileConfigLoader({str(config)!r}).load_config().JupyterHub.spawner_class
print(chosen.__name__, sys.modules[chosen.__module__].__file__)
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", code), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert said.decode() == f"BinderSpawner {own / 'kubernetes.py'}\n"
