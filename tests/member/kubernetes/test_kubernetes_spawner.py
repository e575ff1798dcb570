"""The spawner for a cluster's Hub: the pods that KubeSpawner makes by it, and the files that a chart mounts."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient
from tornado import web

from member.hub import ended
from member.hub.kubernetes import BinderSpawner, Trouble, trouble
from tests.charts.pod_security import offences
from tests.member.kubernetes.hub_harness import WITHOUT_OURS, write_config

CHART_VALUES = Path(__file__).parents[3] / "charts" / "member" / "values.yaml"

OPTIONS = {"image": "registry/x:1", "token": "the-visitors", "repo_url": "https://git.example/org/repo"}


def spawner(monkeypatch: pytest.MonkeyPatch, options: dict[str, str], **traits: Any) -> BinderSpawner:
    """A spawner whose start makes no pod."""

    async def no_pod(self: Any) -> str:
        """Nothing."""
        return "http://192.0.2.1:8888"

    async def answers(url: str) -> bool:
        return True

    monkeypatch.setattr("member.hub.kubernetes.answers", answers)
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


@pytest.mark.parametrize("auth_enabled", [False, True])
async def test_an_address_gets_no_variable_of_the_session(monkeypatch: pytest.MonkeyPatch, auth_enabled: bool) -> None:
    url = "https://git.example/$(JUPYTERHUB_API_TOKEN)/$(JUPYTER_TOKEN)"
    made = spawner(monkeypatch, {**OPTIONS, "repo_url": url}, auth_enabled=auth_enabled, environment={"A": "$(HOME)"})
    entries = (await manifest(made))["spec"]["containers"][0]["env"]
    environ = {item["name"]: item.get("value") for item in entries}
    # The kubelet puts in what is named so, and one sign for two.
    assert environ["BINDER_REPO_URL"] == url.replace("$", "$$")
    assert environ["A"] == "$(HOME)"


async def test_an_operators_hook_does_not_take_the_place_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ended, "SESSIONS", ended.Sessions(tmp_path))
    launched = {**OPTIONS, "binder_launch_host": "https://binder.example.org/", "binder_request": "v2/gh/org/repo/main"}
    heard: list[Any] = []
    made = spawner(monkeypatch, launched, pre_spawn_hook=heard.append)
    made.user.name = "me"
    made.run_pre_spawn_hook()
    assert heard == [made]
    assert (ended.SESSIONS.find("me") or {})["url"] == "https://binder.example.org/v2/gh/org/repo/main"


async def test_with_the_charts_values_a_session_keeps_the_restricted_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = yaml.safe_load(CHART_VALUES.read_text())["jupyterhub"]
    given = hub["hub"]["config"]["KubeSpawner"]
    # As zero-to-jupyterhub sets them.
    own = {"uid": 1000, "fs_gid": 100, "allow_privilege_escalation": False}
    assert offences((await manifest(spawner(monkeypatch, OPTIONS, **own)))["spec"])
    assert offences((await manifest(spawner(monkeypatch, OPTIONS, **own, **given)))["spec"]) == []
    # Nothing adds a privileged container, or a volume of a visitor's own.
    assert hub["singleuser"]["cloudMetadata"]["blockWithIptables"] is False
    assert hub["singleuser"]["storage"]["type"] == "none"


async def test_the_charts_settings_of_the_spawner_are_ones_that_it_has() -> None:
    config = yaml.safe_load(CHART_VALUES.read_text())["jupyterhub"]["hub"]["config"]
    for name in ("BinderSpawner", "KubeSpawner"):
        assert set(config[name]) <= set(BinderSpawner.class_trait_names(config=True))


@pytest.mark.parametrize("missing", ["image", "token"])
async def test_a_start_without_image_or_token_is_refused(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    made = spawner(monkeypatch, {name: value for name, value in OPTIONS.items() if name != missing})
    with pytest.raises(web.HTTPError, match=f"{missing} is required"):
        await made.start()


IMAGE_ABSENT = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "port 8888 is in use.\n"}}
PLACED = {"type": "PodScheduled", "status": "True"}
NO_ROOM = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient memory."}


def pod(phase: str = "Pending", state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    """A session's pod, with a container of an operator's beside Jupyter's."""
    entry = {"name": "notebook", "state": state or {}, "lastState": status.pop("last", {})}
    entries = [{"name": "beside", "state": {"running": {}}}, entry] if state is not None else []
    return {"metadata": {}, "status": {"phase": phase, "conditions": [PLACED], "containerStatuses": entries, **status}}


