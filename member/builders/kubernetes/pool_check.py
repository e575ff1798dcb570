"""Whether each pool of nodes can do what a member needs of it: build an image and push it, and pull it for a session.

A pool is the nodes that have the same value of a label, of those on which builds (or sessions) may run.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contract.repos import RepoKey
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.kubernetes import rules
from member.builders.kubernetes.builder import KubernetesBuilder
from member.builders.kubernetes.kind import own_settings
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.core.cluster_capacity import ClusterNode, SessionShape, fits
from member.core.cluster_objects import read_node
from member.core.pod_status import Stage, read_status
from member.core.pods import CONTAINER, required_nodes
from member.settings import MemberSettings

#: Seconds between two looks at a pod.
_LOOK_EVERY_S = 1.0

#: Lines of a build that has failed which are shown.
_SHOWN_LINES = 15


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, whether it works, and what was seen."""

    what: str
    ok: bool
    words: str


@dataclass(frozen=True, slots=True)
class Pool:
    """``value`` is the label's, ``None`` for nodes without it; ``nodes`` are their names."""

    value: str | None
    nodes: tuple[str, ...]


def pools(nodes: Iterable[ClusterNode], label: str, shape: SessionShape) -> list[Pool]:
    """The pools that pods of a shape may run on now, by the label's value."""
    found: dict[str | None, list[str]] = {}
    for node in nodes:
        if node.ready and not node.cordoned and fits(node, shape):
            found.setdefault(node.labels.get(label), []).append(node.name)
    return [Pool(value, tuple(sorted(names))) for value, names in sorted(found.items(), key=_by_value)]


def _by_value(entry: tuple[str | None, list[str]]) -> tuple[bool, str]:
    return (entry[0] is None, entry[0] or "")


