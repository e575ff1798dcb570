"""The member's chart and its values: bad ones are refused with a sentence, and notes say what follows of good ones."""

from typing import Any

import pytest
import yaml

from member.settings import MemberSettings
from tests.charts.helmkit import Helm, of_kind, secret_settings, secrets_refused
from tests.charts.memberkit import BARE, CASES, CONFIG, LEAST, REGISTRY, hooks


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
    (
        config(builder={"sessions": {"priority_class": "x"}}),
        "config.builder.sessions.priority_class is what jupyterhub's",
    ),
    (config(builder={"engine": "docker"}), "/config/builder/engine"),
    (config(builder={"engine": "pink"}), "Podman does not serve that"),
    (
        config(builder={"engine": "pink", "image": "docker.io/jupyterhub/repo2docker:latest"}),
        "Podman does not serve that",
    ),
    (
        config(builder={"engine": "pink", "image": "quay.io/jupyterhub/repo2docker:2026.4.0"}),
        "give quay.io/jupyterhub/repo2docker:2024.07.0, or an image with repo2docker and a client of Podman",
    ),
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
    (
        config(providers={"gh": {"access_token": "x"}}),
        "config.providers.gh.access_token would stand in a ConfigMap, where it is not secret",
    ),
    (config(auth_enabled=True), "BinderSpawner.auth_enabled go together"),
    (hub(config={"BinderSpawner": {"auth_enabled": True}}), "BinderSpawner.auth_enabled go together"),
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
    (
        user(extraNodeAffinity={"required": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}),
        "extraNodeAffinity.required is not counted",
    ),
    (user(extraResource={"guarantees": {"nvidia.com/gpu": "1"}}), "extraResource.guarantees is not counted"),
    (hub(services={"binder": None}), "/jupyterhub/hub/services/binder"),
    (hub(existingSecret="hub-of-ours"), "give the same one as jupyterhub.hub.services.binder.apiToken"),
    (hub(loadRoles={"binder": {"services": []}}), "loadRoles.binder.services lacks binder"),
    (hub(loadRoles={"binder": {"scopes": ["servers"]}}), "loadRoles.binder.scopes lacks admin:users"),
    (
        hub(extraFiles={"manybinder-binder": {"mountPath": "/elsewhere"}}),
        "extraFiles.manybinder-binder is a part of the spawner",
    ),
    ({**LEAST, "replicas": 2}, "replicas is more than 1, and a volume is one pod's: set persistence.enabled to false"),
    ({**LEAST, "builds": {"namespace": "binder"}}, "builds need a namespace of their own"),
    ({**LEAST, "join": {"gateway": "https://binder.example.org"}}, "join.gateway and a join token go together"),
    ({**LEAST, "join": {"token": "t"}}, "join.gateway and a join token go together"),
    (
        {**LEAST, "join": {"gateway": "https://binder.example.org", "token": "t", "tokenSecret": "s"}},
        "join.token and join.tokenSecret are both set",
    ),
    (config(joined={"secret": "x"}), "config.joined.secret is set by the chart"),
    ({**LEAST, "check": {"repo": "https://git.example.org/x"}}, "check.repo is set, and check.commit is not"),
    ({**LEAST, "httpRoute": {"enabled": True}}, "httpRoute.enabled needs httpRoute.parentRefs"),
    ({**LEAST, "imageCleaner": {"thresholdHigh": 50}}, "imageCleaner.thresholdHigh must be above"),
    ({**LEAST, "replica": 1}, "additional properties 'replica' not allowed"),
    ({**LEAST, "dind": {"hostSocketDir": "/x"}}, "additional properties 'hostSocketDir' not allowed"),
]


@pytest.mark.parametrize(("values", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_bad_values_are_refused_with_a_sentence(helm: Helm, chart: str, values: dict[str, Any], sentence: str) -> None:
    assert sentence in helm.refusal(chart, **values)


def test_what_cannot_be_counted_is_taken_where_nothing_is_counted(helm: Helm, chart: str) -> None:
    values = user(extraResource={"guarantees": {"nvidia.com/gpu": "1"}})
    values["config"] = {**CONFIG, "builder": {"capacity": "limit"}}
    assert helm.render(chart, **values)


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
    # Helm's --logs would fail after a good check: hooks that are no pods have none.
    assert "helm test binder --namespace binder --timeout 1h\n" in whole
    (check,) = of_kind(hooks(helm.render(chart, **CASES["helm-member-managed.yaml"])), "Pod")
    assert f"kubectl logs {check['metadata']['name']} --namespace binder\n" in whole
    assert "WARNING" not in least + whole
    bare = notes(**BARE)
    assert bare.count("WARNING") == 2
    assert "runs in Docker of the nodes, where no NetworkPolicy holds it" in bare


def test_no_secret_setting_is_let_into_a_config_map() -> None:
    # "value" is a secret of an authenticator's, below hub.managed, which the chart refuses as a whole.
    assert secrets_refused("member") == secret_settings(MemberSettings) - {"value"}