@pytest.mark.parametrize(
    ("seen", "message", "patience_s"),
    [
        ({}, None, None),
        (pod(), None, None),
        (pod("Running", {"running": {}}), None, None),
        (
            pod(conditions=[NO_ROOM]),
            "No node of the cluster has room for the session (0/3 nodes are available: 3 Insufficient memory).",
            None,
        ),
        (
            pod(state=IMAGE_ABSENT),
            "The session's image cannot be pulled (ImagePullBackOff: Back-off pulling image).",
            60,
        ),
        (
            pod(state={"waiting": {"reason": "SignatureValidationFailed", "message": "no key"}}),
            "The session's image cannot be pulled (SignatureValidationFailed: no key).",
            60,
        ),
        (
            pod(state={"waiting": {"reason": "InvalidImageName"}}),
            "The session's image cannot be used (InvalidImageName).",
            0,
        ),
        (
            pod(state={"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}),
            'The session\'s node cannot start its container (CreateContainerConfigError: secret "x" not found).',
            30,
        ),
        (
            pod(state={"waiting": {"reason": "ContainerCreating"}}),
            "The session's node is still preparing it (ContainerCreating).",
            None,
        ),
        (
            pod("Running", {"waiting": {"reason": "CrashLoopBackOff"}}, last=CRASHED),
            "The session ended while it started (exit status 1). port 8888 is in use.",
            0,
        ),
        (pod("Succeeded", {"terminated": {"exitCode": 0}}), "The session ended while it started (exit status 0).", 0),
        (
            pod("Running", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "The session needed more memory than it may have while it started.",
            0,
        ),
        (
            pod("Failed", reason="OutOfpods", message="Pod was rejected: Node didn't have enough resource: pods"),
            "The session's node gave it up (OutOfpods: Pod was rejected: Node didn't have enough resource: pods).",
            0,
        ),
        ({"metadata": {"deletionTimestamp": "now"}}, "The session was removed from the cluster while it started.", 0),
    ],
)
def test_what_keeps_a_session_from_starting_is_said_in_plain_words(
    seen: dict[str, Any], message: str | None, patience_s: float | None
) -> None:
    assert trouble(seen, 60) == (Trouble(message, patience_s) if message else None)


@pytest.mark.parametrize(
    ("logins", "doorman"),
    [
        ({}, "SessionAuthenticator NullAuthenticator"),
        (
            {"JupyterHub": {"authenticator_class": "Dummy"}, "BinderSpawner": {"auth_enabled": True}},
            "WithSessionPages DummyAuthenticator",
        ),
    ],
)
async def test_the_files_work_where_the_chart_mounts_them_and_nothing_else_of_ours_is(
    tmp_path: Path, logins: dict[str, dict[str, Any]], doorman: str
) -> None:
    config = write_config(tmp_path, 1, 2)
    path = config.with_name("values.json")
    values = json.loads(path.read_text())
    for section, given in logins.items():
        values["hub"]["config"][section] |= given
    path.write_text(json.dumps(values))
    code = f"""{WITHOUT_OURS}
from traitlets.config.loader import PyFileConfigLoader
hub = PyFileConfigLoader({str(config)!r}).load_config().JupyterHub
for chosen in (hub.spawner_class, hub.authenticator_class):
    print(chosen.__name__, chosen.__base__.__name__, sys.modules[chosen.__module__].__file__)
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", code), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    async with asyncio.timeout(180):
        said, _ = await process.communicate()
    own = config.parent / "manybinder" / "member" / "hub"
    assert said.decode() == f"BinderSpawner KubeSpawner {own / 'kubernetes.py'}\n{doorman} {own / 'ended.py'}\n"
