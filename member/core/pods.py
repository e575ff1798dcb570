"""Build pods: their names and manifests; pure.

Names, labels, annotation and command are BinderHub's, so that what operators have around build pods (network policies,
dashboards, image cleaners) goes on working.  What it lacks: a deadline, limits, and as few rights as the work allows.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import escapism

from contract.repos import RepoKey

#: The label that all build pods have, and its value.
COMPONENT = "component"
BUILD_COMPONENT = "binderhub-build"

#: The label of which each build pod's value is its own name.
NAME = "name"

#: Annotations: BinderHub's, and what this member needs to find a build again.
REPO_URL = "binder-repo"
IMAGE = "manybinder.org/image"
REPO = "manybinder.org/repo"
COMMIT = "manybinder.org/commit"

#: Annotations of this prefix say who follows a build, and (Unix time in seconds) when they last did.
FOLLOWED_BY = "followed-by.manybinder.org/"

CONTAINER = "builder"

#: Where repo2docker finds the engine's socket, and the credentials for a push.  Both are places inside its container,
#: whose user is root; nothing here is about the node.
SOCKET = "/var/run/docker.sock"
_DOCKER_CONFIG = "/root/.docker/config.json"

#: Seconds for which a build outlives trouble of its node, after which it is a build that the node has lost.
_NODE_PATIENCE_S = 60

_MAX_NAME = 63
_SAFE = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One entry of a Secret."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class BuildPodRules:
    """What all build pods of a member have in common.

    ``command`` runs in place of the image's own entry point, with repo2docker's command line as its arguments.
    ``requests`` and ``limits`` are Kubernetes quantities by resource.  ``socket`` is the engine's on the node.
    ``node_requirements`` are match expressions of nodes' labels, for what ``node_selector`` cannot say.
    """

    namespace: str
    image: str
    deadline_s: int
    image_pull_policy: str = "IfNotPresent"
    command: tuple[str, ...] = ()
    socket: str | None = SOCKET
    push: bool = False
    push_secret: str = ""
    registry_credentials: SecretKey | None = None
    git_credentials: SecretKey | None = None
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_requirements: tuple[Mapping[str, Any], ...] = ()
    tolerations: tuple[Mapping[str, str], ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    appendix: str = ""
    repo2docker_args: tuple[str, ...] = ()


def pod_name(repo: RepoKey, commit: str, salt: int = 0) -> str:
    """``build-<repo…>-<6 hex>-<commit[:3]>-<2 hex>``, at most 63 characters: BinderHub's form.

    The same for everybody who builds the same, which is the lock between replicas.  Names of different builds may meet
    by chance (20 bits tell commits apart): whoever finds another image's pod under the name goes on to the next salt.
    """
    digest = hashlib.sha256(repo.encode()).hexdigest()[:6]
    ref_digest = hashlib.sha256(f"{commit}{salt or ''}".encode()).hexdigest()[:2]
    start = re.sub(r"[^a-z0-9]", "0", commit.lower()[:3]) or "0"
    end = f"-{digest}-{start}-{ref_digest}"
    escaped = escapism.escape(repo, safe=_SAFE, escape_char="-").lower()
    return f"build-{escaped[: _MAX_NAME - len('build-') - len(end)]}{end}"


def build_pod(
    rules: BuildPodRules,
    name: str,
    *,
    repo: RepoKey,
    repo_url: str,
    commit: str,
    image: str,
    node: str | None = None,
    annotations: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The manifest of a build pod; ``node`` is where it had best run, because layers of the repository are there."""
    mounts, volumes = _volumes(rules)
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": rules.image,
        "imagePullPolicy": rules.image_pull_policy,
        "args": [literal(argument) for argument in command_line(rules, repo_url=repo_url, commit=commit, image=image)],
        "env": _environment(rules),
        "resources": {"requests": dict(rules.requests), "limits": dict(rules.limits)},
        "volumeMounts": mounts,
        # The engine does the work; all that happens in here is a Git client, and a client of the engine.
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "File",
    }
    if rules.command:
        container["command"] = list(rules.command)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": rules.deadline_s,
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
        "tolerations": _tolerations(rules),
        "affinity": _affinity(node, rules.node_requirements),
    }
    if rules.node_selector:
        spec["nodeSelector"] = dict(rules.node_selector)
    if rules.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret} for secret in rules.image_pull_secrets]
    if rules.priority_class:
        spec["priorityClassName"] = rules.priority_class
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": rules.namespace,
            "labels": {**rules.labels, NAME: name, COMPONENT: BUILD_COMPONENT},
            "annotations": {
                REPO_URL: shown_url(repo_url),
                IMAGE: image,
                REPO: repo,
                COMMIT: commit,
                **annotations,
            },
        },
        "spec": spec,
    }


