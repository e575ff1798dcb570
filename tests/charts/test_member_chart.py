"""The member's chart: what it renders is valid, secure, and a configuration that the member takes; bad values are
refused with a sentence."""

import base64
import json
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.signatures import private_pem, public_pem
from member.builder_settings import KubernetesBuilderSettings
from member.builders.kubernetes.rules import SOCKETS, build_pod_rules, session_shape
from member.core.pods import build_pod
from member.settings import MemberSettings
from servicekit.config import load
from tests.charts.helmkit import CHARTS, KUBERNETES, ROOT, Helm, of_kind, pod_templates
from tests.charts.pod_security import offences
from tests.charts.z2jh import member_chart

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
    "monitoring": {"serviceMonitor": {"enabled": True}},
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
EXAMPLES = sorted((ROOT / "config").glob("helm-member-*.yaml"))
README = (CHARTS / "member" / "README.md").read_text()
#: Custom resources, whose schemas are not Kubernetes' own.
CUSTOM = {"HTTPRoute", "ServiceMonitor"}
#: Where there are values of the case and of each example.
CASES = {
    "least": LEAST,
    "all on": ALL_ON,
    "bare": BARE,
    "readme": yaml.safe_load(re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)[0]),
    **{path.name: yaml.safe_load(path.read_text()) for path in EXAMPLES},
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The chart with a Hub's; Helm takes a path as well."""
    return str(member_chart(tmp_path_factory.mktemp("charts")))


@pytest.fixture(scope="module")
def rendered() -> dict[str, Objects]:
    """Objects of cases, which are rendered once."""
    return {}


@pytest.fixture
def everything(request: pytest.FixtureRequest, helm: Helm, chart: str, rendered: dict[str, Objects]) -> Objects:
    """All objects of a case, the Hub's chart's among them."""
    if request.param not in rendered:
        rendered[request.param] = helm.render(chart, **CASES[request.param])
    return rendered[request.param]


@pytest.fixture
def objects(everything: Objects) -> Objects:
    """Those that are ours."""
    return ours(everything)


each_case = pytest.mark.parametrize("everything", CASES, indirect=True)


def ours(objects: Objects) -> Objects:
    """What is no part of the Hub's chart."""
    name = ("app.kubernetes.io/part-of", "manybinder")
    return [item for item in objects if name in item["metadata"].get("labels", {}).items()]


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
    assert isinstance(settings.builder, KubernetesBuilderSettings)
    return settings.builder


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


def documented_rights() -> set[tuple[str, str, str]]:
    """Resource, verb and place of each row of the documentation's table."""
    page = (ROOT / "docs" / "kubernetes-builder.md").read_text().partition("## Rights")[2]
    found = set()
    for resources, verbs, where in re.findall(r"^\| (`.+?) \| (`.+?) \| (.+?) \|", page, re.MULTILINE):
        (resource,) = re.findall(r"`(.+?)`", resources)
        found |= {(resource, verb, where.partition(" (")[0]) for verb in re.findall(r"`(.+?)`", verbs)}
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
            assert rule["apiGroups"] == [""]
            found |= {(resource, verb, place) for resource in rule["resources"] for verb in rule["verbs"]}
    return found


@each_case
def test_it_has_the_rights_that_are_documented_and_no_others(objects: Objects, tmp_path: Path) -> None:
    builder = kubernetes_builder(member_settings(objects, tmp_path))
    wanted = documented_rights()
    assert len(wanted) == 14
    if builder.capacity == "limit":
        wanted = {right for right in wanted if right[2] == "builds' namespace"}
    assert granted(objects, builder.namespace) == wanted
    spec = named(objects, "Deployment")["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == named(objects, "ServiceAccount")["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is True


def test_the_readme_lists_the_same_rights() -> None:
    rows = re.findall(r"^\| `.+? \| `.+? \| .+ \|$", README.partition("## Rights")[2].partition("## ")[0], re.MULTILINE)
    page = (ROOT / "docs" / "kubernetes-builder.md").read_text()
    same = [row.replace("config.builder.capacity", "capacity").replace("release's", "sessions'") for row in rows]
    assert len(rows) == 9
    assert all(row in page for row in same)


@each_case
def test_nothing_secret_is_in_a_config_map(objects: Objects) -> None:
    for item in objects:
        if item["kind"] != "Secret":
            assert REGISTRY["password"] not in json.dumps(item)
    config = member_config(objects)
    assert config["hub"]["api_token_file"] == "/etc/manybinder/hub/token"
    assert "password" not in config["registry"]


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


@pytest.mark.parametrize("engine", ["dind", "pink"])
def test_an_engine_is_where_build_pods_look_for_it(helm: Helm, chart: str, tmp_path: Path, engine: str) -> None:
    given = {"engine": engine, "node_selector": {"pool": "builds"}, "tolerations": [{"key": "b", "operator": "Exists"}]}
    for socket in (None, "/run/elsewhere/engine.sock"):
        config = {**CONFIG, "builder": {**given, "socket": socket} if socket else given}
        objects = ours(helm.render(chart, **{**LEAST, "config": config}))
        builder = kubernetes_builder(member_settings(objects, tmp_path))
        rules = build_pod_rules(builder, "member-1", builder.namespace, push=True)
        pod = build_pod(rules, "build", repo="r", repo_url="https://x/", commit="c", image="i")["spec"]  # type: ignore[arg-type]
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
    asked = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "livenessProbe": "/binder/livez",
        "readinessProbe": "/binder/readyz",
        "startupProbe": "/binder/livez",
    }
    assert all(get["httpHeaders"] == [{"name": "Host", "value": "example.org"}] for get in asked.values())


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


def hub(**changes: Any) -> dict[str, Any]:
    return {**LEAST, "jupyterhub": {"hub": changes}}


