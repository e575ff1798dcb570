"""The member's chart and the programs: the member takes its configuration, the Hub its spawner, and an engine is where
builds look for it."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.repos import RepoKey
from member.builder_settings import PODMAN_IMAGE
from member.builders.kubernetes.rules import SOCKETS, build_pod_rules, session_shape
from member.core.pods import build_pod
from tests.charts.helmkit import CHARTS, ROOT, Helm, assert_probes_ask, each_service, of_kind
from tests.charts.memberkit import (
    ALL_ON,
    CONFIG,
    LEAST,
    REGISTRY,
    Objects,
    each_case,
    kubernetes_builder,
    member_config,
    member_settings,
    named,
    ours,
)


@each_case
def test_the_member_takes_its_configuration(everything: Objects, objects: Objects, tmp_path: Path) -> None:
    settings = member_settings(objects, tmp_path)
    pod = named(objects, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["ports"][0]["containerPort"] == settings.listen.port
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(settings.data_dir) in mounts
    assert {mount["name"] for mount in container["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    # The Hub is where its chart says, and so is the token.
    name, _, port = settings.hub.url.removeprefix("http://").rstrip("/").partition(":")
    (service,) = [item for item in of_kind(everything, "Service") if item["metadata"]["name"] == name]
    assert int(port) in [item["port"] for item in service["spec"]["ports"]]
    (volume,) = [item["secret"] for item in pod["volumes"] if item["name"] == "hub"]
    (secret,) = [item for item in of_kind(everything, "Secret") if item["metadata"]["name"] == volume["secretName"]]
    assert volume["items"][0]["key"] in secret["data"]


def test_the_hub_may_have_another_name(helm: Helm, chart: str) -> None:
    objects = ours(
        helm.render(chart, **LEAST, jupyterhub={"fullnameOverride": "jhub", "hub": {"baseUrl": "/jupyter/"}})
    )
    assert member_config(objects)["hub"]["url"] == "http://jhub-hub:8081/jupyter/"
    volumes = named(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert [item["secret"]["secretName"] for item in volumes if item["name"] == "hub"] == ["jhub-hub"]


def test_what_a_session_asks_is_what_the_hub_gives_it(helm: Helm, chart: str, tmp_path: Path) -> None:
    user = {
        "memory": {"guarantee": "1.5G", "limit": 4 * 2**30},
        "cpu": {"guarantee": 0.25, "limit": None},
        "nodeSelector": {"pool": "users"},
        "extraTolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
    }
    scheduling = {"podPriority": {"enabled": True}, "userPods": {"nodeAffinity": {"matchNodePurpose": "require"}}}
    objects = ours(helm.render(chart, **LEAST, jupyterhub={"singleuser": user, "scheduling": scheduling}))
    builder = kubernetes_builder(member_settings(objects, tmp_path))
    shape = session_shape(builder, builder.sessions.namespace)
    assert shape.namespace == "binder"
    assert {name: int(amount * 4) for name, amount in shape.requests.items()} == {"memory": 6 * 2**30, "cpu": 1}
    assert dict(shape.limits) == {"memory": 4 * 2**30}
    assert shape.node_selector == {"pool": "users", "hub.jupyter.org/node-purpose": "user"}
    assert {"key": "gpu", "operator": "Exists", "effect": "NoExecute"} in shape.tolerations
    assert builder.sessions.placeholders_are_free
    plain = kubernetes_builder(member_settings(ours(helm.render(chart, **LEAST)), tmp_path)).sessions
    assert (plain.memory, plain.memory_limit, plain.cpu, plain.cpu_limit) == (2**30, 2 * 2**30, 0.05, 1)
    assert not plain.placeholders_are_free


def test_the_priority_of_sessions_is_what_the_hub_gives_them(helm: Helm, chart: str, tmp_path: Path) -> None:
    def told(**hub: Any) -> tuple[str, list[str]]:
        """What the member is told, and which classes there are."""
        objects = helm.render(chart, **LEAST, jupyterhub=hub)
        builder = kubernetes_builder(member_settings(ours(objects), tmp_path))
        return builder.sessions.priority_class, [item["metadata"]["name"] for item in of_kind(objects, "PriorityClass")]

    assert told() == ("", [])
    own = {"hub": {"config": {"KubeSpawner": {"priority_class_name": "mine"}}}}
    assert told(**own) == ("mine", [])
    scheduling = {"scheduling": {"podPriority": {"enabled": True}}}
    for name in ("", "jhub"):
        given, there = told(**scheduling, fullnameOverride=name)
        assert given in there
    assert told(**scheduling, **own)[0] == "mine"


@pytest.mark.parametrize("engine", ["dind", "pink"])
def test_an_engine_is_where_build_pods_look_for_it(helm: Helm, chart: str, tmp_path: Path, engine: str) -> None:
    given: dict[str, Any] = {
        "engine": engine,
        "node_selector": {"pool": "builds"},
        "tolerations": [{"key": "b", "operator": "Exists"}],
    }
    if engine == "pink":
        given["image"] = PODMAN_IMAGE
    for socket in (None, "/run/elsewhere/engine.sock"):
        config = {**CONFIG, "builder": {**given, "socket": socket} if socket else given}
        objects = ours(helm.render(chart, **{**LEAST, "config": config}))
        builder = kubernetes_builder(member_settings(objects, tmp_path))
        rules = build_pod_rules(builder, "member-1", builder.namespace, push=True)
        pod = build_pod(rules, "build", repo=RepoKey("r"), repo_url="https://x/", commit="c", image="i")["spec"]
        (path,) = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
        assert path == (socket or SOCKETS[engine])
        daemon_set = named(objects, "DaemonSet", f"-{engine}")
        template = daemon_set["spec"]["template"]
        assert any(f"unix://{path}" in argument for argument in template["spec"]["containers"][0]["args"])
        assert f"unix://{path}" in template["spec"]["containers"][0]["readinessProbe"]["exec"]["command"]
        run = next(volume for volume in template["spec"]["volumes"] if volume["name"] == "run")
        assert run["hostPath"]["path"] == str(Path(path).parent)
        assert dict(pair.split("=") for pair in builder.builder_pods.split(",")).items() <= (
            template["metadata"]["labels"].items()
        )
        # They run on the same nodes.
        assert template["spec"]["nodeSelector"] == pod["nodeSelector"]
        assert [item for item in pod["tolerations"] if "tolerationSeconds" not in item] == template["spec"][
            "tolerations"
        ]


@pytest.mark.parametrize("engine", ["host", "none"])
def test_an_engine_that_is_there_already_gets_no_daemon_set(helm: Helm, chart: str, engine: str) -> None:
    objects = ours(helm.render(chart, **{**LEAST, "config": {**CONFIG, "builder": {"engine": engine}}}))
    assert not of_kind(objects, "DaemonSet")


def test_probes_ask_below_the_public_path_as_the_public_host(helm: Helm, chart: str) -> None:
    config = {**CONFIG, "public_url": "https://example.org:8443/binder"}
    (container,) = named(ours(helm.render(chart, **{**LEAST, "config": config})), "Deployment")["spec"]["template"][
        "spec"
    ]["containers"]
    assert_probes_ask(container, "/binder", "example.org")


@each_service
def test_it_listens_on_what_the_service_offers(
    helm: Helm, chart: str, tmp_path: Path, service: dict[str, Any], host: str
) -> None:
    objects = ours(helm.render(chart, **LEAST, service=service))
    assert member_settings(objects, tmp_path).listen.host == host
    (made,) = of_kind(objects, "Service")
    assert made["spec"]["ipFamilyPolicy"] == service.get("ipFamilyPolicy", "SingleStack")
    assert made["spec"].get("ipFamilies", []) == service.get("ipFamilies", [])


def test_a_change_of_settings_or_secrets_replaces_the_pod(helm: Helm, chart: str) -> None:
    def checksums(**changes: Any) -> dict[str, str]:
        template = named(ours(helm.render(chart, **{**LEAST, **changes})), "Deployment")["spec"]["template"]
        found = template["metadata"]["annotations"]
        assert isinstance(found, dict)
        return found

    before = checksums()
    assert checksums() == before
    for name, changes in {
        "checksum/config": {"config": {**CONFIG, "name": "another"}},
        "checksum/registry": {"registry": {**REGISTRY, "password": "another"}},
        "checksum/hub": {"jupyterhub": {"hub": {"services": {"binder": {"apiToken": "0" * 64}}}}},
    }.items():
        changed = checksums(**changes)
        assert [key for key in before if before[key] != changed[key]] == [name]


def test_the_password_goes_where_it_is_looked_for(helm: Helm, chart: str, tmp_path: Path) -> None:
    objects = ours(helm.render(chart, **LEAST))
    own, builds = of_kind(objects, "Secret")
    docker = json.loads(base64.b64decode(own["data"][".dockerconfigjson"]))
    auth = base64.b64decode(docker["auths"]["registry.example.org:5000"]["auth"]).decode()
    assert auth == "member:a password"
    assert base64.b64decode(own["data"]["password"]).decode() == "a password"
    assert base64.b64decode(builds["data"]["config.json"]) == base64.b64decode(own["data"][".dockerconfigjson"])
    settings = member_settings(objects, tmp_path)
    builder = kubernetes_builder(settings)
    assert (builder.push_secret, builder.namespace) == (builds["metadata"]["name"], builds["metadata"]["namespace"])
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    (volume,) = [item["secret"] for item in spec["volumes"] if item["name"] == "registry"]
    assert volume["secretName"] == own["metadata"]["name"]
    assert settings.image_prefix.startswith("registry.example.org:5000/")


def test_what_a_build_downloads_fits_into_the_network_of_its_engines_pod(
    helm: Helm, chart: str, tmp_path: Path
) -> None:
    objects = ours(helm.render(chart, **{**LEAST, "dind": {"extraArgs": ["--mtu=9000"]}}))
    container = named(objects, "DaemonSet", "-dind")["spec"]["template"]["spec"]["containers"][0]
    entry = tmp_path / "dockerd-entrypoint.sh"
    entry.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    entry.chmod(0o755)
    run = subprocess.run(
        container["command"] + container["args"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    own = Path("/sys/class/net/eth0/mtu")
    mtu = own.read_text().strip() if own.exists() else "1500"
    # What an operator says comes last, and is what counts then.
    assert run.stdout.splitlines() == ["dockerd", f"--mtu={mtu}", *container["args"]]
    assert container["args"][-1] == "--mtu=9000"


def test_joining_comes_before_the_member_with_the_same_files(helm: Helm, chart: str) -> None:
    spec = named(ours(helm.render(chart, **ALL_ON)), "Deployment")["spec"]["template"]["spec"]
    (join,), (member,) = spec["initContainers"], spec["containers"]
    assert join["args"][:3] == ["member", "join", "https://binder.example.org"]
    assert join["image"] == member["image"]
    own = [mount for mount in join["volumeMounts"] if mount["name"] != "join"]
    assert own == member["volumeMounts"]
    (token,) = [volume["secret"] for volume in spec["volumes"] if volume["name"] == "join"]
    assert token["secretName"] == "join"
    assert f"--token-file=/etc/manybinder/join/{token['items'][0]['path']}" in join["args"]


def test_a_join_token_becomes_a_secret_and_another_one_joins_anew(helm: Helm, chart: str) -> None:
    marks = set()
    for token in ("first", "second"):
        values = {**ALL_ON, "join": {"gateway": "https://binder.example.org", "token": token}}
        objects = ours(helm.render(chart, **values))
        template = named(objects, "Deployment")["spec"]["template"]
        marks.add(template["metadata"]["annotations"]["checksum/join"])
        (volume,) = [volume["secret"] for volume in template["spec"]["volumes"] if volume["name"] == "join"]
        secret = named(objects, "Secret", volume["secretName"])
        assert base64.b64decode(secret["data"][volume["items"][0]["key"]]).decode() == token
    assert len(marks) == 2


def test_the_hub_gets_the_spawner_as_it_is_here() -> None:
    values = yaml.safe_load((CHARTS / "member" / "values.yaml").read_text())
    files = values["jupyterhub"]["hub"]["extraFiles"].values()
    found = {file["mountPath"]: file["stringData"] for file in files}
    source, place = ROOT / "member" / "hub", "/usr/local/etc/jupyterhub"
    assert found == {
        f"{place}/jupyterhub_config.d/manybinder.py": (source / "z2jh_config.py").read_text(),
        f"{place}/manybinder/member/hub/binder.py": (source / "binder.py").read_text(),
        f"{place}/manybinder/member/hub/ended.py": (source / "ended.py").read_text(),
        f"{place}/manybinder/member/hub/kubernetes.py": (source / "kubernetes.py").read_text(),
    }


def test_the_program_takes_the_arguments(helm: Helm, chart: str, tmp_path: Path) -> None:
    objects = ours(helm.render(chart, **ALL_ON))
    member_settings(objects, tmp_path)
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    (tmp_path / "token").write_text("no join token")
    places = {"/etc/manybinder/config": str(tmp_path), "/etc/manybinder/join": str(tmp_path)}

    def run(arguments: list[str], *more: str) -> subprocess.CompletedProcess[str]:
        for place, here in places.items():
            arguments = [argument.replace(place, here) for argument in arguments]
        command = [sys.executable, "-m", "manybinder", *arguments, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    checked = run(spec["containers"][0]["args"], "--check-config")
    assert checked.returncode == 0, checked.stderr
    joined = run(spec["initContainers"][0]["args"])
    assert joined.returncode != 0
    assert "Usage" not in joined.stderr
    assert "join token" in joined.stderr
