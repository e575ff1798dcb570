"""A Hub as zero-to-jupyterhub runs it, with the values of the member's chart, over the fake cluster.

What zero-to-jupyterhub's own ``jupyterhub_config.py`` does with values and files is done here in the same way: the
files of ``jupyterhub_config.d`` run as a part of it, after a ``get_config`` of its own has hidden JupyterHub's.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from manybinder.ports import free_ports
from member.clients.hub import HubClient, HubError

ROOT = Path(__file__).parents[3]
CHART_VALUES = ROOT / "charts" / "member" / "values.yaml"

#: Where the Hub's image has its configuration, and what is mounted there.
MOUNTED = Path("/usr/local/etc/jupyterhub")

TOKEN, CULLER_TOKEN = "the-services-token", "the-cullers-token"

_Z2JH = '''
"""Stands for zero-to-jupyterhub's z2jh.py."""
import json
from pathlib import Path

def get_config(key, default=None):
    value = json.loads((Path(__file__).parent / "values.json").read_text())
    for level in key.split("."):
        if not isinstance(value, dict) or level not in value:
            return default
        value = value[level]
    return value
'''
_CONFIG = """
c = get_config()
import glob, os, sys
here = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, here)
from z2jh import get_config

c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.services = [dict(given, name=name) for name, given in get_config("hub.services").items()]
c.JupyterHub.load_roles = [dict(given, name=name) for name, given in get_config("hub.loadRoles").items()]
c.Spawner.consecutive_failure_limit = get_config("hub.consecutiveFailureLimit", 5)
c.Spawner.cmd = "jupyterhub-singleuser"
c.KubeSpawner.namespace = "hub"
c.KubeSpawner.uid, c.KubeSpawner.fs_gid = 1000, 100
c.KubeSpawner.image_pull_policy = "IfNotPresent"
c.KubeSpawner.image_pull_secrets = get_config("singleuser.image.pullSecrets")
for trait, key in (("mem_limit", "memory.limit"), ("mem_guarantee", "memory.guarantee"),
                   ("cpu_limit", "cpu.limit"), ("cpu_guarantee", "cpu.guarantee"),
                   ("start_timeout", "startTimeout"), ("environment", "extraEnv")):
    setattr(c.KubeSpawner, trait, get_config("singleuser." + key))
for section, given in get_config("hub.config").items():
    c[section].update(given)
for file_path in sorted(glob.glob(f"{here}/jupyterhub_config.d/*.py")):
    file_name = os.path.basename(file_path)
    with open(file_path) as f:
        file_content = f.read()
    exec(compile(source=file_content, filename=file_name, mode="exec"))
exec(get_config("hub.extraConfig.tests"))
"""
#: What no value says: there is no proxy, whoever asks here goes to the session directly.
_FOR_TESTS = """
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
    async def get_all_routes(self): return {}

c.JupyterHub.proxy_class = NoProxy
import member.hub.kubernetes
assert member.hub.kubernetes.__file__.startswith(here), member.hub.kubernetes.__file__
"""

#: A Hub's image has nothing else of ours.
WITHOUT_OURS = f"import sys; sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]\n"


def _uv(*arguments: str) -> None:
    subprocess.run([f"{sys.prefix}/bin/uv", *arguments], check=True, capture_output=True, timeout=500)


def environment(place: Path, lock: Path) -> Path:
    """A virtual environment with what a lock names."""
    _uv("venv", "--quiet", "--python", sys.executable, str(place))
    _uv("pip", "install", "--quiet", "--require-hashes", "--python", str(place / "bin" / "python"), "-r", str(lock))
    return place


@dataclass
class ClusterHub:
    """A Hub that runs, and where its session would."""

    python: Path
    place: Path
    url: str
    client: HubClient
    session_url: str

    @property
    def log(self) -> str:
        return (self.place / "hub.log").read_text()

    @contextlib.asynccontextmanager
    async def culler(self, max_age_s: int) -> AsyncIterator[None]:
        """The chart's culler, as zero-to-jupyterhub starts it, but by a test."""
        process = await asyncio.create_subprocess_exec(
            *(self.python, "-m", "jupyterhub_idle_culler", f"--url={self.url}hub/api", "--timeout=3600"),
            *("--cull-every=1", "--concurrency=10", "--cull-users=true", f"--max-age={max_age_s}"),
            env={**os.environ, "JUPYTERHUB_API_TOKEN": CULLER_TOKEN},
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


@contextlib.asynccontextmanager
async def cluster_hub(python: Path, place: Path, kubeconfig: Path, **spawner: Any) -> AsyncIterator[ClusterHub]:
    """Start a Hub with the chart's values, and with traits of the spawner besides; wait until it answers."""
    hub_port, session_port = free_ports(2)
    config = write_config(place, hub_port, session_port, **spawner)
    srv = place / "srv"
    srv.mkdir()
    with (place / "hub.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(python, "-I", "-c", f"{WITHOUT_OURS}from jupyterhub.app import main; main()", "--config", config),
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            cwd=srv,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{hub_port}/"
            client = HubClient(http, url, TOKEN, 20)
            hub = ClusterHub(python, place, url, client, f"http://127.0.0.1:{session_port}/")
            async with asyncio.timeout(120):
                while True:
                    assert process.returncode is None, hub.log[-3000:]
                    with contextlib.suppress(HubError):
                        await client.users()
                        break
                    await asyncio.sleep(0.3)
            yield hub
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 60)


def write_config(place: Path, hub_port: int, session_port: int, **spawner: Any) -> Path:
    """Write a Hub's configuration, with our files where the chart's values mount them; returns its main file."""
    values = _values(place, hub_port, session_port, spawner)
    etc = place / "etc"
    for directory in (etc, place / "home"):
        directory.mkdir(parents=True)
    for file in values["hub"].pop("extraFiles").values():
        path = etc / Path(file["mountPath"]).relative_to(MOUNTED)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["stringData"])
    config = {"values.json": json.dumps(values), "z2jh.py": _Z2JH, "jupyterhub_config.py": _CONFIG}
    for name, text in config.items():
        (etc / name).write_text(text)
    return etc / "jupyterhub_config.py"


def _values(place: Path, hub_port: int, session_port: int, spawner: dict[str, Any]) -> dict[str, Any]:
    """The chart's, with what an operator or the chart of zero-to-jupyterhub would add."""
    values: dict[str, Any] = yaml.safe_load(CHART_VALUES.read_text())["jupyterhub"]
    hub = values["hub"]
    hub["config"]["JupyterHub"] |= {
        "bind_url": f"http://127.0.0.1:{hub_port}",
        "hub_bind_url": f"http://127.0.0.1:{hub_port}",
    }
    hub["config"]["BinderSpawner"] |= spawner
    hub["config"]["KubeSpawner"]["port"] = session_port
    hub["services"]["binder"]["api_token"] = TOKEN
    hub["services"]["culler"] = {"api_token": CULLER_TOKEN}
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers", "admin:users"]
    hub["loadRoles"]["culler"] = {"services": ["culler"], "scopes": scopes}
    hub["extraConfig"] = {"tests": _FOR_TESTS}
    # In an image sessions run as a user, here maybe as root, which JupyterLab would refuse.
    (place / "jupyter").mkdir(parents=True)
    (place / "jupyter" / "jupyter_server_config.json").write_text(json.dumps({"ServerApp": {"allow_root": True}}))
    environ = {"HOME": str(place / "home"), "JUPYTER_CONFIG_DIR": str(place / "jupyter"), "GIVEN": "by the operator"}
    values["singleuser"] |= {"extraEnv": environ, "startTimeout": 300}
    return values
