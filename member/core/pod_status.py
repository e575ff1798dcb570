"""What a build pod's status means: how far it is, in plain words, and whose failure it is; pure.

Source: kubernetes.io, "Pod Lifecycle", "Disruptions" (conditions), "Node-pressure Eviction"; the kubelet's reasons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from contract.events import Failure
from member.core.pods import CONTAINER

_MAX_WORDS = 300


class Stage(StrEnum):
    """How far a pod is."""

    #: No node has been found for it yet.
    UNPLACED = "unplaced"
    #: Its node prepares it: images, volumes.
    PREPARING = "preparing"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self in (Stage.SUCCEEDED, Stage.FAILED)


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A pod's status, read.

    ``words`` is a sentence for the visitor, empty where there is nothing to say.  ``failure`` says whose failure it
    is, of a pod that failed or (if ``patience_s`` has passed and nothing has changed) will not start.
    ``by_exit_code`` is true where the container failed by itself: its log may know better whose failure that is.
    """

    stage: Stage
    words: str = ""
    failure: Failure | None = None
    patience_s: float | None = None
    by_exit_code: bool = False

    @property
    def started(self) -> bool:
        """Whether there may be a log."""
        return self.stage is Stage.RUNNING or self.stage.ended


#: Reasons for which a container waits that need an operator: seconds of patience (caches of Secrets lag), and words.
_WAITING_FOR_OPERATOR = {
    "CreateContainerConfigError": (30.0, "the cluster lacks a Secret or ConfigMap that builds need"),
    "CreateContainerError": (30.0, "its node cannot make the container"),
    "RunContainerError": (30.0, "its node cannot start the container"),
    "PreCreateHookError": (30.0, "its node cannot make the container"),
    "InvalidImageName": (0.0, "the name of the builder's image is not valid"),
    "ErrImageNeverPull": (0.0, "the builder's image is not on the node and may not be pulled"),
}
_WAITING_FOR_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
)

#: Seconds for which a registry may fail to give the builder's image.
_IMAGE_PATIENCE_S = 90.0

#: Words of the kubelet for a pod that wrote more than it may, as against a node that runs out of disk.
_OWN_DISK = ("exceeded its local ephemeral storage limit", "ephemeral local storage usage exceeds", "EmptyDir volume")

_BY_REASON = {
    "NodeLost": "its node was lost",
    "NodeShutdown": "its node was shut down",
    "Shutdown": "its node was shut down",
    "Terminated": "its node was shut down",
    "Preempting": "its place was needed for something more important",
    "Preempted": "its place was needed for something more important",
    "NodeAffinity": "its node did not take it",
    "UnexpectedAdmissionError": "its node did not take it",
}


def read_status(pod: Mapping[str, Any]) -> PodStatus:
    """What the pod's status says now."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    if phase == "Succeeded":
        return PodStatus(Stage.SUCCEEDED)
    if phase == "Failed":
        return _failed(pod, status)
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return _members(f"the build was removed from the cluster{_disruption(status)}")
    if phase == "Unknown":
        return PodStatus(Stage.RUNNING)
    state = _container(status).get("state") or {}
    if phase == "Running" or "running" in state or "terminated" in state:
        return PodStatus(Stage.RUNNING)
    if not (pod.get("spec") or {}).get("nodeName"):
        return _unplaced(status)
    return _preparing(state.get("waiting") or {})


def _failed(pod: Mapping[str, Any], status: Mapping[str, Any]) -> PodStatus:
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    ended = (_container(status).get("state") or {}).get("terminated") or {}
    if reason == "Evicted":
        if any(words in message for words in _OWN_DISK):
            return _visitors(f"The build wrote more to disk than this member allows ({_cut(message)}).")
        return _members(f"the build was evicted from its node ({_cut(message) or 'no reason given'})")
    if reason == "DeadlineExceeded":
        deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
        return _visitors(f"The build took longer than {deadline} seconds.")
    if reason.startswith("OutOf"):
        return _members(f"the node that was chosen for the build had no room for it ({reason})")
    if reason in _BY_REASON:
        return _members(f"{_BY_REASON[reason]}{f' ({_cut(message)})' if message else ''}")
    if disruption := _disruption(status):
        return _members(f"the build was ended by the cluster{disruption}")
    return _by_container(ended, message)


def _by_container(ended: Mapping[str, Any], message: str) -> PodStatus:
    reason, code = str(ended.get("reason") or ""), ended.get("exitCode")
    if reason == "OOMKilled":
        return _visitors("The build needed more memory than this member allows.")
    if reason in ("ContainerStatusUnknown", "ContainerCannotRun", "StartError") or code is None:
        said = _cut(str(ended.get("message") or message))
        return _members(f"the build could not run on its node{f' ({said})' if said else ''}")
    if code in (137, 143):
        # Killed from outside of the container, and nobody says why.
        return _members(f"the build was killed (exit status {code})")
    return PodStatus(
        Stage.FAILED, f"The build failed (exit status {code}); its log says why.", Failure.USER, by_exit_code=True
    )


def _unplaced(status: Mapping[str, Any]) -> PodStatus:
    condition = _condition(status, "PodScheduled")
    if condition.get("status") == "False":
        message = _cut(str(condition.get("message") or condition.get("reason") or ""))
        return PodStatus(Stage.UNPLACED, f"no node has room for the build yet ({message})", Failure.MEMBER)
    return PodStatus(Stage.UNPLACED, "the build waits for a node", Failure.MEMBER)


def _preparing(waiting: Mapping[str, Any]) -> PodStatus:
    reason, message = str(waiting.get("reason") or ""), _cut(str(waiting.get("message") or ""))
    said = f" ({reason}{f': {message}' if message else ''})"
    if reason in _WAITING_FOR_OPERATOR:
        patience, words = _WAITING_FOR_OPERATOR[reason]
        return PodStatus(Stage.PREPARING, f"{words}{said}", Failure.MEMBER, patience)
    if reason in _WAITING_FOR_IMAGE:
        words = f"the builder's image cannot be pulled{said}"
        return PodStatus(Stage.PREPARING, words, Failure.MEMBER, _IMAGE_PATIENCE_S)
    return PodStatus(Stage.PREPARING, "the build's node prepares it", Failure.MEMBER)


def _members(words: str) -> PodStatus:
    return PodStatus(Stage.FAILED, f"This member could not build: {words}.", Failure.MEMBER)


def _visitors(sentence: str) -> PodStatus:
    return PodStatus(Stage.FAILED, sentence, Failure.USER)


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    entries = status.get("containerStatuses") or []
    return next((entry for entry in entries if entry.get("name") == CONTAINER), {})


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})


def _disruption(status: Mapping[str, Any]) -> str:
    condition = _condition(status, "DisruptionTarget")
    if condition.get("status") != "True":
        return ""
    return f" ({_cut(str(condition.get('message') or condition.get('reason') or 'no reason given'))})"


def _cut(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…"
