"""The cluster as a member sees it: nodes, pods and quotas, kept up, and what they leave room for."""

import datetime
import functools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from contract.reports import Check, Usage
from member.builder_settings import KubernetesBuilderSettings
from member.builders.base import Resources
from member.builders.kubernetes import rules
from member.clients.informer import STALE_S, Informer
from member.clients.kubernetes import Kubernetes
from member.core.cluster_capacity import ClusterCapacity, ClusterNode, ClusterPod, ClusterQuota, cluster_capacity
from member.core.cluster_objects import read_node, read_pod, read_quota
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds for which a node is thought full that has refused a pod, whatever its numbers say.
REFUSING_S = 120.0


class ClusterView:
    """Counts what the cluster has room for; ``clock`` gives Unix time in seconds."""

    def __init__(
        self,
        client: Kubernetes,
        settings: KubernetesBuilderSettings,
        *,
        sessions_namespace: str,
        builds_namespace: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._sessions_namespace, self._builds_namespace = sessions_namespace, builds_namespace
        self._shape = rules.session_shape(settings, sessions_namespace)
        self._autoscaler = rules.autoscaler(settings)
        self._refused_at: dict[str, float] = {}
        self._nodes: Informer[ClusterNode] = Informer(client, "nodes", None, read_node)
        self._pods: Informer[ClusterPod | None] = Informer(client, "pods", None, self._read_pod)
        quotas = functools.partial(
            read_quota,
            best_effort=not self._shape.requests and not self._shape.limits,
            priority_class=settings.sessions.priority_class,
        )
        self._quotas: Informer[ClusterQuota | None] = Informer(client, "resourcequotas", sessions_namespace, quotas)

    @property
    def _informers(self) -> tuple[Informer[Any], ...]:
        return (self._nodes, self._pods, self._quotas)

    def start(self, tasks: Tasks) -> None:
        """Keep up with the cluster, by tasks of the owner's."""
        for what, informer in zip(("nodes", "pods", "quotas"), self._informers, strict=True):
            tasks.spawn(f"keep up with the cluster's {what}", informer.run())

    async def wait_synced(self, timeout_s: float) -> None:
        """Wait for the first lists; raises :class:`member.clients.kubernetes.KubernetesError`."""
        for informer in self._informers:
            await informer.wait_synced(timeout_s)

    def capacity(self) -> ClusterCapacity | None:
        """What there is now; ``None`` where the API has told nothing for long."""
        if any(informer.age_s() > STALE_S for informer in self._informers):
            return None
        now = self._clock()
        refusing = frozenset(name for name, at in self._refused_at.items() if now - at < REFUSING_S)
        return cluster_capacity(
            list(self._nodes.objects.values()),
            [pod for pod in self._pods.objects.values() if pod is not None],
            [quota for quota in self._quotas.objects.values() if quota is not None],
            self._shape,
            placeholders_are_free=self._settings.sessions.placeholders_are_free,
            autoscaler=self._autoscaler,
            refusing=refusing,
        )

    def resources(self) -> Resources:
        """The same, as a report has it."""
        known = self.capacity()
        if known is None:
            return Resources(Usage(), Usage(), Usage(), sessions=0)

        def usage(name: str) -> Usage:
            return Usage(float(known.used.get(name, 0)), float(known.total.get(name, 0)))

        return Resources(usage("memory"), usage("cpu"), usage("ephemeral-storage"), sessions=known.free)

    def checks(self) -> tuple[Check, ...]:
        """Whether the API tells what is there; BinderHub's "Pod quota", which fails nobody's health."""
        for informer in self._informers:
            if (error := informer.trouble()) is not None:
                return (Check("Cluster capacity", False, str(error)),)
        known = self.capacity()
        if known is None:
            return (Check("Cluster capacity", False, "the Kubernetes API has told nothing for long"),)
        words = (
            f"room for {known.free} more sessions on {known.nodes} nodes, limited by {known.limited_by};"
            f" {known.running} sessions run, {known.pending} wait, {known.failed} have failed, {known.builds} builds"
        )
        return (Check("Cluster capacity", True, words),)

    def _read_pod(self, pod: Mapping[str, Any]) -> ClusterPod | None:
        read = read_pod(pod, self._sessions_namespace, self._builds_namespace)
        if read is not None and read.refused and read.node:
            at = _refused_at(pod, self._clock())
            if at > self._refused_at.get(read.node, float("-inf")):
                logger.info("node %s has refused a pod: %s", read.node, (pod.get("status") or {}).get("reason"))
                self._refused_at[read.node] = at
        return read


def _refused_at(pod: Mapping[str, Any], default: float) -> float:
    """When a node has refused a pod, which may have waited for one for long.

    The kubelet's status manager gives a status that has no ``startTime`` the time of its first report, and a refusal is
    the first; the scheduler's condition is from just before, where the kubelet has left it.
    """
    status = pod.get("status") or {}
    stamps = [
        pod["metadata"].get("creationTimestamp"),
        status.get("startTime"),
        *(
            item.get("lastTransitionTime")
            for item in status.get("conditions") or []
            if item.get("type") == "PodScheduled"
        ),
    ]
    known = [at for stamp in stamps if (at := _unix(stamp)) is not None]
    return max(known) if known else default


def _unix(stamp: Any) -> float | None:
    try:
        return datetime.datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return None
