"""From settings to what the pure core works with."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path

from member.builder_settings import KubernetesBuilderSettings
from member.cluster_settings import SecretKeySettings, TolerationSettings
from member.core.cluster_capacity import Amounts, Autoscaler, SessionShape
from member.core.pods import BuildPodRules, SecretKey

#: Where a pod finds the name of its own namespace.
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: Where the engines' sockets are on a node: Docker's own place, and those of BinderHub's DaemonSets.
SOCKETS = {
    "host": "/var/run/docker.sock",
    "dind": "/var/run/dind/docker.sock",
    "pink": "/var/run/pink/podman.sock",
}

#: What zero-to-jupyterhub gives each session pod.
_DEDICATED: tuple[Mapping[str, str], ...] = tuple(
    {"key": f"hub.jupyter.org{sign}dedicated", "operator": "Equal", "value": "user", "effect": "NoSchedule"}
    for sign in "/_"
)


def own_namespace() -> str:
    """The namespace that this process runs in; ``default`` outside of a cluster."""
    try:
        return _OWN_NAMESPACE.read_text().strip() or "default"
    except OSError:
        return "default"


def build_pod_rules(settings: KubernetesBuilderSettings, member: str, namespace: str, *, push: bool) -> BuildPodRules:
    """What all build pods of a member have in common."""
    limits = {"memory": str(settings.memory), "ephemeral-storage": str(settings.disk)}
    if settings.cpu is not None:
        limits["cpu"] = f"{round(settings.cpu * 1000)}m"
    return BuildPodRules(
        namespace=namespace,
        image=settings.image,
        deadline_s=max(1, round(settings.timeout)),
        image_pull_policy=settings.image_pull_policy,
        command=settings.command,
        socket=None if settings.engine == "none" else settings.socket or SOCKETS[settings.engine],
        push=push,
        push_secret=settings.push_secret,
        registry_credentials=_secret_key(settings.registry_credentials_secret),
        git_credentials=_secret_key(settings.git_credentials_secret),
        requests={
            "memory": str(settings.memory_request),
            "cpu": f"{round(settings.cpu_request * 1000)}m",
            "ephemeral-storage": str(settings.disk_request),
        },
        limits=limits,
        node_selector=settings.node_selector,
        tolerations=tolerations(settings.tolerations),
        image_pull_secrets=settings.image_pull_secrets,
        priority_class=settings.priority_class,
        env=settings.env,
        labels={"app.kubernetes.io/managed-by": "manybinder", "manybinder.org/member": member, **settings.labels},
        appendix=settings.appendix,
        repo2docker_args=settings.repo2docker_args,
    )


def session_shape(settings: KubernetesBuilderSettings, namespace: str) -> SessionShape:
    """What each session asks of the cluster."""
    asked = settings.sessions
    requests: dict[str, float | None] = {"memory": asked.memory, "cpu": asked.cpu}
    limits: dict[str, float | None] = {"memory": asked.memory_limit, "cpu": asked.cpu_limit}
    return SessionShape(
        namespace=namespace,
        requests=_amounts(requests),
        limits=_amounts(limits),
        node_selector=asked.node_selector,
        tolerations=(*_DEDICATED, *tolerations(asked.tolerations)),
    )


def build_shape(settings: KubernetesBuilderSettings) -> SessionShape:
    """Where builds may run, in the same form."""
    chosen = (*_DEDICATED, *tolerations(settings.tolerations))
    return SessionShape(settings.namespace, {}, node_selector=settings.node_selector, tolerations=chosen)


def autoscaler(settings: KubernetesBuilderSettings) -> Autoscaler:
    """What the cluster may grow by."""
    return Autoscaler(settings.sessions.autoscaler_max_nodes, settings.sessions.autoscaler_sessions_per_node)


def tolerations(given: Iterable[TolerationSettings]) -> tuple[Mapping[str, str], ...]:
    """Tolerations as a manifest has them."""
    return tuple({name: value for name, value in item.model_dump().items() if value} for item in given)


def _amounts(given: Mapping[str, float | None]) -> Amounts:
    return {name: Decimal(str(amount)) for name, amount in given.items() if amount}


def _secret_key(given: SecretKeySettings | None) -> SecretKey | None:
    return None if given is None else SecretKey(given.name, given.key)
