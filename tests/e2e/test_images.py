"""The images of gateway and member: built by ``make images`` on a base that is made here, run as a cluster does.

Buildah builds them, and Podman, which has the same storage, runs them.
"""

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from containerkit import BASE, REPOSITORY, Podman, debian, podman, why_not
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from federation import free_port

from tests.fakes.kubernetes import FakeKubernetes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2700),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it works"),
]

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

#: As the charts run it; ``/tmp`` may be written to, and the data directory.
RUN = (
    *("run", "--network=host", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    "--tmpfs=/tmp:rw,size=64m",
)

#: What says which packages of which versions are there.
PACKAGES = """
import importlib.metadata, json, re
found = importlib.metadata.distributions()
print(json.dumps({re.sub("[-_.]+", "-", each.name).lower(): each.version for each in found}))
"""


def python_base(place: Path) -> None:
    """What Python's official image has; and it trusts whom this machine trusts, and asks the index that it asks."""
    hooks = [f"cp {BUNDLE} $1{BUNDLE}", "mkdir -p $1/etc/uv", "echo native-tls = true > $1/etc/uv/uv.toml"]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    if index := os.environ.get("PIP_INDEX_URL") or asked.stdout.strip():
        hooks += [
            f"printf '[global]\\nindex-url = %s\\n' {shlex.quote(index)} > $1/etc/pip.conf",
            f"echo 'index-url = '{shlex.quote(json.dumps(index))} >> $1/etc/uv/uv.toml",
        ]
    debian(place, ("ca-certificates", "python3", "python3-pip", "python3-venv", "git", "openssh-client"), hooks)


def make_images(engine: Podman) -> str:
    """Build both; returns what was said."""
    done = subprocess.run(
        ["make", "images", "ENGINE=buildah", f"BASE={BASE}", "BUILD_OPTIONS=--network=host"],
        cwd=REPOSITORY,
        env={**os.environ, **engine.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def tag(name: str) -> str:
    match = re.search(r'^version = "(.*)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert match is not None
    return f"manybinder/{name}:{match[1]}"


@pytest.fixture(scope="module")
def engine() -> Iterator[Podman]:
    with podman(python_base) as started:
        make_images(started)
        yield started


def settings(config: Path, program: str, port: int) -> None:
    """Write settings into a directory, and what they name, as a ConfigMap and a Secret have them."""
    config.mkdir()
    tree = {
        "schema": 1,
        "listen": {"host": "127.0.0.1", "port": port},
        "public_url": f"http://127.0.0.1:{port}/",
        "data_dir": "/var/lib/manybinder",
        **_SECTIONS[program],
    }
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (config / "launch-signing-key.pem").write_bytes(key)
    (config / f"{program}.yaml").write_text(json.dumps(tree))


#: The member's Hub does not answer: nothing is launched here.
_SECTIONS = {
    "gateway": {"signing_key_file": "/etc/manybinder/config/launch-signing-key.pem"},
    "member": {
        "name": "member-1",
        "hub": {"url": "http://127.0.0.1:1/", "public_url": "https://hub.example.org/", "api_token": "a-token"},
        "registry": {"url": "https://registry.example.org"},
        "builder": {"kind": "kubernetes", "namespace": "builds", "kubeconfig": "/etc/manybinder/config/kubeconfig"},
    },
}


@pytest.mark.parametrize("name", ["gateway", "member"])
async def test_the_image_runs_as_a_user_of_no_rights_and_answers(engine: Podman, name: str, tmp_path: Path) -> None:
    config, port = tmp_path / "config", free_port()
    settings(config, name, port)
    # A member listens once it knows its cluster.
    async with FakeKubernetes() as cluster:
        cluster.namespace("builds")
        cluster.kubeconfig(config / "kubeconfig")
        await asyncio.to_thread(_run, engine, name, config, port)


def _run(engine: Podman, name: str, config: Path, port: int) -> None:
    mounts = (f"--volume={config}:/etc/manybinder/config:ro", "--volume=/var/lib/manybinder")
    assert engine.run("image", "inspect", "--format={{.Config.User}}", tag(name)).strip() == "1000:1000"
    command = (name, "--config", f"/etc/manybinder/config/{name}.yaml")
    assert engine.run(*RUN, "--rm", *mounts, tag(name), *command, "--check-config") == ""
    # It refuses to do anything for a user without a name.
    assert "hostname git.example" in engine.run(*RUN, "--rm", "--entrypoint=ssh", tag(name), "-G", "git.example")
    container = engine.run(*RUN, "--detach", *mounts, tag(name)).strip()
    try:
        assert _livez(port, lambda: engine.run("logs", container)) == 200
        main = psutil.Process(int(engine.run("inspect", "--format={{.State.Pid}}", container)))
        assert {each.uids().real for each in (main, *main.children(recursive=True))} == {1000}
        engine.run("stop", "--time=60", container)
        # It ends by itself when it is asked to.
        assert engine.run("inspect", "--format={{.State.ExitCode}}", container).strip() == "0"
    finally:
        engine.run("rm", "--force", container)


@pytest.mark.parametrize("name", ["gateway", "member"])
def test_the_image_holds_what_the_lock_names_and_no_more(engine: Podman, name: str) -> None:
    said = engine.run(*RUN, "--rm", "--entrypoint=/opt/manybinder/bin/python", tag(name), "-c", PACKAGES)
    found: dict[str, str] = json.loads(said)
    lock = (REPOSITORY / "requirements" / "runtime.txt").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", lock, re.MULTILINE))
    assert found.pop("manybinder")
    assert found.items() <= locked.items()
    assert ("kubernetes" in found) == ("jupyterhub" in found) == (name == "member")
    assert {"aiohttp", "redis", "cryptography"} <= found.keys()


@pytest.mark.parametrize(("name", "most_mb"), [("gateway", 200), ("member", 700)])
def test_the_image_is_small_and_a_change_of_the_code_smaller(engine: Podman, name: str, most_mb: int) -> None:
    def size(image: str) -> int:
        return int(engine.run("image", "inspect", "--format={{.Size}}", image))

    assert size(tag(name)) - size(BASE) < most_mb * 10**6
    layers = json.loads(engine.run("history", "--format=json", tag(name)))
    # The newest first; of what is copied, the engine names only where it goes.
    own, _dependencies = [item["size"] for item in layers if re.search(r"COPY .*/opt/manybinder", item["CreatedBy"])]
    assert 0 < own < 20 * 10**6


def test_an_image_that_is_built_again_comes_from_the_cache(engine: Podman) -> None:
    said = make_images(engine)
    steps = [line for line in said.splitlines() if re.match(r"(\[\d/\d\] )?STEP \d+/\d+: (RUN|COPY)", line)]
    assert steps
    assert said.count("Using cache") >= len(steps)


def _livez(port: int, log: Callable[[], str]) -> int:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as got:
            return int(got.status)
        time.sleep(0.3)
    raise AssertionError(log())
