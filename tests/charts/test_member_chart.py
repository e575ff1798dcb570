"""The member's chart: what it renders is valid, secure, has the rights that are documented, and meets its pods."""

import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from member.settings import MemberSettings
from servicekit.config import load
from tests.charts.helmkit import KUBERNETES, ROOT, Helm, of_kind, pod_templates
from tests.charts.memberkit import (
    ALL_ON,
    CASES,
    EXAMPLES,
    LEAST,
    README,
    REGISTRY,
    SEVERAL,
    Objects,
    each_case,
    hooks,
    kubernetes_builder,
    member_config,
    member_settings,
    named,
    ours,
)
from tests.charts.pod_security import offences

#: Custom resources, whose schemas are not Kubernetes' own.
CUSTOM = {"HTTPRoute", "ServiceMonitor", "PodMonitor"}


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name)
def test_lint(helm: Helm, chart: str, values: Path) -> None:
    result = helm.run("lint", "--strict", chart, "--values", values)
    assert result.returncode == 0, result.stdout


def test_the_readme_shows_few_lines_that_suffice(helm: Helm, chart: str) -> None:
    assert len(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0].splitlines()) <= 15
    assert helm.render(chart, **CASES["readme"])


@each_case
def test_every_object_is_one_that_kubernetes_takes(everything: Objects) -> None:
    for item in everything:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
    names = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in everything]
    assert len(names) == len(set(names))


