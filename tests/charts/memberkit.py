"""What tests of the member's chart share: values, and what is read of the objects that they render to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import private_pem, public_pem
from member.builder_settings import PODMAN_IMAGE, KubernetesBuilderSettings
from member.settings import MemberSettings
from servicekit.config import load
from tests.charts.helmkit import CHARTS, ROOT, of_kind

Objects = list[dict[str, Any]]

CONFIG: dict[str, Any] = {
    "name": "member-1",
    "public_url": "https://member-1.example.org/",
    "hub": {"public_url": "https://hub.member-1.example.org/"},
}
REGISTRY = {"url": "https://registry.example.org:5000", "username": "member", "password": "a password"}
LEAST: dict[str, Any] = {"config": CONFIG, "registry": REGISTRY}
ALL_ON: dict[str, Any] = {
    **LEAST,
    "config": {
        **CONFIG,
        "public_url": "https://example.org/binder/",
        "security": {"build_token_secret_file": "/etc/manybinder/secrets/build-token-secret"},
        "builder": {
            "engine": "pink",
            "image": PODMAN_IMAGE,
            "node_selector": {"pool": "builds"},
            "tolerations": [{"key": "builds", "operator": "Exists"}],
            "sessions": {"autoscaler_max_nodes": 3, "autoscaler_sessions_per_node": 20},
        },
    },
    "secretName": "member-secrets",
    "join": {"gateway": "https://binder.example.org", "tokenSecret": "join"},
    "ingress": {"enabled": True, "annotations": {"a": "b"}, "tls": [{"secretName": "tls", "hosts": ["example.org"]}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "podDisruptionBudget": {"enabled": True},
    "monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
    "service": {"type": "LoadBalancer", "ipFamilies": ["IPv6"]},
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "high",
    "extraEnv": [{"name": "MANYBINDER__LOG_LEVEL", "value": "debug"}],
}
#: Docker of the nodes, a registry that asks nobody who they are, and no rights on the cluster as a whole.
BARE: dict[str, Any] = {
    "config": {**CONFIG, "builder": {"engine": "host", "capacity": "limit"}},
    "registry": {"url": "http://10.0.0.1:5000"},
    "builds": {"namespace": "elsewhere", "createNamespace": False},
    "persistence": {"enabled": False},
    "networkPolicy": {"enabled": False, "builds": {"enabled": False}},
}
#: Two of it.
SEVERAL: dict[str, Any] = {
    **LEAST,
    "replicas": 2,
    "persistence": {"enabled": False},
    "join": {"gateway": "https://binder.example.org", "tokenSecret": "join"},
    "podDisruptionBudget": {"enabled": True},
    "networkPolicy": {"ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}]},
}
EXAMPLES = sorted((ROOT / "config").glob("helm-member-*.yaml"))
README = (CHARTS / "member" / "README.md").read_text()
#: Values by the name of the case; the examples are cases.
CASES = {
    "least": LEAST,
    "all on": ALL_ON,
    "bare": BARE,
    "several": SEVERAL,
    "readme": yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]),
    **{path.name: yaml.safe_load(path.read_text()) for path in EXAMPLES},
}

each_case = pytest.mark.parametrize("everything", CASES, indirect=True)


def ours(objects: Objects) -> Objects:
    """What is no part of the Hub's chart, and is there all the time."""
    name = ("app.kubernetes.io/part-of", "manybinder")
    made = [item for item in objects if name in item["metadata"].get("labels", {}).items()]
    return [item for item in made if "helm.sh/hook" not in item["metadata"].get("annotations", {})]


def hooks(objects: Objects) -> Objects:
    """What `helm test` makes."""
    return [item for item in objects if item["metadata"].get("annotations", {}).get("helm.sh/hook") == "test"]


def named(objects: Objects, kind: str, ending: str = "binder-member") -> dict[str, Any]:
    """The one of a kind whose name ends so."""
    (found,) = [item for item in of_kind(objects, kind) if item["metadata"]["name"].endswith(ending)]
    return found


def member_config(objects: Objects) -> dict[str, Any]:
    """The configuration that the member gets."""
    loaded = yaml.safe_load(named(objects, "ConfigMap")["data"]["member.yaml"])
    assert isinstance(loaded, dict)
    return loaded


def member_settings(objects: Objects, directory: Path) -> MemberSettings:
    """The configuration as the member reads it, with files where its pod has them."""
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    text = yaml.safe_dump(member_config(objects))
    key = Ed25519PrivateKey.generate()
    for number, path in enumerate(sorted(set(re.findall(r"/etc/manybinder/\S+", text)))):
        mount = next(item for item in spec["containers"][0]["volumeMounts"] if path.startswith(item["mountPath"] + "/"))
        volume = next(item for item in spec["volumes"] if item["name"] == mount["name"])
        if "items" in volume["secret"]:
            assert Path(path).name in [item["path"] for item in volume["secret"]["items"]]
        file = directory / f"file-{number}"
        pem = public_pem(key.public_key()) if path.endswith(".pub.pem") else private_pem(key)
        file.write_text(pem if path.endswith(".pem") else "0123456789" * 4)
        text = text.replace(path, str(file))
    config = directory / "member.yaml"
    config.write_text(text)
    return load(MemberSettings, config, {})


def kubernetes_builder(settings: MemberSettings) -> KubernetesBuilderSettings:
    """The builder's section."""
    assert isinstance(settings.builder, KubernetesBuilderSettings)
    return settings.builder
