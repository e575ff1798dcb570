"""A member that builds in a cluster: its settings, its API, and the registry that it asks."""

import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import ValidationError

from contract.events import Phase, parse_event
from member.app import make_app
from member.builder_settings import KubernetesBuilderSettings
from member.builders.kubernetes import rules
from member.builders.kubernetes.kind import KubernetesKind
from member.cluster_settings import ClusterSessionSettings
from member.settings import MemberSettings
from tests.fakes.hub import TOKEN, FakeHub
from tests.fakes.kubernetes import Kubelet
from tests.member.kubernetes.kube_harness import NAMESPACE, cluster, settings, settings_tree
from tests.member.web_harness import example

EXAMPLE = Path(__file__).parents[3] / "config" / "member-kubernetes.yaml"


_WITHOUT_DEFAULT = (
    *("kubeconfig:", "registry_credentials_secret:", "git_credentials_secret:", "socket:", "cpu:", "memory_limit:"),
    "cpu_limit:",
)


def test_the_example_of_settings_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    plain = example(tmp_path, text).builder
    assert isinstance(plain, KubernetesBuilderSettings)
    shown = re.sub(r"^(\s*)# ([a-z_0-9]+: [^#\n]*)", r"\1\2", text, flags=re.MULTILINE)
    # What has no default, or another one by what else is set.
    for optional in _WITHOUT_DEFAULT:
        shown = re.sub(rf"^ *{optional}.*$", "", shown, flags=re.MULTILINE)
    uncommented = example(tmp_path, shown).builder
    assert uncommented == plain
    for section in (KubernetesBuilderSettings, ClusterSessionSettings):
        for name in section.model_fields:
            assert re.search(rf"^\s*(# +)?{name}: ?", text, flags=re.MULTILINE), f"{name} is not shown"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"memory_request": "8Gi"}, "memory_request: must not be above memory"),
        ({"cpu": 0.1}, "cpu_request: must not be above cpu"),
        ({"engine": "buildkit"}, "engine"),
        ({"engine": "pink"}, "repo2docker:2026.4.0 builds by Docker's buildx, which Podman"),
        ({"engine": "pink", "image": "quay.io/jupyterhub/repo2docker@sha256:0"}, "Docker's buildx"),
        ({"engine": "pink", "image": "docker.io/jupyterhub/repo2docker:2026.4.0"}, "Docker's buildx"),
        ({"namespace": "Not_One"}, "namespace"),
        ({"sessions": {"tolerations": [{"effect": "Never"}]}}, "effect"),
        ({"confine": "off"}, "confine"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        settings(tmp_path, "http://127.0.0.1:9", tmp_path, **wrong)


def test_settings_become_what_pods_have(tmp_path: Path) -> None:
    given = settings(
        tmp_path,
        "http://127.0.0.1:9",
        tmp_path,
        engine="pink",
        image="quay.io/jupyterhub/repo2docker:2024.07.0",
        cpu=2,
        timeout="90s",
        tolerations=[{"key": "builds", "operator": "Exists"}],
        git_credentials_secret={"name": "git", "key": "c"},
        sessions={"memory": "2Gi", "cpu": 0.25, "memory_limit": "4Gi"},
    ).builder
    assert isinstance(given, KubernetesBuilderSettings)
    made = rules.build_pod_rules(given, "member", "builds", push=True)
    assert (made.socket, made.deadline_s) == ("/var/run/pink/podman.sock", 90)
    assert made.limits == {"memory": str(4 * 2**30), "ephemeral-storage": str(10 * 2**30), "cpu": "2000m"}
    assert made.requests["cpu"] == "500m"
    assert made.tolerations == ({"key": "builds", "operator": "Exists"},)
    shape = rules.session_shape(given, "hub")
    assert {name: float(amount) for name, amount in shape.requests.items()} == {"memory": 2 * 2**30, "cpu": 0.25}
    assert {name: float(amount) for name, amount in shape.limits.items()} == {"memory": 4 * 2**30}
    assert (
        rules.build_pod_rules(given.model_copy(update={"engine": "none"}), "member", "builds", push=True).socket is None
    )


def test_a_hub_of_the_members_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"hub\.managed"):
        KubernetesKind().hub(settings(tmp_path, "http://127.0.0.1:9", tmp_path), tmp_path / "member.yaml")


def test_credentials_that_no_pod_would_get_are_refused(tmp_path: Path) -> None:
    tree = settings_tree(tmp_path, "http://127.0.0.1:9", tmp_path)
    tree["providers"] = {"gl": {"git_credentials": "username=a\npassword=b"}}
    with pytest.raises(ValidationError, match=r"providers\.gl\.git_credentials: .*builder\.git_credentials_secret"):
        MemberSettings.model_validate(tree)


async def test_a_launch_builds_in_the_cluster_and_its_session_starts_at_the_clusters_hub(tmp_path: Path) -> None:
    script = 'echo \'{"phase": "building", "message": "building $0\\n"}\'; echo "$@"'
    async with cluster(tmp_path) as there, FakeHub() as hub, Kubelet(there.api, NAMESPACE):
        command = ["/bin/sh", "-c", script]
        tree = settings_tree(there.kubeconfig, there.registry.url, tmp_path, command=command)
        tree["hub"] = {"url": hub.url, "public_url": hub.url, "api_token": TOKEN}
        tree["providers"] = {"git": {"allow_private_addresses": True}}
        app = await make_app(MemberSettings.model_validate(tree))
        async with TestClient(TestServer(app)) as client:
            versions = await (await client.get("/versions")).json()
            assert versions["builder"] == "kubernetes"
            assert versions["builder_info"] == {"build_image": "quay.io/jupyterhub/repo2docker:2026.4.0"}
            report = await (await client.get("/api/v1/capacity")).json()
            assert (report["builder"], report["sessions"]["free"]) == ("kubernetes", 10)
            health = await (await client.get("/health")).json()
            assert {check["service"]: check["ok"] for check in health["checks"]} == {
                "JupyterHub API": True,
                "Kubernetes API": True,
                "Docker registry": True,
                "Cluster capacity": True,
            }
            commit = "c0ffee" + "0" * 34
            spec = f"/build/git/https%3A%2F%2Fgit.invalid%2Forg%2Frepo/{commit}"
            async with client.get(spec, headers={"Accept": "text/event-stream"}) as response:
                events = []
                async for line in response.content:
                    if line.startswith(b"data: "):
                        events.append(parse_event(line.removeprefix(b"data: ")))
                        if "waits for a node" in events[-1].message or "prepares" in events[-1].message:
                            image = there.pods[0]["metadata"]["annotations"]["manybinder.org/image"]
                            there.push(image)
                        if events[-1].is_final:
                            break
            assert events[-1].phase is Phase.READY, events[-1]
            assert any(commit in event.message and "--push" in event.message for event in events)
            assert events[-1].fields["image"].startswith(f"{there.registry.url.partition('//')[2]}/binder/")