def command_line(rules: BuildPodRules, *, repo_url: str, commit: str, image: str) -> list[str]:
    """repo2docker's command line, as BinderHub has it."""
    return [
        *("jupyter-repo2docker", "--ref", commit, "--image", image, "--no-clean", "--no-run", "--json-logs"),
        *("--user-name", "jovyan", "--user-id", "1000"),
        *(("--appendix", rules.appendix) if rules.appendix else ()),
        *(("--push",) if rules.push else ()),
        *rules.repo2docker_args,
        repo_url,
    ]


def literal(argument: str) -> str:
    """An argument as a manifest has it, so that the container gets just that.

    The kubelet puts a container's variables into its arguments, those from Secrets too, where ``$(NAME)`` stands: in a
    repository's address that would send the credentials for a push or for Git to whomever the address belongs.
    Source: API reference, ``Container.args``.
    """
    return argument.replace("$", "$$")


def shown_url(url: str) -> str:
    """A URL without user and password, which annotations are no place for."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _environment(rules: BuildPodRules) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in rules.env.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": entry.name, "key": entry.key}}}
        for name, entry in (
            ("GIT_CREDENTIAL_ENV", rules.git_credentials),
            ("CONTAINER_ENGINE_REGISTRY_CREDENTIALS", rules.registry_credentials),
        )
        if entry is not None
    ]
    return plain + secret


def _volumes(rules: BuildPodRules) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    mounts: list[dict[str, Any]] = []
    volumes: list[dict[str, Any]] = []
    if rules.socket is not None:
        mounts.append({"name": "docker-socket", "mountPath": SOCKET})
        volumes.append({"name": "docker-socket", "hostPath": {"path": rules.socket, "type": "Socket"}})
    if rules.push_secret:
        mounts.append(
            {"name": "docker-config", "mountPath": _DOCKER_CONFIG, "subPath": "config.json", "readOnly": True}
        )
        volumes.append({"name": "docker-config", "secret": {"secretName": rules.push_secret}})
    return mounts, volumes


def _tolerations(rules: BuildPodRules) -> list[dict[str, Any]]:
    dedicated = [
        {"key": f"hub.jupyter.org{sign}dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
        for sign in "/_"
    ]
    trouble = [
        {
            "key": f"node.kubernetes.io/{what}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": _NODE_PATIENCE_S,
        }
        for what in ("not-ready", "unreachable")
    ]
    return [*dedicated, *trouble, *(dict(toleration) for toleration in rules.tolerations)]


def required_nodes(requirements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The affinity of a pod that runs only on nodes whose labels meet all of some match expressions."""
    if not requirements:
        return {}
    terms = [{"matchExpressions": [dict(item) for item in requirements]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _affinity(node: str | None, requirements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    affinity = required_nodes(requirements)
    if node is not None:
        # By the node's name: its host name label may be another.
        wanted = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        term: dict[str, Any] = {"weight": 100, "preference": wanted}
        affinity.setdefault("nodeAffinity", {})["preferredDuringSchedulingIgnoredDuringExecution"] = [term]
        return affinity
    others = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {COMPONENT: BUILD_COMPONENT}},
    }
    apart = {"weight": 100, "podAffinityTerm": others}
    return {**affinity, "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}}
