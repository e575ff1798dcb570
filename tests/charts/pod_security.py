"""Kubernetes' Pod Security Standard, as its admission decides (kubernetes.io, "Pod Security Standards")."""

from collections.abc import Iterator
from typing import Any

#: Kinds of volumes that the restricted standard allows.
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def offences(spec: dict[str, Any]) -> list[str]:
    """What keeps a pod out of a namespace that enforces the restricted standard."""
    return list(_of_pod(spec)) + [
        f"{container['name']}: {offence}"
        for container in (*spec["containers"], *spec.get("initContainers", []))
        for offence in _of_container(container, spec.get("securityContext", {}))
    ]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']}: {kind}"


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield "hostPort"
