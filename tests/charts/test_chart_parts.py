"""Parts of the charts that no schema of Kubernetes' own knows or that are copies: custom resources, an archive,
autoscaling, where visitors' addresses are kept, and what the charts say of themselves.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from member.builder_settings import KubernetesBuilderSettings
from tests.charts.helmkit import CHARTS, ROOT, Helm, of_kind
from tests.charts.memberkit import LEAST as MEMBER
from tests.charts.memberkit import ours

LEAST: dict[str, Any] = {"config": {"public_url": "https://binder.example.org/"}}
MONITORING = {
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "labels": {"grafana_dashboard": "1"}},
}


def chart_yaml(chart: str) -> dict[str, Any]:
    loaded = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def images_of(values: Any, version: str) -> set[str]:
    """All images that values name."""
    if not isinstance(values, dict):
        return set()
    found = set().union(*(images_of(item, version) for key, item in values.items() if key != "jupyterhub"))
    if {"repository", "tag"} <= values.keys():
        found.add(f"{values['repository']}:{values['tag'] or version}")
    return found


@pytest.mark.parametrize("packed", [False, True], ids=["directory", "archive"])
def test_rules_and_dashboard_are_those_of_the_configuration(helm: Helm, tmp_path: Path, packed: bool) -> None:
    chart = "gateway"
    if packed:
        # The chart's files are links to those, which an archive has to hold as files.
        made = helm.run("package", CHARTS / "gateway", "--destination", tmp_path)
        assert made.returncode == 0, made.stderr
        (archive,) = tmp_path.glob("manybinder-gateway-*.tgz")
        chart = str(archive)
    objects = helm.render(chart, **LEAST, monitoring=MONITORING)
    (rule,) = of_kind(objects, "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert rule["spec"] == yaml.safe_load((ROOT / "config" / "alerts.yaml").read_text())
    (dashboard,) = [item for item in of_kind(objects, "ConfigMap") if "manybinder.json" in item["data"]]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["manybinder.json"]) == json.loads(
        (ROOT / "config" / "dashboard.json").read_text()
    )


def test_an_autoscaler_alone_says_how_many_replicas_there_are(helm: Helm) -> None:
    objects = helm.render("gateway", **LEAST, autoscaling={"enabled": True, "minReplicas": 2, "maxReplicas": 7})
    (scaler,) = of_kind(objects, "HorizontalPodAutoscaler")
    (deployment,) = of_kind(objects, "Deployment")
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 7)
    # Every upgrade would set it back.
    assert "replicas" not in deployment["spec"]
    # Percents of a request, which has to be there.
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"]
    plain = helm.render("gateway", **LEAST)
    assert not of_kind(plain, "HorizontalPodAutoscaler")
    assert of_kind(plain, "Deployment")[0]["spec"]["replicas"] > 1


def test_replicas_of_the_gateway_are_spread_over_nodes_and_zones(helm: Helm) -> None:
    (deployment,) = of_kind(helm.render("gateway", **LEAST), "Deployment")
    pod = deployment["spec"]["template"]
    constraints = pod["spec"]["topologySpreadConstraints"]
    assert [item["topologyKey"] for item in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for item in constraints:
        # As far as it goes: a cluster of one node runs them all.
        assert (item["maxSkew"], item["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
        assert item["labelSelector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
        assert item["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    (alone,) = of_kind(helm.render("gateway", **LEAST, topologySpread=False), "Deployment")
    assert "topologySpreadConstraints" not in alone["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_services_that_visitors_come_to_keep_their_addresses(helm: Helm, chart: str, kind: str) -> None:
    gateway = helm.render("gateway", **LEAST, service={"type": kind})
    member = ours(helm.render(chart, **MEMBER, service={"type": kind}))
    for objects in (gateway, member):
        (service,) = [item for item in of_kind(objects, "Service") if item["spec"].get("type") == kind]
        assert service["spec"]["externalTrafficPolicy"] == "Local"
    inner = [
        *of_kind(helm.render("gateway", **LEAST), "Service"),
        *of_kind(ours(helm.render(chart, **MEMBER)), "Service"),
    ]
    # The API refuses it of others.
    assert not any("externalTrafficPolicy" in item["spec"] for item in inner)


def test_sessions_reach_neither_the_clusters_network_nor_the_clouds_metadata() -> None:
    values = yaml.safe_load((CHARTS / "member" / "values.yaml").read_text())
    policy = values["jupyterhub"]["singleuser"]["networkPolicy"]
    assert policy["enabled"]
    rules = policy["egressAllowRules"]
    assert (rules["privateIPs"], rules["cloudMetadataServer"], rules["nonPrivateIPs"]) == (False, False, True)
    assert values["jupyterhub"]["singleuser"]["cloudMetadata"] == {"blockWithIptables": False}


@pytest.mark.parametrize("name", ["gateway", "member"])
def test_a_chart_says_of_itself_what_is_so(name: str) -> None:
    about = chart_yaml(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert about["appVersion"] == about["version"] == project["version"]
    values = yaml.safe_load((CHARTS / name / "values.yaml").read_text())
    named = {item["image"] for item in yaml.safe_load(about["annotations"]["artifacthub.io/images"])}
    expected = images_of(values, about["appVersion"])
    if name == "member":
        expected.add(KubernetesBuilderSettings().image)
    assert named == expected
