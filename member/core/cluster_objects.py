"""Reads nodes, pods and ResourceQuotas as the Kubernetes API gives them; pure.

What cannot be read counts as nothing: one odd object must not cost the member its count.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from member.core.cluster_capacity import (
    RESOURCES,
    Amounts,
    ClusterNode,
    ClusterPod,
    ClusterQuota,
    Role,
)
from member.core.pods import BUILD_COMPONENT, COMPONENT
from member.core.quantities import quantity

Object = Mapping[str, Any]

_ZERO = Decimal(0)

#: Pods on a node that says nothing of it: the kubelet's default.
_DEFAULT_PODS = 110

#: Taints that say again what the node's fields and conditions say.
_BY_CONDITION = {f"node.kubernetes.io/{what}" for what in ("unschedulable", "not-ready", "unreachable")}

_ROLES = {
    "singleuser-server": Role.SESSION,
    "user-placeholder": Role.PLACEHOLDER,
    BUILD_COMPONENT: Role.BUILD,
}


def read_node(node: Object) -> ClusterNode:
    """A node."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready: Object = next((item for item in status.get("conditions") or [] if item.get("type") == "Ready"), {})
    allocatable = status.get("allocatable") or {}
    return ClusterNode(
        name=str(node["metadata"]["name"]),
        ready=ready.get("status") == "True",
        cordoned=bool(spec.get("unschedulable")),
        allocatable={name: _amount(allocatable.get(name)) for name in RESOURCES if name in allocatable},
        pods=int(_amount(allocatable.get("pods", _DEFAULT_PODS))),
        labels=node["metadata"].get("labels") or {},
        taints=tuple(
            taint
            for taint in spec.get("taints") or []
            if taint.get("effect") in ("NoSchedule", "NoExecute") and taint.get("key") not in _BY_CONDITION
        ),
    )


def read_pod(pod: Object, sessions_namespace: str, builds_namespace: str) -> ClusterPod | None:
    """A pod; ``None`` for one that has ended well, and takes up nothing any more."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded":
        return None
    namespace = str(pod["metadata"].get("namespace", ""))
    failed = phase == "Failed"
    return ClusterPod(
        namespace=namespace,
        role=_role(pod, namespace, sessions_namespace, builds_namespace),
        node=str(spec.get("nodeName") or ""),
        requests={} if failed else requests_of(spec),
        running=phase == "Running" and not pod["metadata"].get("deletionTimestamp"),
        failed=failed,
        refused=failed and str(status.get("reason") or "").startswith("OutOf"),
    )


def read_quota(quota: Object, *, best_effort: bool = False, priority_class: str = "") -> ClusterQuota | None:
    """A ResourceQuota; ``None`` for one that does not count sessions.

    ``best_effort``: sessions ask for nothing and are limited in nothing; ``priority_class`` is theirs, if any.
    """
    spec, status = quota.get("spec") or {}, quota.get("status") or {}
    wanted = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    wanted += (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    if not all(_in_scope(item, best_effort, priority_class) for item in wanted):
        return None
    hard, used = status.get("hard") or spec.get("hard") or {}, status.get("used") or {}
    left = {name: _amount(amount) - _amount(used.get(name, 0)) for name, amount in hard.items()}
    return ClusterQuota(str(quota["metadata"].get("namespace", "")), left)


def _in_scope(wanted: Object, best_effort: bool, priority_class: str) -> bool:
    """Whether a session is in a quota's scope.  Source: kubernetes.io, "Resource Quotas", "Quota scopes".

    Sessions have no deadline, and no affinity to pods of other namespaces.  What is not known counts them: rather too
    little room is told than too much.
    """
    scope, operator, values = wanted.get("scopeName"), wanted.get("operator"), wanted.get("values") or ()
    if scope == "PriorityClass":
        by_operator = {
            "In": priority_class in values,
            "NotIn": priority_class not in values,
            "Exists": bool(priority_class),
            "DoesNotExist": not priority_class,
        }
        return by_operator.get(str(operator), True)
    by_scope = {
        "Terminating": False,
        "CrossNamespacePodAffinity": False,
        "BestEffort": best_effort,
        "NotBestEffort": not best_effort,
    }
    return by_scope.get(str(scope), True)


def requests_of(spec: Object) -> Amounts:
    """What a pod asks of its node: the larger of its containers together and of each of its init containers.

    Init containers that go on running (sidecars) count with the containers; the pod's overhead comes on top; requests
    of the pod as a whole take the place of its containers'.  Source: the scheduler's ``PodRequests``.
    """
    containers = _sum(map(_requests, spec.get("containers") or []))
    sidecars: dict[str, Decimal] = {}
    at_start: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or []:
        asked = _requests(container)
        if container.get("restartPolicy") == "Always":
            sidecars = _sum([sidecars, asked])
            asked = sidecars
        else:
            asked = _sum([sidecars, asked])
        at_start = {name: max(at_start.get(name, _ZERO), asked.get(name, _ZERO)) for name in RESOURCES}
    running = _sum([containers, sidecars])
    total = {name: max(running.get(name, _ZERO), at_start.get(name, _ZERO)) for name in RESOURCES}
    whole = (spec.get("resources") or {}).get("requests") or {}
    total |= {name: _amount(whole[name]) for name in RESOURCES if name in whole}
    return {name: amount for name, amount in _sum([total, _read(spec.get("overhead"))]).items() if amount > 0}


def _role(pod: Object, namespace: str, sessions_namespace: str, builds_namespace: str) -> Role:
    role = _ROLES.get((pod["metadata"].get("labels") or {}).get(COMPONENT, ""), Role.OTHER)
    home = builds_namespace if role is Role.BUILD else sessions_namespace
    return role if namespace == home else Role.OTHER


def _requests(container: Object) -> Amounts:
    return _read((container.get("resources") or {}).get("requests"))


def _read(amounts: Mapping[str, Any] | None) -> Amounts:
    return {name: _amount(amounts[name]) for name in RESOURCES if name in amounts} if amounts else {}


def _amount(given: Any) -> Decimal:
    try:
        return quantity(given)
    except (ValueError, TypeError):
        return _ZERO


def _sum(amounts: Iterable[Amounts]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for item in amounts:
        for name, amount in item.items():
            total[name] = total.get(name, _ZERO) + amount
    return total
