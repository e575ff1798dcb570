"""A scheduler and kubelets for the fake cluster: pods run their commands as processes of this machine, or by hand."""

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.fakes.kubernetes.server import FakeKubernetes
from tests.fakes.kubernetes.store import Object, now

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


@dataclass
class Kubelet:
    """Places pods on ready nodes that tolerate them, and moves them through their phases.

    As an asynchronous context manager it runs them by itself; without, a test takes each step by a method.
    """

    cluster: FakeKubernetes
    namespace: str
    images: Callable[[str], bool] = lambda _: True
    """Which images can be pulled."""
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name="fake kubelet")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [self._watching, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    # -- steps

    def schedule(self, name: str, node: str) -> None:
        """Give a pod its node."""
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        self.cluster.change(
            "pods",
            self.namespace,
            name,
            spec={"nodeName": node},
            status={"conditions": [condition], "startTime": now()},
        )
        self.waiting(name, "ContainerCreating")

    def unschedulable(self, name: str, message: str = "0/1 nodes are available: 1 Insufficient memory.") -> None:
        """Say that no node can take a pod."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.cluster.change("pods", self.namespace, name, status={"conditions": [condition]})

    def waiting(self, name: str, reason: str, message: str = "") -> None:
        """Say why a pod's container does not run yet."""
        waiting = {"reason": reason, **({"message": message} if message else {})}
        self._status(name, {"waiting": waiting}, phase="Pending")

    def run(self, name: str) -> None:
        """Have a pod's container run."""
        address = {"hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        known = self._pod(name)["status"].get("conditions") or []
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        conditions = [*(item for item in known if item["type"] != "Ready"), ready]
        state = {"running": {"startedAt": now()}}
        self._status(name, state, phase="Running", conditions=conditions, **address)

    def write(self, name: str, *lines: str, at_ns: int | None = None) -> None:
        """Have a pod's container write lines."""
        self.cluster.logs.write(self._pod(name)["metadata"]["uid"], *lines, at_ns=at_ns)

    def finish(self, name: str, code: int = 0, reason: str = "", **status: Any) -> None:
        """Have a pod's container end."""
        pod = self._pod(name)
        self.cluster.logs.end(pod["metadata"]["uid"])
        terminated = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "finishedAt": now(),
        }
        self._status(name, {"terminated": terminated}, phase="Failed" if code else "Succeeded", **status)

    def crash(self, name: str, code: int) -> None:
        """End a pod's container that is to run again (``restartPolicy`` is not ``Never``), which its node puts off."""
        pod = self._pod(name)
        terminated: dict[str, Any] = {"exitCode": code, "reason": "Error", "finishedAt": now()}
        if pod["spec"]["containers"][0].get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = self.cluster.logs.of(pod["metadata"]["uid"]).lines[-80:]
            terminated["message"] = b"\n".join(line for _, line in lines).decode(errors="replace")[-2048:]
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
        entry = {"lastState": {"terminated": terminated}, "restartCount": 1}
        self._status(name, {"waiting": waiting}, entry=entry, phase="Running")

    def evict(self, name: str, message: str) -> None:
        """End a pod as a node does that runs out of something."""
        self.finish(name, 137, reason="Error", reason_of_pod="Evicted", message=message)

    def refuse(self, name: str, node: str, reason: str) -> None:
        """Refuse a pod that was scheduled to a node (``OutOfpods`` …).

        Source: kubelet, ``rejectPod`` (phase, reason, message), and its status manager, which sets ``startTime`` with a
        status that has none; the scheduler has said before that the pod has its node.
        """
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
        self.cluster.change("pods", self.namespace, name, spec={"nodeName": node}, status={"conditions": [condition]})
        message = "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110"
        status = {"phase": "Failed", "reason": reason, "message": message, "startTime": now()}
        self.cluster.change("pods", self.namespace, name, status=status)

    def remove(self, name: str) -> None:
        """Have a pod be gone, as after its grace period."""
        self.cluster.logs.end(self._pod(name)["metadata"]["uid"])
        self.cluster.store.remove("pods", self.namespace, name)

    def _pod(self, name: str) -> Object:
        pod = self.cluster.store.get("pods", self.namespace, name)
        assert pod is not None, f"there is no pod {name}"
        return pod

    def _status(
        self,
        name: str,
        state: dict[str, Any],
        *,
        reason_of_pod: str = "",
        entry: dict[str, Any] | None = None,
        **status: Any,
    ) -> None:
        pod = self._pod(name)
        container = pod["spec"]["containers"][0]
        ready = "running" in state
        entry = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "sha256:0",
            "ready": ready,
            "restartCount": 0,
            **(entry or {}),
        }
        if reason_of_pod:
            status["reason"] = reason_of_pod
        if not ready:
            known = self._pod(name)["status"].get("conditions") or []
            status["conditions"] = [item for item in known if item["type"] != "Ready"]
        status["containerStatuses"] = [{**entry, "state": state}]
        self.cluster.change("pods", self.namespace, name, status=status)

    # -- by itself

    async def _watch(self) -> None:
        while True:
            changed = self.cluster.store.changed
            for pod in self.cluster.store.all("pods", self.namespace):
                uid = pod["metadata"]["uid"]
                if uid not in self._tasks and pod["status"]["phase"] == "Pending":
                    self._tasks[uid] = asyncio.create_task(self._live(pod), name=f"fake pod {pod['metadata']['name']}")
            await changed.wait()

    async def _live(self, pod: Object) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if await self._prepare(pod):
            await self._run(pod)
        elif (left := self.cluster.store.get("pods", self.namespace, name)) and left["metadata"]["uid"] == uid:
            self.remove(name)

    async def _prepare(self, pod: Object) -> bool:
        """Find a node, and what the container needs there; whether the pod is still there then."""
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if not await self._place(pod):
            return False
        image = pod["spec"]["containers"][0]["image"]
        while not self.images(image):
            self.waiting(name, "ErrImagePull", f'failed to pull and unpack image "{image}": not found')
            if not await self._pause(uid):
                return False
            self.waiting(name, "ImagePullBackOff", f'Back-off pulling image "{image}"')
            if not await self._pause(uid):
                return False
        while missing := self._missing_secret(pod):
            self.waiting(name, "CreateContainerConfigError", f'secret "{missing}" not found')
            if not await self._pause(uid):
                return False
        return True

    async def _run(self, pod: Object) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        process = await self._start(pod)
        watcher = asyncio.create_task(self._until_doomed(name, uid, pod["spec"].get("activeDeadlineSeconds")))
        try:
            self.run(name)
            reader = asyncio.create_task(self._read(process, uid))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait({watcher, ended}, return_when=asyncio.FIRST_COMPLETED)
            doom = watcher.result() if watcher.done() else ""
            if doom:
                _kill(process)
            code = await ended
            await reader
            if code and not doom and pod["spec"]["restartPolicy"] != "Never":
                self.crash(name, code if code > 0 else 128 - code)
                doom = await watcher
        finally:
            _kill(process)
            watcher.cancel()
            # Its pipes are closed then.
            await process.wait()
        self._end(name, uid, code, doom)

    def _end(self, name: str, uid: str, code: int, doom: str) -> None:
        current = self.cluster.store.get("pods", self.namespace, name)
        self.cluster.logs.end(uid)
        if current is None or current["metadata"]["uid"] != uid:
            return
        if doom == "DeadlineExceeded":
            message = "Pod was active on the node longer than the specified deadline"
            self.finish(name, 137, reason_of_pod=doom, message=message)
        elif doom == "deleted":
            self.remove(name)
        else:
            self.finish(name, code if code >= 0 else 128 - code)

    async def _place(self, pod: Object) -> bool:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        while True:
            for node in self.cluster.store.all("nodes", None):
                if _takes(node, pod):
                    self.schedule(name, node["metadata"]["name"])
                    return True
            self.unschedulable(name, f"0/{len(self.cluster.store.all('nodes', None))} nodes are available.")
            if not await self._pause(uid):
                return False

    async def _pause(self, uid: str) -> bool:
        """Wait a moment; whether the pod is still there."""
        await asyncio.sleep(0.2)
        pods = self.cluster.store.all("pods", self.namespace)
        return any(pod["metadata"]["uid"] == uid and "deletionTimestamp" not in pod["metadata"] for pod in pods)

    def _missing_secret(self, pod: Object) -> str:
        """A Secret that a variable is to come from, and that is not there."""
        variables = pod["spec"]["containers"][0].get("env") or []
        names = [item["valueFrom"]["secretKeyRef"]["name"] for item in variables if "valueFrom" in item]
        return next((name for name in names if self.cluster.store.get("secrets", self.namespace, name) is None), "")

    def _variables(self, container: Object) -> dict[str, str]:
        """Those with a value, and those from Secrets."""
        found = {}
        for item in container.get("env") or []:
            if "value" in item:
                found[item["name"]] = item["value"]
            elif wanted := (item.get("valueFrom") or {}).get("secretKeyRef"):
                secret = self.cluster.store.get("secrets", self.namespace, wanted["name"])
                assert secret is not None
                found[item["name"]] = base64.b64decode(secret["data"][wanted["key"]]).decode()
        return found

    async def _start(self, pod: Object) -> asyncio.subprocess.Process:
        container = pod["spec"]["containers"][0]
        environ = {"PATH": os.environ["PATH"]}
        environ |= self._variables(container)
        arguments = [*container.get("command", []), *container.get("args", [])]
        return await asyncio.create_subprocess_exec(
            *(expanded(argument, environ) for argument in arguments),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def _read(self, process: asyncio.subprocess.Process, uid: str) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.cluster.logs.write(uid, line.decode(errors="surrogateescape").rstrip("\n"))

    async def _until_doomed(self, name: str, uid: str, deadline_s: int | None) -> str:
        """Why the pod has to end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while True:
                    changed = self.cluster.store.changed
                    pod = self.cluster.store.get("pods", self.namespace, name)
                    if pod is None or pod["metadata"]["uid"] != uid or "deletionTimestamp" in pod["metadata"]:
                        return "deleted"
                    await changed.wait()
        return "DeadlineExceeded"


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """A part of a command as its container gets it: variables for ``$(NAME)``, one ``$`` for two.

    What names no variable stays.  Source: API reference, ``Container.args``.
    """
    return _REFERENCE.sub(
        lambda found: "$" if found[1] is None else variables.get(found[1], found[0]),
        text,
    )


def _takes(node: Object, pod: Object) -> bool:
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in node["status"]["conditions"])
    if not ready or node["spec"].get("unschedulable"):
        return False
    selector = pod["spec"].get("nodeSelector") or {}
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in selector.items()) or not _is_wanted(labels, pod):
        return False
    return all(
        any(_tolerates(toleration, taint) for toleration in pod["spec"].get("tolerations") or [])
        for taint in node["spec"].get("taints") or []
        if taint["effect"] != "PreferNoSchedule"
    )


def _is_wanted(labels: Mapping[str, str], pod: Object) -> bool:
    """Whether a pod's required node affinity lets it onto a node of these labels: one of its terms is met wholly."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True

    def meets(item: Object) -> bool:
        value, values = labels.get(item["key"]), item.get("values") or []
        known = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        return known[item["operator"]]

    return any(all(map(meets, term["matchExpressions"])) for term in required["nodeSelectorTerms"])


def _tolerates(toleration: dict[str, Any], taint: dict[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
