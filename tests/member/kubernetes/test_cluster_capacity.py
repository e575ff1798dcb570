"""How many sessions a cluster has room for: cases, and properties that hold for every cluster."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from member.core.cluster_capacity import (
    Autoscaler,
    ClusterNode,
    ClusterPod,
    ClusterQuota,
    Role,
    SessionShape,
    cluster_capacity,
    tolerates,
)
from member.core.cluster_objects import read_node, read_pod, read_quota, requests_of
from member.core.quantities import quantity
from tests.fakes.kubernetes import node, quota

GI = Decimal(2**30)
SHAPE = SessionShape("hub", {"memory": GI, "cpu": Decimal("0.1")})


def a_node(name: str = "n", gi: int = 8, cores: int = 4, pods: int = 110) -> ClusterNode:
    """A node with so much memory."""
    return ClusterNode(
        name, ready=True, cordoned=False, allocatable={"memory": gi * GI, "cpu": Decimal(cores)}, pods=pods
    )


def a_pod(at: str = "n", role: Role = Role.SESSION, gi: int = 1, *, running: bool = True) -> ClusterPod:
    """A pod that asks for so much memory."""
    return ClusterPod("hub", role, at, {"memory": gi * GI}, running=running)


def free(*nodes: ClusterNode, pods: tuple[ClusterPod, ...] = (), quotas: tuple[ClusterQuota, ...] = ()) -> int:
    """Sessions that have room."""
    return cluster_capacity(nodes, pods, quotas, SHAPE).free


def test_room_is_counted_node_by_node() -> None:
    assert free(a_node()) == 8
    assert free(a_node(gi=8, cores=0)) == 0
    assert free(a_node(pods=3)) == 3
    # Half a session's memory on each of two nodes is no room for one.
    half = replace(a_node(), allocatable={"memory": GI / 2, "cpu": Decimal(4)})
    assert free(half, replace(half, name="m")) == 0
    assert free(a_node(), pods=(a_pod(), a_pod(gi=3, role=Role.OTHER))) == 4


def test_what_is_not_ready_cordoned_or_tainted_has_no_room() -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    for closed in (
        replace(a_node(), ready=False),
        replace(a_node(), cordoned=True),
        replace(a_node(), taints=(taint,)),
    ):
        assert free(closed) == 0
    shape = replace(SHAPE, tolerations=({"key": "gpu", "operator": "Exists"},), node_selector={"pool": "user"})
    tainted = replace(a_node(), taints=(taint,))
    assert cluster_capacity([tainted], [], [], shape).free == 0
    assert cluster_capacity([replace(tainted, labels={"pool": "user"})], [], [], shape).free == 8
    assert "labels and taints" in cluster_capacity([tainted], [], [], shape).limited_by


def test_placeholders_give_way_and_what_waits_comes_first() -> None:
    full = [a_pod(role=Role.PLACEHOLDER) for _ in range(8)]
    assert cluster_capacity([a_node()], full, [], SHAPE).free == 8
    assert cluster_capacity([a_node()], full, [], SHAPE, placeholders_are_free=False).free == 0
    waiting = (a_pod("", running=False), a_pod("", Role.BUILD, 3, running=False), a_pod("", Role.OTHER, 3))
    assert free(a_node(), pods=waiting) == 4


def test_a_node_that_refuses_has_no_room_and_the_autoscaler_some() -> None:
    nodes = [a_node("a"), a_node("b")]
    assert cluster_capacity(nodes, [], [], SHAPE, refusing=frozenset({"a"})).free == 8
    grow = Autoscaler(max_nodes=5, sessions_per_node=10)
    assert cluster_capacity(nodes, [], [], SHAPE, autoscaler=grow).free == 16 + 30
    # A cordoned node is one of the five all the same.
    assert cluster_capacity([replace(nodes[0], cordoned=True)], [], [], SHAPE, autoscaler=grow).free == 40
    homeless = [a_pod("", gi=9, running=False)]
    assert cluster_capacity(nodes, homeless, [], SHAPE, autoscaler=grow).free == 16 + 29


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({"pods": 3}, 3),
        ({"count/pods": 0}, 0),
        ({"requests.memory": 2.5 * 2**30}, 2),
        ({"memory": 2**30}, 1),
        ({"requests.cpu": 0.35}, 3),
        ({"limits.memory": 0}, 8),
        ({"pods": -4}, 0),
        ({"services": 0}, 8),
    ],
)
def test_quotas_bound_all_nodes_together(left: dict[str, float], expected: int) -> None:
    given_quota = ClusterQuota("hub", {name: Decimal(str(amount)) for name, amount in left.items()})
    assert free(a_node(), quotas=(given_quota,)) == expected
    assert free(a_node(), quotas=(replace(given_quota, namespace="elsewhere"),)) == 8


def test_sessions_are_counted_by_how_they_are() -> None:
    pods = [
        a_pod(),
        a_pod("", running=False),
        a_pod(role=Role.BUILD),
        ClusterPod("hub", Role.SESSION, "n", {}, failed=True),
    ]
    known = cluster_capacity([a_node()], pods, [], SHAPE)
    assert (known.running, known.pending, known.failed, known.builds, known.nodes) == (1, 1, 1, 1, 1)
    assert known.used["memory"] == 2 * GI
    assert known.total["memory"] == 8 * GI


nodes_ = st.lists(
    st.builds(
        lambda n, gi, cores, pods, ready, cordoned: replace(
            a_node(f"n{n}", gi, cores, pods), ready=ready, cordoned=cordoned
        ),
        st.integers(0, 5),
        st.integers(0, 20),
        st.integers(0, 8),
        st.integers(0, 12),
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
    unique_by=lambda item: item.name,
)
pods_ = st.lists(
    st.builds(
        lambda n, role, gi: a_pod(f"n{n}" if n is not None else "", role, gi),
        st.none() | st.integers(0, 5),
        st.sampled_from(list(Role)),
        st.integers(0, 6),
    ),
    max_size=12,
)
quotas_ = st.lists(st.builds(lambda n: ClusterQuota("hub", {"pods": Decimal(n)}), st.integers(-2, 20)), max_size=2)


@given(nodes_, pods_, quotas_)
def test_so_many_sessions_can_be_placed_one_by_one_and_no_more(
    nodes: list[ClusterNode], pods: list[ClusterPod], quotas: list[ClusterQuota]
) -> None:
    """The count is what placing sessions by hand gives, where nothing else waits."""
    placed = [pod for pod in pods if pod.node]
    count = cluster_capacity(nodes, placed, quotas, SHAPE).free
    room = {}
    for item in nodes:
        there = [pod for pod in placed if pod.node == item.name and pod.role is not Role.PLACEHOLDER]
        if item.ready and not item.cordoned:
            memory = item.allocatable["memory"] - sum((pod.requests["memory"] for pod in there), Decimal(0))
            room[item.name] = [memory, item.allocatable["cpu"], item.pods - len(there)]
    by_hand = 0
    for left in room.values():
        while left[0] >= GI and left[1] >= Decimal("0.1") and left[2] >= 1:
            left[0], left[1], left[2] = left[0] - GI, left[1] - Decimal("0.1"), left[2] - 1
            by_hand += 1
    assert count == min([by_hand, *(max(0, int(item.left["pods"])) for item in quotas)])


@given(nodes_, pods_, quotas_, st.data())
def test_trouble_never_makes_room(
    nodes: list[ClusterNode], pods: list[ClusterPod], quotas: list[ClusterQuota], data: st.DataObject
) -> None:
    # Where pods wait, which of them find a place is a guess at the scheduler's order.
    placed = [pod for pod in pods if pod.node]

    def count(
        some_nodes: list[ClusterNode], some_pods: list[ClusterPod], refusing: frozenset[str] = frozenset()
    ) -> int:
        return cluster_capacity(some_nodes, some_pods, quotas, SHAPE, refusing=refusing).free

    assert 0 <= count(nodes, pods) <= sum(item.pods for item in nodes)
    before = count(nodes, placed)
    assert count(nodes, pods) <= before
    assert count(nodes, [*placed, a_pod("n0")]) <= before
    if nodes:
        which = data.draw(st.sampled_from(nodes))
        others = [item for item in nodes if item is not which]
        for worse in (replace(which, ready=False), replace(which, cordoned=True)):
            assert count([*others, worse], placed) <= before
        assert count(nodes, placed, frozenset({which.name})) <= before


def test_objects_of_the_api_are_read() -> None:
    taints = [
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
        {"key": "hard", "value": "x", "effect": "NoExecute"},
    ]
    read = read_node(node("n", cpu="3920m", memory="12Gi", pods=30, taints=taints, cordoned=True))
    assert (read.cordoned, read.ready, read.pods) == (True, True, 30)
    assert (read.allocatable["cpu"], read.allocatable["memory"]) == (Decimal("3.92"), 12 * GI)
    assert [taint["key"] for taint in read.taints] == ["hard"]
    assert not read_node(node("n", ready=False)).ready
    assert read_quota(quota("q", {"pods": "5"}, {"pods": "2"})) == ClusterQuota("", {"pods": Decimal(3)})
    assert read_quota(quota("q", {"pods": "5"}, {}, scopes=["BestEffort"])) is None


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}, False),
        ({"scopeName": "PriorityClass", "operator": "In", "values": ["high", "users"]}, True),
        ({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}, True),
        ({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["users"]}, False),
        ({"scopeName": "PriorityClass", "operator": "Exists"}, True),
        ({"scopeName": "PriorityClass", "operator": "DoesNotExist"}, False),
        ({"scopeName": "Terminating", "operator": "Exists"}, False),
        ({"scopeName": "NotTerminating", "operator": "Exists"}, True),
        ({"scopeName": "BestEffort", "operator": "Exists"}, False),
        ({"scopeName": "NotBestEffort", "operator": "Exists"}, True),
        ({"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}, False),
        ({"scopeName": "OfALaterKubernetes", "operator": "Exists"}, True),
    ],
)
def test_a_quota_binds_sessions_that_are_in_its_scope(scope: dict[str, Any], counts: bool) -> None:
    given = quota("q", {"pods": "5"}, {}, scopeSelector={"matchExpressions": [scope]})
    assert (read_quota(given, priority_class="users") is not None) is counts
    # All of them have to hold.
    both = quota("q", {"pods": "5"}, {}, scopes=["BestEffort"], scopeSelector={"matchExpressions": [scope]})
    assert read_quota(both, priority_class="users") is None


def test_sessions_that_ask_for_nothing_are_of_another_scope_and_may_have_no_class() -> None:
    assert read_quota(quota("q", {"pods": "5"}, {}, scopes=["BestEffort"]), best_effort=True) is not None
    assert read_quota(quota("q", {"pods": "5"}, {}, scopes=["NotBestEffort"]), best_effort=True) is None
    for operator, counts in (("Exists", False), ("DoesNotExist", True), ("NotIn", True)):
        scope = {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}
        given = quota("q", {"pods": "5"}, {}, scopeSelector={"matchExpressions": [scope]})
        assert (read_quota(given) is not None) is counts


def test_pods_of_the_api_are_read_by_what_they_are() -> None:
    def read(component: str, namespace: str = "hub", phase: str = "Running", reason: str = "") -> ClusterPod | None:
        meta = {"name": "x", "namespace": namespace, "labels": {"component": component}}
        return read_pod({"metadata": meta, "spec": {}, "status": {"phase": phase, "reason": reason}}, "hub", "builds")

    def role(component: str, namespace: str = "hub") -> Role:
        found = read(component, namespace)
        assert found is not None
        return found.role

    assert role("singleuser-server") is Role.SESSION
    assert role("user-placeholder") is Role.PLACEHOLDER
    assert role("binderhub-build", "builds") is Role.BUILD
    assert role("binderhub-build") is role("singleuser-server", "another-hub") is role("hub") is Role.OTHER
    assert read("singleuser-server", phase="Succeeded") is None
    refused = read("singleuser-server", phase="Failed", reason="OutOfcpu")
    assert refused is not None
    assert (refused.failed, refused.refused) == (True, True)


def test_what_a_pod_asks_for_counts_init_containers_sidecars_and_overhead() -> None:
    def container(memory: str, **more: str) -> dict[str, object]:
        return {"resources": {"requests": {"memory": memory}}, **more}

    spec: dict[str, object] = {"containers": [container("1Gi"), container("1Gi")]}
    assert requests_of(spec) == {"memory": 2 * GI}
    assert requests_of({**spec, "initContainers": [container("3Gi")]}) == {"memory": 3 * GI}
    sidecar = container("1Gi", restartPolicy="Always")
    assert requests_of({**spec, "initContainers": [sidecar, container("3Gi")]}) == {"memory": 4 * GI}
    assert requests_of({**spec, "initContainers": [sidecar], "overhead": {"memory": "1Gi"}}) == {"memory": 4 * GI}
    assert requests_of({**spec, "resources": {"requests": {"memory": "5Gi"}}}) == {"memory": 5 * GI}


def test_tolerations_match_as_the_scheduler_has_it() -> None:
    taint = {"key": "a", "value": "b", "effect": "NoSchedule"}
    assert tolerates({"key": "a", "value": "b"}, taint)
    assert tolerates({"operator": "Exists"}, taint)
    assert not tolerates({"key": "a", "value": "c"}, taint)
    assert not tolerates({"key": "a", "operator": "Exists", "effect": "NoExecute"}, taint)


@given(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9])?", fullmatch=True))
def test_quantities_are_what_the_official_client_reads(text: str) -> None:
    assert quantity(text) == parse_quantity(text)


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1e999999999", "0x10", "1KiB"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)
