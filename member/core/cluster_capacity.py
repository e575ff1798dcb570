"""How many more sessions a cluster can really schedule; pure.

The rules are those of the scheduler, as far as they decide about sessions: a node that is ready, not cordoned, whose
labels and taints fit, takes a pod if what it asks for is left of memory, CPU, disk and pod slots; a ResourceQuota
bounds all of them together.

Source: kubernetes.io, "Assigning Pods to Nodes", "Taints and Tolerations", "Resource Management for Pods", "Resource
Quotas"; zero-to-jupyterhub, "User placeholders".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

#: The resources that are counted; of anything else (GPUs …) sessions ask nothing that is known here.
RESOURCES = ("memory", "cpu", "ephemeral-storage")

#: Amounts by resource: bytes, and cores.
Amounts = Mapping[str, Decimal]

_ZERO = Decimal(0)


class Role(StrEnum):
    """What a pod is to the member."""

    SESSION = "session"
    #: Keeps room for sessions, and goes where one comes (zero-to-jupyterhub).
    PLACEHOLDER = "placeholder"
    BUILD = "build"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node; ``taints`` are those that keep pods away."""

    name: str
    ready: bool
    cordoned: bool
    allocatable: Amounts
    pods: int
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterPod:
    """A pod that has not ended, or (``failed``) has failed; ``node`` is empty until it is scheduled."""

    namespace: str
    role: Role
    node: str
    requests: Amounts
    running: bool = False
    failed: bool = False
    refused: bool = False
    """Whether its node had no room for it after all (``OutOfpods`` …)."""


@dataclass(frozen=True, slots=True)
class ClusterQuota:
    """What is left of a ResourceQuota, by the names that the quota has."""

    namespace: str
    left: Amounts


@dataclass(frozen=True, slots=True)
class SessionShape:
    """What each session asks of the cluster, and where it may run."""

    namespace: str
    requests: Amounts
    limits: Amounts = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """What a cluster autoscaler would add: nodes for sessions up to ``max_nodes``, each with room for so many."""

    max_nodes: int = 0
    sessions_per_node: int = 0


@dataclass(frozen=True, slots=True)
class ClusterCapacity:
    """Counts of what is there, and of sessions that can be scheduled; ``used`` and ``total`` are of nodes in use."""

    free: int = 0
    running: int = 0
    pending: int = 0
    failed: int = 0
    builds: int = 0
    nodes: int = 0
    used: Amounts = field(default_factory=dict)
    total: Amounts = field(default_factory=dict)
    limited_by: str = ""
    """What keeps ``free`` from being larger: a sentence's part for the operator."""


def cluster_capacity(
    nodes: Sequence[ClusterNode],
    pods: Sequence[ClusterPod],
    quotas: Sequence[ClusterQuota],
    shape: SessionShape,
    *,
    placeholders_are_free: bool = True,
    autoscaler: Autoscaler = Autoscaler(),
    refusing: frozenset[str] = frozenset(),
) -> ClusterCapacity:
    """Count; ``refusing`` names the nodes that have refused a pod of late, whatever they say of their room."""
    fitting = [node for node in nodes if fits(node, shape)]
    usable = [node for node in fitting if node.ready and not node.cordoned]
    alive = [pod for pod in pods if not pod.failed]
    counted = [pod for pod in alive if not (placeholders_are_free and pod.role is Role.PLACEHOLDER)]
    rooms = {node.name: _Room.of(node, counted) for node in usable}
    for name in refusing & rooms.keys():
        rooms[name].pods = 0
    # What waits for a node takes its room before any session that is yet to come.
    waiting = [pod for pod in counted if not pod.node and pod.role in (Role.SESSION, Role.BUILD)]
    homeless = sum(not _place(pod.requests, rooms) for pod in waiting)
    headroom = max(0, autoscaler.max_nodes - len(fitting)) * autoscaler.sessions_per_node
    by_nodes = sum(room.sessions(shape.requests) for room in rooms.values()) + max(0, headroom - homeless)
    by_quota, quota_word = _by_quotas(quotas, shape)
    sessions = [pod for pod in alive if pod.role is Role.SESSION]
    running = sum(pod.running for pod in sessions)
    return ClusterCapacity(
        free=by_nodes if by_quota is None else min(by_nodes, by_quota),
        running=running,
        pending=len(sessions) - running,
        failed=sum(pod.failed and pod.role is Role.SESSION for pod in pods),
        builds=sum(pod.role is Role.BUILD for pod in alive),
        nodes=len(usable),
        used=_sum(pod.requests for pod in counted if pod.node in rooms),
        total=_sum(node.allocatable for node in usable),
        limited_by=_limit(by_nodes, by_quota, quota_word, fitting, usable),
    )


