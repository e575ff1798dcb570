"""What the apiserver does with an object before it stores it: validation, defaults, quotas."""

import re
from typing import Any

from tests.fakes.kubernetes.status import StatusError, bad_request, not_found
from tests.fakes.kubernetes.store import GROUPS, KINDS, Object, Store

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")

#: What the DefaultTolerationSeconds plug-in adds where a pod says nothing itself.
_NODE_TROUBLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def check(store: Store, plural: str, namespace: str, item: Object) -> str:
    """Check and complete an object to be created; returns its name, raises :class:`StatusError`."""
    kind = KINDS[plural][0]
    version = GROUPS.get(plural, "v1")
    if item.get("kind", kind) != kind or item.get("apiVersion", version) != version:
        raise bad_request(f"{kind} in version {version} cannot be handled as a {item.get('kind')}")
    meta = item.setdefault("metadata", {})
    name = str(meta.get("name") or "")
    if meta.get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if meta.get("resourceVersion"):
        raise bad_request("resourceVersion should not be set on objects to be created")
    problems = list(_problems(name, meta))
    if plural == "pods":
        problems += _pod_problems(item)
    if problems:
        raise StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {"; ".join(problems)}', name=name, kind=kind)
    if KINDS[plural][1] and store.get("namespaces", "", namespace) is None:
        raise not_found("namespaces", namespace)
    for given in ("uid", "creationTimestamp", "deletionTimestamp"):
        meta.pop(given, None)
    if plural == "pods":
        _complete_pod(item)
        account = item["spec"]["serviceAccountName"]
        if store.get("serviceaccounts", namespace, account) is None:
            # Its controller makes the default one a moment after the namespace.
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise StatusError(403, "Forbidden", f'pods "{name}" is forbidden: {why}', name=name, kind="pods")
        _charge(store, namespace, name)
    return name


def waiting_reason(pod: Object, container: str) -> str:
    """Why a container has no log yet, in the kubelet's words; empty where it has one."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        if status["name"] == container:
            waiting = status["state"].get("waiting")
            if waiting is None:
                return ""
            trouble = {
                "ErrImagePull": "image can't be pulled",
                "ImagePullBackOff": "trying and failing to pull image",
            }
            return trouble.get(waiting["reason"], str(waiting["reason"]))
    return "ContainerCreating"


def _problems(name: str, meta: dict[str, Any]) -> Any:
    if not name:
        yield "metadata.name: Required value: name or generateName is required"
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case …'
    for key, value in (meta.get("labels") or {}).items():
        if not _QUALIFIED.fullmatch(key):
            yield f'metadata.labels: Invalid value: "{key}": name part must consist of alphanumeric characters'
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            yield f'metadata.labels: Invalid value: "{value}": must be no more than 63 characters'
    for key in meta.get("annotations") or {}:
        if not _QUALIFIED.fullmatch(key):
            yield f'metadata.annotations: Invalid value: "{key}": name part must consist of alphanumeric characters'


def _pod_problems(pod: Object) -> list[str]:
    spec = pod.get("spec") or {}
    problems = []
    if not spec.get("containers"):
        problems.append("spec.containers: Required value")
    volumes = {volume["name"] for volume in spec.get("volumes") or []}
    for n, container in enumerate(spec.get("containers") or []):
        missing = [required for required in ("name", "image") if not container.get(required)]
        problems += [f"spec.containers[{n}].{required}: Required value" for required in missing]
        for m, mount in enumerate(container.get("volumeMounts") or []):
            if mount["name"] not in volumes:
                problems.append(f'spec.containers[{n}].volumeMounts[{m}].name: Not found: "{mount["name"]}"')
        if not all(isinstance(variable.get("value", ""), str) for variable in container.get("env") or []):
            problems.append(f"spec.containers[{n}].env: Invalid value: must be a string")
    if spec.get("activeDeadlineSeconds", 1) < 1:
        problems.append("spec.activeDeadlineSeconds: Invalid value: must be between 1 and 2147483647")
    return problems


def _complete_pod(pod: Object) -> None:
    spec = pod["spec"]
    for name, value in (
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
        ("serviceAccountName", "default"),
        ("terminationGracePeriodSeconds", 30),
        ("priority", 0),
    ):
        spec.setdefault(name, value)
    tolerations = spec.setdefault("tolerations", [])
    for key in _NODE_TROUBLE:
        if not any(item.get("key") == key for item in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    pod["status"] = {"phase": "Pending", "qosClass": "Burstable"}


def _charge(store: Store, namespace: str, name: str) -> None:
    """Refuse what a ResourceQuota has no room for, and count it (pods alone)."""
    for item in store.all("resourcequotas", namespace):
        status = item.get("status") or {}
        for resource in ("pods", "count/pods"):
            hard = (status.get("hard") or {}).get(resource)
            used = (status.get("used") or {}).get(resource, "0")
            if hard is not None and int(used) >= int(hard):
                message = (
                    f'pods "{name}" is forbidden: exceeded quota: {item["metadata"]["name"]}, requested: {resource}=1,'
                    f" used: {resource}={used}, limited: {resource}={hard}"
                )
                raise StatusError(403, "Forbidden", message, name=name, kind="pods")
