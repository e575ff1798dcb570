"""The gateway's chart: what it renders is valid, secure, and a configuration that the gateway takes; bad values are
refused with a sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redisserver import free_port, redis_program

from contract.signatures import private_pem, public_pem
from gateway.settings import GatewaySettings, load
from tests.charts.helmkit import (
    CHARTS,
    KUBERNETES,
    ROOT,
    Helm,
    assert_probes_ask,
    each_service,
    of_kind,
    pod_templates,
    secret_settings,
    secrets_refused,
)
from tests.gateway.harness import until

LEAST = {"config": {"public_url": "https://binder.example.org/"}}
EXAMPLES = sorted((ROOT / "config").glob("helm-gateway-*.yaml"))
#: Custom resources, whose schemas are not Kubernetes' own.
CUSTOM = {"HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule"}
ALL_ON: dict[str, Any] = {
    "config": {"public_url": "https://example.org/binder/", "listen": {"trusted_proxies": ["10.0.0.0/8"]}},
    "autoscaling": {"enabled": True},
    "ingress": {"enabled": True, "annotations": {"a": "b"}, "tls": [{"secretName": "tls", "hosts": ["example.org"]}]},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboard")},
    "service": {"type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]},
    "imagePullSecrets": [{"name": "pull"}],
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "high",
    "extraEnv": [{"name": "MANYBINDER__LOG_LEVEL", "value": "debug"}],
}
ALONE: dict[str, Any] = {**LEAST, "replicas": 1, "redis": {"enabled": False}, "persistence": {"enabled": True}}
NO_TIMEOUTS = {"enabled": True, "parentRefs": [{"name": "public"}], "timeouts": None}
CASES = {"least": LEAST, "all on": ALL_ON, "alone": ALONE}


def gateway_config(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """The configuration that the gateway gets."""
    (config,) = [item for item in of_kind(objects, "ConfigMap") if "gateway.yaml" in item["data"]]
    loaded = yaml.safe_load(config["data"]["gateway.yaml"])
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(params=[*CASES, *(path.name for path in EXAMPLES)])
def objects(request: pytest.FixtureRequest, helm: Helm) -> list[dict[str, Any]]:
    """What is rendered of the least values, of all of them, and of each example."""
    if request.param in CASES:
        return helm.render("gateway", **CASES[request.param])
    return helm.render("gateway", ROOT / "config" / request.param)


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_the_name_of_no_member_that_joins_by_token(values: Path) -> None:
    # The gateway would refuse it.
    named = {item["name"] for item in yaml.safe_load(values.read_text())["config"].get("members", [])}
    members = [yaml.safe_load(path.read_text()) for path in (ROOT / "config").glob("helm-member-*.yaml")]
    joining = {item["config"]["name"] for item in members if "join" in item}
    assert joining
    assert named & joining == set()


@pytest.mark.parametrize("values", EXAMPLES, ids=lambda path: path.name)
def test_lint(helm: Helm, values: Path) -> None:
    result = helm.run("lint", "--strict", CHARTS / "gateway", "--values", values)
    assert result.returncode == 0, result.stdout


def test_every_object_is_one_that_kubernetes_takes(objects: list[dict[str, Any]]) -> None:
    for item in objects:
        if item["kind"] not in CUSTOM:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names))


def test_pods_fit_the_restricted_standard(objects: list[dict[str, Any]]) -> None:
    templates = pod_templates(objects)
    assert templates
    for template in templates:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert not any("hostPath" in volume for volume in spec["volumes"])
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert not context.get("privileged")
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


def test_nothing_has_rights_in_the_cluster_and_nothing_is_secret(objects: list[dict[str, Any]]) -> None:
    kinds = {item["kind"] for item in objects}
    assert not kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"}
    config = gateway_config(objects)
    assert config["signing_key_file"].startswith("/etc/manybinder/secrets/")
    assert "PRIVATE KEY" not in json.dumps(objects)


def test_rendering_again_changes_nothing(helm: Helm) -> None:
    assert helm.render("gateway", **ALL_ON) == helm.render("gateway", **ALL_ON)


def test_services_and_policies_meet_their_pods(objects: list[dict[str, Any]]) -> None:
    templates = pod_templates(objects)

    def met(selector: dict[str, str]) -> list[dict[str, Any]]:
        return [item for item in templates if selector.items() <= item["metadata"]["labels"].items()]

    for service in of_kind(objects, "Service"):
        (template,) = met(service["spec"]["selector"])
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for kind, path in (("NetworkPolicy", "podSelector"), ("PodDisruptionBudget", "selector")):
        for item in of_kind(objects, kind):
            assert len(met(item["spec"][path]["matchLabels"])) == 1
    services = {item["metadata"]["name"]: item for item in of_kind(objects, "Service")}
    for route in of_kind(objects, "HTTPRoute"):
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            assert backend["port"] in [port["port"] for port in services[backend["name"]]["spec"]["ports"]]
        assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}
    for monitor in of_kind(objects, "PodMonitor"):
        (template,) = met(monitor["spec"]["selector"]["matchLabels"])
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
    for monitor in of_kind(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [item for item in services.values() if wanted <= item["metadata"]["labels"].items()]
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_a_new_version_of_the_chart_alone_starts_no_pod_anew(objects: list[dict[str, Any]]) -> None:
    for template in pod_templates(objects):
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & template["metadata"]["labels"].keys()


def test_every_pod_has_a_network_policy_that_keeps_the_metadata_service_away(objects: list[dict[str, Any]]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    assert len(policies) == len(pod_templates(objects))
    for policy in policies:
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        for rule in policy["spec"]["egress"]:
            for peer in rule.get("to", []):
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert "169.254.0.0/16" in peer["ipBlock"]["except"]
                if peer.get("ipBlock", {}).get("cidr") == "::/0":
                    assert "fd00:ec2::254/128" in peer["ipBlock"]["except"]
    # Some network plugins match pods by no address, and a member may be in the same cluster.
    gateway = next(item for item in policies if item["spec"]["egress"])
    assert {"to": [{"namespaceSelector": {}}]} in gateway["spec"]["egress"]


def test_the_gateway_takes_its_configuration(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    text = yaml.safe_dump(gateway_config(objects)).replace("/etc/manybinder/secrets", str(tmp_path))
    for name in ("launch-signing-key.pem", "build-token-secret", "redis-password", "github-token"):
        (tmp_path / name).write_text(private_pem(key) if name.endswith(".pem") else "0123456789" * 4)
    (tmp_path / "member-1-report.pub.pem").write_text(public_pem(key.public_key()))
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    settings = load(path)
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["ports"][0]["containerPort"] == settings.listen.port
    assert pod["terminationGracePeriodSeconds"] > settings.drain.notice + settings.drain.timeout
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert str(settings.data_dir) in mounts
    assert "/etc/manybinder/secrets" in mounts
    redis = [item for item in of_kind(objects, "Service") if item["metadata"]["name"].endswith("-redis")]
    assert (settings.redis is not None) == bool(redis)
    if settings.redis is not None:
        assert settings.redis.url == f"redis://{redis[0]['metadata']['name']}:6379/0"


def test_probes_ask_below_the_public_path_as_the_public_host(helm: Helm) -> None:
    config = {"public_url": "https://example.org:8443/binder"}
    (deployment,) = of_kind(helm.render("gateway", config=config), "Deployment")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    assert_probes_ask(container, "/binder", "example.org")


@each_service
def test_it_listens_on_what_the_service_offers(helm: Helm, service: dict[str, Any], host: str) -> None:
    config = gateway_config(helm.render("gateway", **LEAST, service=service))
    assert config["listen"]["host"] == host


def test_a_change_of_settings_replaces_the_pods(helm: Helm) -> None:
    def checksum(**config: Any) -> str:
        objects = helm.render("gateway", config={**LEAST["config"], **config})
        (deployment,) = of_kind(objects, "Deployment")
        found = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        assert isinstance(found, str)
        return found

    assert checksum() == checksum()
    assert checksum() != checksum(name="another")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"config": {}}, "config.public_url is not set"),
    ({"config": {"public_url": "binder.example.org"}}, "it must be an http or https address"),
    ({**LEAST, "redis": {"enabled": False}}, "more than one replica, and no Redis in which they meet"),
    (
        {**LEAST, "replicas": 1, "redis": {"enabled": False}, "autoscaling": {"enabled": True}},
        "more than one replica, and no Redis in which they meet",
    ),
    ({**LEAST, "persistence": {"enabled": True}}, "persistence.enabled is for one gateway without Redis"),
    ({"config": {**LEAST["config"], "redis": {"url": "redis://r/"}}}, "the chart runs one of its own"),
    ({"config": {**LEAST["config"], "data_dir": "/x"}}, "config.data_dir is set by the chart"),
    ({"config": {**LEAST["config"], "drain": {}}}, "use the value drain"),
    ({"config": {**LEAST["config"], "listen": {"port": 1}}}, "config.listen.port is set by the chart"),
    (
        {**LEAST, "autoscaling": {"enabled": True, "minReplicas": 9}},
        "autoscaling.minReplicas is more than autoscaling.maxReplicas",
    ),
    (
        {"config": {**LEAST["config"], "security": {"build_token_secret": "x"}}},
        "config.security.build_token_secret would stand in a ConfigMap",
    ),
    (
        {"config": {**LEAST["config"], "members": [{"name": "m", "report_key": "x"}]}},
        "name its file in config.members[0].report_key_file",
    ),
    ({**LEAST, "httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
    ({**LEAST, "replica": 3}, "additional properties 'replica' not allowed"),
    ({**LEAST, "redis": {"persistance": {}}}, "additional properties 'persistance' not allowed"),
    ({**LEAST, "replicas": 0}, "minimum"),
    ({**LEAST, "secretName": ""}, "secretName"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_bad_values_are_refused_with_a_sentence(helm: Helm, values: dict[str, Any], sentence: str) -> None:
    assert sentence in helm.refusal("gateway", **values)


def test_a_route_without_timeouts_is_for_what_does_not_know_them(helm: Helm) -> None:
    (route,) = of_kind(helm.render("gateway", **LEAST, httpRoute=NO_TIMEOUTS), "HTTPRoute")
    assert "timeouts" not in route["spec"]["rules"][0]


def test_no_secret_setting_is_let_into_a_config_map() -> None:
    assert secrets_refused("gateway") == secret_settings(GatewaySettings)


def test_an_external_redis_takes_the_place_of_the_charts(helm: Helm) -> None:
    config = {**LEAST["config"], "redis": {"url": "rediss://redis.example.org/", "password_file": "/etc/x"}}
    objects = helm.render("gateway", config=config, redis={"enabled": False})
    assert not of_kind(objects, "StatefulSet")
    assert gateway_config(objects)["redis"] == config["redis"]


async def test_its_redis_starts_and_asks_for_the_password(helm: Helm, tmp_path: Path) -> None:
    (stateful,) = of_kind(helm.render("gateway", **LEAST), "StatefulSet")
    container = stateful["spec"]["template"]["spec"]["containers"][0]
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "redis-server").symlink_to(redis_program())
    (tmp_path / "redis-password").write_text("the password")
    port = free_port()
    script = container["args"][0].replace("/etc/redis-secret", str(tmp_path)).replace("/data", str(tmp_path))
    script = script.replace(" - --dir", f" - --port {port} --bind 127.0.0.1 --dir")
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*container["command"], script], env=environ, stdout=log, stderr=log)  # noqa: ASYNC220
    try:
        client = Redis(port=port, password="the password")
        await until(lambda: b"Ready to accept connections" in (tmp_path / "log").read_bytes())
        assert await client.ping()
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "volatile-ttl"
        await client.aclose()
        stranger = Redis(port=port)
        with pytest.raises(AuthenticationError):
            await stranger.ping()
        await stranger.aclose()
    finally:
        # As the kubelet ends it: it is the server itself that hears of it.
        process.terminate()
        process.wait(60)
    assert b"ready to exit" in (tmp_path / "log").read_bytes()


def test_what_is_made_of_the_schema_is_up_to_date() -> None:
    command = [sys.executable, str(CHARTS / "generate.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