@dataclass(slots=True)
class _Room:
    """What is left on one node."""

    left: dict[str, Decimal]
    pods: int

    @classmethod
    def of(cls, node: ClusterNode, pods: Iterable[ClusterPod]) -> "_Room":
        there = [pod.requests for pod in pods if pod.node == node.name]
        taken = _sum(there)
        left = {name: amount - taken.get(name, _ZERO) for name, amount in node.allocatable.items()}
        return cls(left, node.pods - len(there))

    def sessions(self, requests: Amounts) -> int:
        """How many pods that ask for so much have room."""
        rooms = [self.left.get(name, _ZERO) // amount for name, amount in requests.items() if amount > 0]
        return max(0, min([self.pods, *map(int, rooms)]))

    def take(self, requests: Amounts) -> None:
        """Have a pod in."""
        self.pods -= 1
        for name, amount in requests.items():
            self.left[name] = self.left.get(name, _ZERO) - amount


def _place(requests: Amounts, rooms: Mapping[str, _Room]) -> bool:
    """Put a pod where it leaves most memory; whether there is a node that takes it."""
    taking = [room for room in rooms.values() if room.sessions(requests) > 0]
    if not taking:
        return False
    max(taking, key=lambda room: room.left.get("memory", _ZERO)).take(requests)
    return True


def fits(node: ClusterNode, shape: SessionShape) -> bool:
    """Whether sessions may run on a node at all, by its labels and taints."""
    return all(node.labels.get(key) == value for key, value in shape.node_selector.items()) and all(
        any(tolerates(toleration, taint) for toleration in shape.tolerations) for taint in node.taints
    )


def tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    """Whether a pod with this toleration may be on a node with this taint."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    key = toleration.get("key") or ""
    if toleration.get("operator", "Equal") == "Exists":
        return key in ("", taint.get("key"))
    return key == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")


def _by_quotas(quotas: Iterable[ClusterQuota], shape: SessionShape) -> tuple[int | None, str]:
    """How many sessions the quotas of their namespace leave, and by what; ``None`` where none bounds them."""
    asked: dict[str, Decimal] = {"pods": Decimal(1), "count/pods": Decimal(1)}
    for name, amount in shape.requests.items():
        asked[f"requests.{name}"] = amount
        if name in ("memory", "cpu", "ephemeral-storage"):
            asked[name] = amount
    for name, amount in shape.limits.items():
        asked[f"limits.{name}"] = amount
    found = [
        (max(0, int(left // asked[name])), name)
        for quota in quotas
        if quota.namespace == shape.namespace
        for name, left in quota.left.items()
        if asked.get(name, _ZERO) > 0
    ]
    return min(found) if found else (None, "")


def _limit(
    by_nodes: int,
    by_quota: int | None,
    quota_word: str,
    fitting: Sequence[ClusterNode],
    usable: Sequence[ClusterNode],
) -> str:
    if not fitting:
        return "no node is one for sessions: look at their labels and taints, and at builder.sessions"
    if not usable:
        return "all nodes for sessions are cordoned or not ready"
    if by_quota is not None and by_quota < by_nodes:
        return f"the ResourceQuota of {quota_word}"
    return "the nodes' memory, CPU, disk and pod slots"


def _sum(amounts: Iterable[Amounts]) -> dict[str, Decimal]:
    total = dict.fromkeys(RESOURCES, _ZERO)
    for item in amounts:
        for name, amount in item.items():
            total[name] = total.get(name, _ZERO) + amount
    return total