def user(**changes: Any) -> dict[str, Any]:
    return {**LEAST, "jupyterhub": {"singleuser": changes}}


def config(**changes: Any) -> dict[str, Any]:
    return {**LEAST, "config": {**CONFIG, **changes}}


def registry(**changes: Any) -> dict[str, Any]:
    return {**LEAST, "registry": {**REGISTRY, **changes}}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"registry": REGISTRY}, "config.name is not set"),
    (config(public_url=""), "config.public_url is not set"),
    (config(public_url="member.example.org"), 'config.public_url is "member.example.org": it must be an http or https'),
    (config(hub={}), "config.hub.public_url is not set"),
    (config(data_dir="/x"), "config.data_dir is set by the chart"),
    (config(listen={"port": 1}), "config.listen.port is set by the chart"),
    (config(hub={**CONFIG["hub"], "api_token": "x"}), "config.hub.api_token is set by the chart"),
    (config(hub={**CONFIG["hub"], "managed": {}}), "config.hub.managed is set by the chart"),
    (config(builder={"kind": "process"}), "config.builder.kind is set by the chart"),
    (config(builder={"namespace": "x"}), "config.builder.namespace is set by the chart"),
    (config(builder={"sessions": {"memory": "1Gi"}}), "config.builder.sessions.memory is what jupyterhub's values say"),
    (config(builder={"engine": "docker"}), "/config/builder/engine"),
    (config(builder={"push_secret": "x"}), "config.builder.push_secret is set by the chart"),
    (config(registry={"url": "https://r"}), "config.registry.url is set by the chart: use the value registry"),
    (
        config(security={"build_token_secret_file": "/etc/manybinder/secrets/x"}),
        "names a file in /etc/manybinder/secrets, and secretName is not set",
    ),
    (
        config(security={"cors_allow_origin": "https://pages.example.org"}),
        "they could not use what they have launched",
    ),
    (registry(url=""), "registry.url is not set"),
    (registry(url="registry.example.org"), "/registry/url"),
    (registry(username=""), "registry.password is set, and registry.username is not"),
    (registry(password=""), "registry.username is set, and registry.password is not"),
    (registry(createSecrets=False), "with Secrets of your own, take it out"),
    (user(image={"pullSecrets": []}), "jupyterhub.singleuser.image.pullSecrets lacks manybinder-registry"),
    (user(networkPolicy={"enabled": False}), "nothing keeps sessions away from the cloud's metadata"),
    (
        user(networkPolicy={"egressAllowRules": {"cloudMetadataServer": True}}),
        "nothing keeps sessions away from the cloud's metadata",
    ),
    (hub(services={"binder": None}), "/jupyterhub/hub/services/binder"),
    (hub(loadRoles={"binder": {"services": []}}), "loadRoles.binder.services lacks binder"),
    (hub(loadRoles={"binder": {"scopes": ["servers"]}}), "loadRoles.binder.scopes lacks admin:users"),
    (hub(extraFiles={"manybinder-binder": {"stringData": ""}}), "extraFiles.manybinder-binder is not there"),
    ({**LEAST, "replicas": 2}, "replicas is more than 1"),
    ({**LEAST, "builds": {"namespace": "binder"}}, "builds need a namespace of their own"),
    ({**LEAST, "join": {"gateway": "https://binder.example.org"}}, "join.gateway and join.tokenSecret go together"),
    (
        {**ALL_ON, "persistence": {"enabled": False}},
        "join.gateway needs persistence.enabled",
    ),
    ({**LEAST, "httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
    ({**LEAST, "imageCleaner": {"thresholdHigh": 50}}, "imageCleaner.thresholdHigh must be above"),
    ({**LEAST, "replica": 1}, "additional properties 'replica' not allowed"),
    ({**LEAST, "dind": {"hostSocketDir": "/x"}}, "additional properties 'hostSocketDir' not allowed"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_bad_values_are_refused_with_a_sentence(helm: Helm, chart: str, values: dict[str, Any], sentence: str) -> None:
    assert sentence in helm.refusal(chart, **values)


def test_notes_say_what_to_do_next(helm: Helm, chart: str) -> None:
    def notes(**values: Any) -> str:
        path = helm.home / "values.yaml"
        path.write_text(yaml.safe_dump(values))
        arguments = ("--dry-run=client", "--namespace", "binder", "--values", path)
        result = helm.run("install", "binder", chart, *arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.partition("NOTES:")[2]

    least = notes(**LEAST)
    assert "kubectl rollout status daemonset/binder-member-dind --namespace binder-builds" in least
    assert "Nothing leads to it from outside yet" in least
    assert "Nothing leads to its sessions from outside yet" in least
    assert "It stands alone" in least
    whole = notes(**CASES["helm-member-managed.yaml"])
    assert "It needs the Secret manybinder-registry, in binder and in binder-builds" in whole
    assert "Nothing leads to it" not in whole
    assert "It joins https://binder.example.org" in whole
    assert "WARNING" not in least + whole
    assert notes(**BARE).count("WARNING") == 2


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


def test_the_hub_gets_the_spawner_as_it_is_here() -> None:
    values = yaml.safe_load((CHARTS / "member" / "values.yaml").read_text())
    files = values["jupyterhub"]["hub"]["extraFiles"].values()
    found = {file["mountPath"]: file["stringData"] for file in files}
    source, place = ROOT / "member" / "hub", "/usr/local/etc/jupyterhub"
    assert found == {
        f"{place}/jupyterhub_config.d/manybinder.py": (source / "z2jh_config.py").read_text(),
        f"{place}/manybinder/member/hub/binder.py": (source / "binder.py").read_text(),
        f"{place}/manybinder/member/hub/kubernetes.py": (source / "kubernetes.py").read_text(),
    }