class PoolCheck:
    """``repo_url`` at ``commit`` is what is built: something small, that build pods can reach."""

    def __init__(
        self, settings: MemberSettings, *, label: str, repo_url: str, commit: str, pull_timeout_s: float = 300.0
    ) -> None:
        self._settings, self._own = settings, own_settings(settings)
        self._label, self._repo_url, self._commit = label, repo_url, commit
        self._pull_timeout_s = pull_timeout_s
        here = rules.own_namespace()
        self._builds, self._sessions = self._own.namespace or here, self._own.sessions.namespace or here

    async def run(self) -> AsyncGenerator[Finding, None]:
        """Check, and tell each finding as it comes; raises :class:`KubernetesError` where nothing can be asked."""
        client = await Kubernetes.connect(self._own.kubeconfig)
        try:
            nodes = [read_node(item) for item in (await client.list_all("nodes", None)).items]
            image = None
            building, serving = (
                pools(nodes, self._label, rules.build_shape(self._own)),
                pools(nodes, self._label, self._shape()),
            )
            for what, found in (("builds", building), ("sessions", serving)):
                if not found:
                    yield Finding(
                        f"nodes for {what}", False, "no node that is ready has the labels and taints for them"
                    )
            for pool in building:
                made, finding = await self._push(pool)
                image = image or made
                yield finding
            for pool in serving:
                yield await self._pull(client, pool, image)
        finally:
            await client.close()

    def _shape(self) -> SessionShape:
        return rules.session_shape(self._own, self._sessions)

    def _where(self, pool: Pool) -> Mapping[str, str]:
        return {} if pool.value is None else {self._label: pool.value}

    def _requirements(self, pool: Pool) -> tuple[Mapping[str, Any], ...]:
        """What a selector cannot say: that a node has no such label."""
        return ({"key": self._label, "operator": "DoesNotExist"},) if pool.value is None else ()

    async def _push(self, pool: Pool) -> tuple[str | None, Finding]:
        """Build on a pool and push; the image, if that has worked."""
        what = f"push on {_called(pool)}"
        if self._settings.registry is None or not self._settings.registry.push:
            return None, Finding(what, False, "there is no registry to push to (registry, registry.push)")
        selector = {**self._own.node_selector, **self._where(pool)}
        own = self._own.model_copy(update={"node_selector": selector, "capacity": "limit", "sticky": False})
        settings = self._settings.model_copy(update={"builder": own})
        builder = KubernetesBuilder(settings, node_requirements=self._requirements(pool))
        token = secrets.token_hex(4)
        image = f"{self._settings.image_prefix}check-{token}:{self._commit}"
        lines: list[str] = []
        try:
            await builder.start()
            request = BuildRequest(RepoKey(f"check/{token}"), self._repo_url, self._commit, image)
            async with contextlib.aclosing(builder.build(request)) as events:
                async for event in events:
                    lines.append(event.message.rstrip())  # noqa: PERF401 - all that came before a failure
        except (BuildFailedError, RuntimeError) as error:
            return None, Finding(what, False, "\n".join([*lines[-_SHOWN_LINES:], str(error).rstrip()]))
        finally:
            await builder.close()
        return image, Finding(what, True, f"{image} was built, pushed, and found in the registry")

    async def _pull(self, client: Kubernetes, pool: Pool, image: str | None) -> Finding:
        """Have a node of a pool pull an image, as it does for a session."""
        what = f"pull on {_called(pool)}"
        if image is None:
            return Finding(what, False, "no image was pushed that could be pulled")
        name = f"manybinder-check-{secrets.token_hex(4)}"
        manifest = self._session(name, image, pool)
        try:
            await client.create("pods", self._sessions, manifest)
        except KubernetesError as error:
            advice = ""
            if error.status == 403 and not error.exceeds_quota:
                advice = "; the member's own account may not make pods there: run `helm test`"
            return Finding(what, False, f"{error}{advice}")
        try:
            return await self._follow(client, what, name)
        except KubernetesError as error:
            return Finding(what, False, str(error))
        finally:
            with contextlib.suppress(KubernetesError):
                await client.delete("pods", self._sessions, name, grace_s=0)

    async def _follow(self, client: Kubernetes, what: str, name: str) -> Finding:
        loop = asyncio.get_running_loop()
        deadline, since, last = loop.time() + self._pull_timeout_s, loop.time(), read_status({})
        while True:
            pod = await client.get("pods", self._sessions, name)
            status = read_status(pod)
            if status.started and not _was_refused(pod):
                where = (pod.get("spec") or {}).get("nodeName")
                return Finding(what, True, f"{where} pulled it")
            if status.stage is Stage.FAILED:
                return Finding(what, False, str((pod.get("status") or {}).get("message") or status.words))
            if (status.stage, status.words) != (last.stage, last.words):
                since, last = loop.time(), status
            patience_s = self._pull_timeout_s if status.patience_s is None else status.patience_s
            if loop.time() >= min(deadline, since + patience_s):
                return Finding(what, False, _of_an_image(status.words))
            await asyncio.sleep(_LOOK_EVERY_S)

    def _session(self, name: str, image: str, pool: Pool) -> dict[str, Any]:
        """A pod that wants nothing but its image; it keeps the restricted Pod Security Standard."""
        secrets_: Sequence[str] = self._own.sessions.image_pull_secrets
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "manybinder"}},
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": max(1, round(self._pull_timeout_s)),
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "nodeSelector": {**self._own.sessions.node_selector, **self._where(pool)},
                "affinity": required_nodes(self._requirements(pool)),
                "tolerations": [dict(item) for item in self._shape().tolerations],
                "imagePullSecrets": [{"name": secret} for secret in secrets_],
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": CONTAINER,
                        "image": image,
                        # Whatever the node has of it: the registry is to be asked.
                        "imagePullPolicy": "Always",
                        "command": ["/bin/sh", "-c", "exit 0"],
                        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    }
                ],
            },
        }


def _called(pool: Pool) -> str:
    value = "nodes without the label" if pool.value is None else pool.value or "nodes with an empty label"
    return f"{value} ({', '.join(pool.nodes[:3])}{', …' if pool.nodes[3:] else ''})"


def _of_an_image(words: str) -> str:
    return (
        words.replace("the builder's image", "the image")
        .replace("the build's node", "the node")
        .replace("the build", "the pod")
    )


def _was_refused(pod: Mapping[str, Any]) -> bool:
    """Whether a pod has ended without a container ever having run: its node has pulled nothing, as far as it tells."""
    entries = (pod.get("status") or {}).get("containerStatuses") or []
    return (pod.get("status") or {}).get("phase") == "Failed" and not any(item.get("imageID") for item in entries)