@each_case
def test_all_pods_beside_the_hub_fit_the_restricted_standard(everything: Objects) -> None:
    here = [item for item in everything if item["metadata"].get("namespace", "binder") == "binder"]
    assert pod_templates(here)
    for template in pod_templates(here):
        assert offences(template["spec"]) == []
    (container,) = named(here, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"]
    assert container["resources"]["limits"]["memory"]


@each_case
def test_what_needs_more_is_in_a_namespace_of_its_own(objects: Objects, tmp_path: Path) -> None:
    namespace = kubernetes_builder(member_settings(objects, tmp_path)).namespace
    assert namespace != "binder"
    for daemon_set in of_kind(objects, "DaemonSet"):
        assert daemon_set["metadata"]["namespace"] == namespace
        spec = daemon_set["spec"]["template"]["spec"]
        assert offences(spec)
        assert spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        (container,) = spec["containers"]
        assert container["resources"]["requests"]
        privileged = not daemon_set["metadata"]["name"].endswith("-image-cleaner")
        assert container["securityContext"].get("privileged", False) is privileged
        if not privileged:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for made in of_kind(objects, "Namespace"):
        assert made["metadata"]["name"] == namespace
        assert made["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_who_makes_the_namespace_of_builds_is_told_its_label(helm: Helm, chart: str) -> None:
    (made,) = of_kind(ours(helm.render(chart, **LEAST)), "Namespace")
    name, label = made["metadata"]["name"], "pod-security.kubernetes.io/enforce"
    paragraph = README.partition("**A password of your own keeping.**")[2].partition("**Changing secrets.**")[0]
    assert "`builds.createNamespace: false`" in paragraph
    assert f"$ kubectl create namespace {name}\n" in paragraph
    assert f"$ kubectl label namespace {name} {label}={made['metadata']['labels'][label]}\n" in paragraph
    assert of_kind(ours(helm.render(chart, **LEAST, builds={"createNamespace": False})), "Namespace") == []


def documented_rights() -> set[tuple[str, str, str]]:
    """Resource, verb and place of each row of the documentation's table."""
    page = (ROOT / "docs" / "kubernetes-builder.md").read_text().partition("## Rights")[2]
    found = set()
    for resources, verbs, where in re.findall(r"^\| (`.+?) \| (`.+?) \| (.+?) \|", page, re.MULTILINE):
        (resource,) = re.findall(r"`(.+?)`", resources)
        found |= {(resource, verb, re.split(r" \(|, ", where)[0]) for verb in re.findall(r"`(.+?)`", verbs)}
    return found


def granted(objects: Objects, namespace: str) -> set[tuple[str, str, str]]:
    """The same of the roles that are bound to the member's account."""
    found = set()
    (account,) = of_kind(objects, "ServiceAccount")
    for role in (*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")):
        bindings = [
            item
            for item in of_kind(objects, f"{role['kind']}Binding")
            if (item["metadata"].get("namespace"), item["roleRef"]["kind"], item["roleRef"]["name"])
            == (role["metadata"].get("namespace"), role["kind"], role["metadata"]["name"])
        ]
        (binding,) = bindings
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "binder"}
        ]
        places = {namespace: "builds' namespace", None: "sessions' namespace"}
        place = "cluster" if role["kind"] == "ClusterRole" else places[role["metadata"].get("namespace")]
        for rule in role["rules"]:
            assert rule["apiGroups"] == (["coordination.k8s.io"] if rule["resources"] == ["leases"] else [""])
            # What may be read or changed of Secrets is one of them; making one cannot be tied to a name.
            is_read = rule["resources"] == ["secrets"] and rule["verbs"] != ["create"]
            assert rule.get("resourceNames") == (["manybinder-federations"] if is_read else None)
            found |= {(resource, verb, place) for resource in rule["resources"] for verb in rule["verbs"]}
    return found


@each_case
def test_it_has_the_rights_that_are_documented_and_no_others(objects: Objects, tmp_path: Path) -> None:
    builder = kubernetes_builder(member_settings(objects, tmp_path))
    wanted = documented_rights()
    assert len(wanted) == 23
    if member_config(objects)["joined"].get("secret") is None:
        wanted = {right for right in wanted if right[0] != "secrets"}
    if named(objects, "Deployment")["spec"]["replicas"] == 1:
        wanted = {right for right in wanted if right[0] != "leases"}
    if builder.capacity == "limit":
        wanted = {right for right in wanted if right[2] == "builds' namespace" or right[0] == "secrets"}
    assert granted(objects, builder.namespace) == wanted
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == named(objects, "ServiceAccount")["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is True


def test_of_several_replicas_one_may_go_without_anybody_noticing(helm: Helm, chart: str, tmp_path: Path) -> None:
    objects = ours(helm.render(chart, **SEVERAL))
    deployment = named(objects, "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    spec = deployment["template"]["spec"]
    labels = deployment["selector"]["matchLabels"]
    assert {item["topologyKey"] for item in spec["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(item["labelSelector"]["matchLabels"] == labels for item in spec["topologySpreadConstraints"])
    (container,) = spec["containers"]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] < spec["terminationGracePeriodSeconds"]
    assert [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume] == []
    assert of_kind(objects, "PersistentVolumeClaim") == []
    (budget,) = of_kind(objects, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    (service,) = of_kind(objects, "Service")
    assert "publishNotReadyAddresses" not in service["spec"]
    # They reach each other, whoever else may.
    policy = next(item for item in of_kind(objects, "NetworkPolicy") if "namespace" not in item["metadata"])
    assert {"podSelector": {"matchLabels": labels}} in policy["spec"]["ingress"][0]["from"]
    # Each learns its own name and address as the kubelet puts them in, and a kubelet does so in order.
    told: dict[str, str] = {}
    for item in container["env"]:
        field = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")
        pod = {"metadata.name": "member-7f-x", "status.podIP": "2001:10:1:2:3:4:5:6"}
        value = pod[field] if field else item["value"]
        for name, known in list(told.items()):
            value = value.replace(f"$({name})", known)
        told[item["name"]] = value
    config = tmp_path / "member.yaml"
    member_settings(objects, tmp_path)
    replicas = load(MemberSettings, config, told).replicas
    assert replicas is not None
    assert (replicas.name, replicas.host) == ("member-7f-x", "2001:10:1:2:3:4:5:6")


def test_helm_test_checks_pools_with_rights_of_its_own_while_it_runs(helm: Helm, chart: str, tmp_path: Path) -> None:
    made = hooks(helm.render(chart, release="member", **SEVERAL))
    (pod,) = of_kind(made, "Pod")
    assert offences(pod["spec"]) == []
    # It ends before Helm's patience does, with the timeout that is documented.
    assert 3000 < pod["spec"]["activeDeadlineSeconds"] < 3600
    assert "helm test member --namespace binder --timeout 1h\n" in README
    # Of all that it makes only this one has a log, and it stays to be read.
    policy = pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    assert policy == "before-hook-creation"
    assert f"kubectl logs {pod['metadata']['name']} --namespace binder\n" in README
    for item in made:
        kubernetes_validate.validate(item, KUBERNETES, strict=True)
        policy = item["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",")
        assert "before-hook-creation" in policy
        # Rights go with the run, whatever its end.
        assert item is pod or {"hook-succeeded", "hook-failed"} <= set(policy)
        assert item is pod or int(item["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0
    account = pod["spec"]["serviceAccountName"]
    there = ours(helm.render(chart, release="member", **SEVERAL))
    assert account != named(there, "ServiceAccount", "member")["metadata"]["name"]
    bindings = [*of_kind(made, "RoleBinding"), *of_kind(made, "ClusterRoleBinding")]
    assert len(bindings) == 3
    assert all(binding["subjects"][0]["name"] == account for binding in bindings)
    rights = {
        (item["metadata"].get("namespace"), rule["resources"][0], tuple(rule["verbs"]))
        for item in (*of_kind(made, "Role"), *of_kind(made, "ClusterRole"))
        for rule in item["rules"]
    }
    assert rights == {
        ("binder-builds", "pods", ("create", "get", "patch", "delete", "list", "watch")),
        ("binder-builds", "pods/log", ("get",)),
        ("binder-builds", "events", ("list",)),
        (None, "pods", ("create", "get", "delete")),
        (None, "nodes", ("list",)),
    }
    (container,) = pod["spec"]["containers"]
    assert "--repo=https://binder.example.org/canary.git" in container["args"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {item["name"] for item in pod["spec"]["volumes"]}
    # The program takes these arguments, and a node pulls as one does for a session.
    sessions = kubernetes_builder(member_settings(ours(helm.render(chart, **SEVERAL)), tmp_path)).sessions
    assert sessions.image_pull_secrets == ("manybinder-registry",)
    assert hooks(helm.render(chart, **LEAST)) == []


def test_one_replica_has_its_volume_and_no_leases(helm: Helm, chart: str) -> None:
    objects = ours(helm.render(chart, **LEAST))
    assert named(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "MANYBINDER__REPLICAS" not in json.dumps(objects)
    assert len(of_kind(objects, "PersistentVolumeClaim")) == 1


def test_the_readme_lists_the_same_rights() -> None:
    rows = re.findall(r"^\| `.+? \| `.+? \| .+ \|$", README.partition("## Rights")[2].partition("## ")[0], re.MULTILINE)
    page = (ROOT / "docs" / "kubernetes-builder.md").read_text()
    same = [_as_in_the_docs(row) for row in rows]
    assert len(rows) == 12
    assert all(row in page for row in same)


def _as_in_the_docs(row: str) -> str:
    names = {
        "config.builder.capacity": "capacity",
        "release's": "sessions'",
        "persistence.enabled: false": "joined.secret",
    }
    for here, there in names.items():
        row = row.replace(here, there)
    return row


@each_case
def test_nothing_secret_is_in_a_config_map(objects: Objects) -> None:
    for item in objects:
        if item["kind"] != "Secret":
            assert REGISTRY["password"] not in json.dumps(item)
    config = member_config(objects)
    assert config["hub"]["api_token_file"] == "/etc/manybinder/hub/token"
    assert "password" not in config["registry"]


def test_a_new_version_of_the_chart_alone_starts_no_pod_anew(helm: Helm, chart: str) -> None:
    for template in pod_templates(ours(helm.render(chart, **ALL_ON))):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & template["metadata"]["labels"].keys()


def test_rendering_again_changes_nothing(helm: Helm, chart: str) -> None:
    assert ours(helm.render(chart, **ALL_ON)) == ours(helm.render(chart, **ALL_ON))


@each_case
def test_services_and_policies_meet_their_pods(everything: Objects, objects: Objects) -> None:
    templates = pod_templates(objects)

    def met(selector: dict[str, str]) -> list[dict[str, Any]]:
        return [item for item in templates if selector.items() <= item["metadata"]["labels"].items()]

    for workload in (*of_kind(objects, "Deployment"), *of_kind(objects, "DaemonSet")):
        assert len(met(workload["spec"]["selector"]["matchLabels"])) == 1
    (service,) = of_kind(objects, "Service")
    (template,) = met(service["spec"]["selector"])
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for policy in of_kind(objects, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]
        assert selector == {} or len(met(selector["matchLabels"])) == 1
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert len(met(budget["spec"]["selector"]["matchLabels"])) == 1
    for route in of_kind(objects, "HTTPRoute"):
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert (backend["name"], backend["port"]) == (service["metadata"]["name"], service["spec"]["ports"][0]["port"])
        assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
    for monitor in of_kind(objects, "PodMonitor"):
        assert met(monitor["spec"]["selector"]["matchLabels"]) == [template]
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
    for monitor in of_kind(objects, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


@each_case
def test_network_policies_keep_the_metadata_service_away(objects: Objects, tmp_path: Path) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    builds = kubernetes_builder(member_settings(objects, tmp_path)).namespace
    if "http://10.0.0.1:5000" in json.dumps(member_config(objects)):
        assert policies == []
        return
    assert [policy["metadata"].get("namespace") for policy in policies] == [None, builds]
    for policy in policies:
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        blocks = [
            peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule.get("to", []) if "ipBlock" in peer
        ]
        (everywhere,) = [block for block in blocks if block["cidr"] == "0.0.0.0/0"]
        assert "169.254.0.0/16" in everywhere["except"]
        for block in blocks:
            network = ip_network(block["cidr"])
            excepted = [ip_network(item) for item in block.get("except", [])]
            assert all(item.version == network.version and item != network for item in excepted)
    # Nobody reaches builds, and they reach nothing of the cluster.
    assert policies[1]["spec"]["podSelector"] == {}
    assert policies[1]["spec"]["ingress"] == []
    (internet,) = [
        peer["ipBlock"]
        for rule in policies[1]["spec"]["egress"]
        for peer in rule.get("to", [])
        if peer["ipBlock"]["cidr"] == "0.0.0.0/0"
    ]
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} <= set(internet["except"])
