"""Pods' status in plain words, by whose failure it is; their names and manifests; their logs read on."""

import datetime
import re
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.events import Failure
from contract.repos import repo_key
from member.core import pods
from member.core.pod_log import LogPosition
from member.core.pod_status import Stage, read_status

ENDED = {"exitCode": 1, "reason": "Error"}


def pod(
    phase: str, *, state: dict[str, Any] | None = None, node: str = "node-1", meta: Any = None, **status: Any
) -> dict[str, Any]:
    """A build pod, as the API gives it."""
    if state is not None:
        status["containerStatuses"] = [{"name": "builder", "state": state}]
    spec = {"activeDeadlineSeconds": 1800, **({"nodeName": node} if node else {})}
    return {"metadata": {"name": "build-x", **(meta or {})}, "spec": spec, "status": {"phase": phase, **status}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A pod whose container waits."""
    return pod("Pending", state={"waiting": {"reason": reason, "message": message}})


def ended(reason: str, code: int) -> dict[str, Any]:
    """A pod whose container has failed."""
    return pod("Failed", state={"terminated": {"reason": reason, "exitCode": code}})


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes. "}
DISRUPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "Taint manager",
}
EVICTED = "The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0."
OWN_DISK = "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. "


@pytest.mark.parametrize(
    ("given_pod", "stage", "failure", "words"),
    [
        (pod("Pending", node=""), Stage.UNPLACED, Failure.MEMBER, "waits for a node"),
        (pod("Pending", node="", conditions=[UNSCHEDULABLE]), Stage.UNPLACED, Failure.MEMBER, "0/3 nodes)"),
        (pod("Pending"), Stage.PREPARING, Failure.MEMBER, "prepares"),
        (waiting("ContainerCreating"), Stage.PREPARING, Failure.MEMBER, "prepares"),
        (waiting("ImagePullBackOff", "no such image"), Stage.PREPARING, Failure.MEMBER, "pulled (ImagePullBackOff: no"),
        (waiting("SignatureValidationFailed", "no key"), Stage.PREPARING, Failure.MEMBER, "pulled (Sig"),
        (
            waiting("CreateContainerConfigError", 'secret "x" not found'),
            Stage.PREPARING,
            Failure.MEMBER,
            "lacks a Secret",
        ),
        (waiting("InvalidImageName"), Stage.PREPARING, Failure.MEMBER, "not valid"),
        (pod("Running", state={"running": {}}), Stage.RUNNING, None, ""),
        (pod("Succeeded", state={"terminated": {"exitCode": 0}}), Stage.SUCCEEDED, None, ""),
        (ended("Error", 1), Stage.FAILED, Failure.USER, "exit status 1"),
        (ended("OOMKilled", 137), Stage.FAILED, Failure.USER, "more memory"),
        (ended("Error", 137), Stage.FAILED, Failure.MEMBER, "killed"),
        (ended("StartError", 128), Stage.FAILED, Failure.MEMBER, "could not run"),
        (ended("ContainerStatusUnknown", 137), Stage.FAILED, Failure.MEMBER, "could not run"),
        (pod("Failed"), Stage.FAILED, Failure.MEMBER, "could not run"),
        (pod("Failed", reason="Evicted", message=EVICTED), Stage.FAILED, Failure.MEMBER, "low on resource"),
        (pod("Failed", reason="Evicted", message=OWN_DISK), Stage.FAILED, Failure.USER, "more to disk"),
        (pod("Failed", reason="DeadlineExceeded"), Stage.FAILED, Failure.USER, "longer than 1800 seconds"),
        (pod("Failed", reason="OutOfpods"), Stage.FAILED, Failure.MEMBER, "no room for it (OutOfpods)"),
        (pod("Failed", reason="NodeLost"), Stage.FAILED, Failure.MEMBER, "node was lost"),
        (
            pod("Failed", reason="Terminated", message="imminent node shutdown"),
            Stage.FAILED,
            Failure.MEMBER,
            "shut down",
        ),
        (
            pod("Failed", state={"terminated": ENDED}, conditions=[DISRUPTED]),
            Stage.FAILED,
            Failure.MEMBER,
            "Taint",
        ),
        (pod("Running", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"}), Stage.FAILED, Failure.MEMBER, "removed"),
    ],
)
def test_each_state_of_a_pod_has_its_words_and_its_owner(
    given_pod: dict[str, Any], stage: Stage, failure: Failure | None, words: str
) -> None:
    read = read_status(given_pod)
    assert (read.stage, read.failure) == (stage, failure)
    assert words in read.words


def test_only_what_cannot_mend_itself_is_given_up_early() -> None:
    assert read_status(waiting("ContainerCreating")).patience_s is None
    assert read_status(waiting("InvalidImageName")).patience_s == 0
    assert 0 < (read_status(waiting("CreateContainerConfigError")).patience_s or 0) < 60
    assert 60 <= (read_status(waiting("ErrImagePull")).patience_s or 0) < 600


def manifest(**rules: Any) -> dict[str, Any]:
    """A build pod's."""
    given_rules = pods.BuildPodRules(**{"namespace": "builds", "image": "r2d:1", "deadline_s": 60, **rules})
    return pods.build_pod(
        given_rules,
        "build-x",
        repo=repo_key("https://git.example/org/repo"),
        repo_url="https://someone:secret@git.example/org/repo",
        commit="c0ffee",
        image="registry/x:c0ffee",
    )


def test_the_command_line_is_binderhubs() -> None:
    container = manifest(push=True, appendix="USER root", repo2docker_args=("--debug",))["spec"]["containers"][0]
    assert "command" not in container
    assert container["args"] == [
        *("jupyter-repo2docker", "--ref", "c0ffee", "--image", "registry/x:c0ffee"),
        *("--no-clean", "--no-run", "--json-logs", "--user-name", "jovyan", "--user-id", "1000"),
        *("--appendix", "USER root", "--push", "--debug"),
        "https://someone:secret@git.example/org/repo",
    ]


def test_secrets_are_mounted_or_referred_to_and_stand_nowhere() -> None:
    made = manifest(
        push_secret="push",
        git_credentials=pods.SecretKey("git", "credentials"),
        registry_credentials=pods.SecretKey("registry", "json"),
    )
    spec = made["spec"]
    container = spec["containers"][0]
    assert {"name": "docker-config", "secret": {"secretName": "push"}} in spec["volumes"]
    mount = next(item for item in container["volumeMounts"] if item["name"] == "docker-config")
    assert (mount["mountPath"], mount["subPath"]) == ("/root/.docker/config.json", "config.json")
    assert {item["name"]: item["valueFrom"]["secretKeyRef"] for item in container["env"]} == {
        "GIT_CREDENTIAL_ENV": {"name": "git", "key": "credentials"},
        "CONTAINER_ENGINE_REGISTRY_CREDENTIALS": {"name": "registry", "key": "json"},
    }
    assert made["metadata"]["annotations"]["binder-repo"] == "https://git.example/org/repo"


@pytest.mark.parametrize("node", [None, "node-1"])
def test_a_build_pod_is_a_pod_by_the_apis_schema(node: str | None) -> None:
    rules = pods.BuildPodRules(
        namespace="builds",
        image="r2d:1",
        deadline_s=60,
        command=("/bin/sh",),
        push=True,
        push_secret="push",
        git_credentials=pods.SecretKey("git", "credentials"),
        requests={"memory": "1Gi", "cpu": "500m"},
        limits={"memory": "4Gi", "ephemeral-storage": "10Gi"},
        node_selector={"pool": "builds"},
        tolerations=({"key": "builds", "operator": "Exists"},),
        image_pull_secrets=("pull",),
        priority_class="builds",
        env={"A": "b"},
    )
    repo = repo_key("https://git.example/org/repo")
    what = {"repo_url": "https://git.example/org/repo", "commit": "c0ffee", "image": "registry/x:c0ffee"}
    made = pods.build_pod(rules, "build-x", repo=repo, node=node, **what)
    kubernetes_validate.validate(made, "1.36", strict=True)


def test_a_build_pod_has_a_deadline_limits_and_no_rights() -> None:
    made = manifest(limits={"memory": "4Gi", "ephemeral-storage": "10Gi"}, requests={"memory": "1Gi"})
    spec = made["spec"]
    container = spec["containers"][0]
    assert spec["activeDeadlineSeconds"] == 60
    assert spec["restartPolicy"] == "Never"
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["resources"]["limits"]["ephemeral-storage"] == "10Gi"
    assert made["metadata"]["labels"] == {"name": "build-x", "component": "binderhub-build"}
    keys = {(item["key"], item["effect"]) for item in spec["tolerations"]}
    assert {("hub.jupyter.org/dedicated", "NoSchedule"), ("hub.jupyter.org_dedicated", "NoSchedule")} <= keys


@given(st.text(min_size=1, max_size=120), st.text(min_size=1, max_size=64), st.integers(0, 7))
def test_names_are_names_for_kubernetes_and_the_same_for_everybody(path: str, commit: str, salt: int) -> None:
    repo = repo_key(f"https://git.example/{path}")
    name = pods.pod_name(repo, commit, salt)
    assert name == pods.pod_name(repo, commit, salt)
    assert len(name) <= 63
    # RFC 1123, which labels' values keep too.
    assert re.fullmatch(r"build-[a-z0-9-]*-[0-9a-f]{6}-[a-z0-9]{1,3}-[0-9a-f]{2}", name)


@given(
    st.lists(st.tuples(st.integers(0, 3_000_000_000), st.text(max_size=5)), max_size=30),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_a_log_is_read_once_whole_whatever_breaks(steps: list[tuple[int, str]], cuts: list[int]) -> None:
    moment, lines = 1_800_000_000_000_000_000, []
    for n, (pause_ns, text) in enumerate(steps):
        # Half of the lines share their moment with the one before.
        moment += pause_ns if n % 2 else 0
        lines.append((moment, f"{n} {text!r}"))
    position, read = LogPosition(), []
    for cut in [*cuts, None]:
        position.reopen()
        since = int(datetime.datetime.fromisoformat(position.since).timestamp()) if position.since else 0
        for at, text in [line for line in lines if line[0] >= since * 10**9][:cut]:
            second = datetime.datetime.fromtimestamp(at // 10**9, datetime.UTC)
            told = f"{second:%Y-%m-%dT%H:%M:%S}.{at % 10**9:09d}".rstrip("0").rstrip(".") + f"Z {text}"
            if (line := position.take(told.encode())) is not None:
                read.append(line)
    assert read == [text for _, text in lines]


def test_a_clock_that_goes_back_within_a_stream_costs_no_line() -> None:
    position = LogPosition()
    position.reopen()
    assert position.take(b"2026-01-01T00:00:09Z nine") == "nine"
    assert position.take(b"2026-01-01T00:00:05Z five") == "five"
    assert position.take(b"failed to watch the log: too many open files") is None
