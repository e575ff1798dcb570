"""Build pods in the cluster: made or joined, looked at, and let go of.

The pod's name is the lock: who finds it taken joins the build.  Each replica that follows a build says so in an
annotation of the pod; who leaves last deletes it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from contract.events import Failure
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.kubernetes.persistence import persist
from member.clients.informer import Informer
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.core import pods
from member.core.pod_status import Stage, read_status

logger = logging.getLogger(__name__)

T = TypeVar("T")

Pod = Mapping[str, Any]

#: Seconds for which the API may be in trouble before a build is given up.
PATIENCE_S = 60.0

#: Seconds after which a replica says again that it follows a build, and after which it is thought dead.
_REMIND_S, _FORGOTTEN_S = 30.0, 120.0

#: Seconds that a pod gets to go away; one on a node that is lost may take very long.
_GOING_S = 60.0

#: Builds whose pods' names meet by chance.
_MOST_SALTS = 8


class Pods:
    """``informer`` keeps up with all build pods of the namespace; ``clock`` gives Unix time in seconds."""

    def __init__(
        self,
        client: Kubernetes,
        informer: Informer[Pod],
        rules: pods.BuildPodRules,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._informer, self._rules, self._clock = client, informer, rules, clock
        self._mark = f"{pods.FOLLOWED_BY}{secrets.token_hex(6)}"
        self._marked_at: dict[str, float] = {}

    @staticmethod
    def name(pod: Pod) -> str:
        """A pod's name."""
        return str(pod["metadata"]["name"])

    async def claim(self, request: BuildRequest, node: str | None) -> Pod:
        """The pod of a build, made or joined; raises :class:`BuildFailedError`."""
        try:
            for salt in range(_MOST_SALTS):
                name = pods.pod_name(request.repo, request.commit, salt)
                if (pod := await self._claim(name, request, node)) is not None:
                    return pod
        except KubernetesError as error:
            if error.exceeds_quota:
                raise BuildFailedError(
                    Failure.MEMBER, "This member could not build: its cluster's quota has no room for another build."
                ) from error
            logger.warning("cannot start a build: %s", error)
            raise BuildFailedError(
                Failure.MEMBER, "This member could not build: its cluster does not take the build; its log says why."
            ) from error
        raise BuildFailedError(Failure.MEMBER, "This member could not build: all names for the build are taken.")

    async def _claim(self, name: str, request: BuildRequest, node: str | None) -> Pod | None:
        """The pod of this name, made or joined; ``None`` if it is of another build, or does not go away."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _GOING_S
        while loop.time() < deadline:
            if (made := await self._make(name, request, node)) is not None:
                return made
            try:
                there = await self._persist(lambda: self._client.get("pods", self._namespace, name))
                if (there["metadata"].get("annotations") or {}).get(pods.IMAGE) != request.image:
                    return None
                if await self._join(there):
                    return there
            except KubernetesError as error:
                if error.status != 404:
                    raise
            await asyncio.sleep(0.5)
        return None

    async def _make(self, name: str, request: BuildRequest, node: str | None) -> Pod | None:
        """A new pod; ``None`` if there is one of this name (which may be the one of a try whose answer was lost)."""
        manifest = pods.build_pod(
            self._rules,
            name,
            repo=request.repo,
            repo_url=request.repo_url,
            commit=request.commit,
            image=request.image,
            node=node,
            annotations={self._mark: self._now()},
        )
        try:
            made = await self._persist(lambda: self._client.create("pods", self._namespace, manifest))
        except KubernetesError as error:
            if error.reason != "AlreadyExists":
                raise
            return None
        self._marked_at[made["metadata"]["uid"]] = self._clock()
        return made

    async def _join(self, pod: Pod) -> bool:
        """Join the build of a pod; false if it has to go first, which is seen to."""
        if pod["metadata"].get("deletionTimestamp"):
            return False
        stage = read_status(pod).stage
        if stage is Stage.FAILED:
            await self.delete(pod)
            return False
        if stage is Stage.SUCCEEDED:
            return True
        return await self._say(pod, self._now())

    async def _say(self, pod: Pod, value: str | None) -> bool:
        """Write this replica's annotation; whether the pod is there, and to stay."""
        uid = pod["metadata"]["uid"]
        body = {"metadata": {"uid": uid, "annotations": {self._mark: value}}}
        try:
            patched = await self._persist(lambda: self._client.patch("pods", self._namespace, self.name(pod), body))
        except KubernetesError as error:
            # 422: it is another pod by now, whose uid no patch can change.
            if error.status in (404, 409, 422):
                return False
            raise
        self._marked_at[uid] = self._clock()
        return not patched["metadata"].get("deletionTimestamp")

    async def next_state(self, pod: Pod, wait_s: float) -> Pod | None:
        """The pod when it has changed, or as the API says it is after ``wait_s``; ``None`` once it is gone."""
        await self._remind(pod)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        key = f"{self._namespace}/{self.name(pod)}"
        while True:
            change = self._informer.next_change
            seen = self._informer.objects.get(key)
            if seen is not None and _is(seen, pod) and _version(seen) != _version(pod):
                # Perhaps an older one, if the API was asked meanwhile; the newer one follows.
                return seen
            try:
                async with asyncio.timeout_at(deadline):
                    await change.wait()
            except TimeoutError:
                return await self._ask(pod)
            if seen is not None and key not in self._informer.objects:
                return await self._ask(pod)

    async def _ask(self, pod: Pod) -> Pod | None:
        try:
            there = await self._client.get("pods", self._namespace, self.name(pod))
        except KubernetesError as error:
            if error.status == 404:
                return None
            logger.info("cannot look at %s: %s", self.name(pod), error)
            return pod
        return there if _is(there, pod) else None

    async def _remind(self, pod: Pod) -> None:
        if self._clock() - self._marked_at.get(pod["metadata"]["uid"], 0.0) > _REMIND_S:
            try:
                await self._say(pod, self._now())
            except KubernetesError as error:
                logger.info("cannot say that %s is followed: %s", self.name(pod), error)
                self._marked_at[pod["metadata"]["uid"]] = self._clock()

    def log(self, pod: Pod, container: str, since: str) -> AsyncGenerator[bytes, None]:
        """Lines of the pod's log."""
        return self._client.log(self._namespace, self.name(pod), container, since=since)

    async def last_warning(self, pod: Pod) -> str:
        """What the cluster has said last of its trouble with a pod, if anything."""
        fields = f"involvedObject.uid={pod['metadata']['uid']},type=Warning"
        try:
            events = (await self._client.list_all("events", self._namespace, fields=fields)).items
        except KubernetesError as error:
            logger.info("cannot look at the events of %s: %s", self.name(pod), error)
            return ""
        last = max(events, key=lambda item: str(item.get("lastTimestamp") or item.get("eventTime") or ""), default={})
        return " ".join(str(last.get("message") or "").split())[:300]

    async def mine(self, request: BuildRequest) -> Pod | None:
        """The pod of a build that this replica is noted as following; raises :class:`KubernetesError`."""
        name = pods.pod_name(request.repo, request.commit)
        there = await self._client.get("pods", self._namespace, name)
        told = there["metadata"].get("annotations") or {}
        return there if told.get(pods.IMAGE) == request.image and self._mark in told else None

    async def let_go(self, pod: Pod) -> None:
        """Follow a pod no longer; it is deleted unless another replica follows it, or it has ended."""
        uid = self._forget(pod)
        try:
            while True:
                there = await self._persist(lambda: self._client.get("pods", self._namespace, self.name(pod)))
                if there["metadata"]["uid"] != uid or read_status(there).stage.ended:
                    return
                if self._has_others(there):
                    await self._say(pod, None)
                    self._forget(pod)
                    return
                try:
                    await self._delete(pod, _version(there))
                except KubernetesError as error:
                    # Something has changed meanwhile; perhaps somebody joined.
                    if error.status != 409:
                        raise
                else:
                    return
        except KubernetesError as error:
            if error.status != 404:
                logger.warning("a build that nobody follows goes on, for %s", error)

    def done(self, pod: Pod) -> None:
        """A pod has ended; it is left to the cleaner, for other replicas may still read its log."""
        self._forget(pod)

    async def delete(self, pod: Pod) -> None:
        """Delete this very pod, unless somebody has done so; raises :class:`KubernetesError`."""
        try:
            await self._delete(pod)
        except KubernetesError as error:
            if error.status not in (404, 409):
                raise

    async def _delete(self, pod: Pod, version: str | None = None) -> None:
        uid, name = str(pod["metadata"]["uid"]), self.name(pod)
        await self._persist(
            lambda: self._client.delete("pods", self._namespace, name, uid=uid, resource_version=version)
        )

    def _has_others(self, pod: Pod) -> bool:
        annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
        marks = [
            float(value)
            for name, value in annotations.items()
            if name.startswith(pods.FOLLOWED_BY) and name != self._mark and value.isdecimal()
        ]
        return any(self._clock() - mark < _FORGOTTEN_S for mark in marks)

    def _forget(self, pod: Pod) -> str:
        uid = str(pod["metadata"]["uid"])
        self._marked_at.pop(uid, None)
        return uid

    def _now(self) -> str:
        return str(int(self._clock()))

    @property
    def _namespace(self) -> str:
        return self._rules.namespace

    async def _persist(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await persist(ask, for_s=PATIENCE_S)


def _is(pod: Pod, other: Pod) -> bool:
    return bool(pod["metadata"]["uid"] == other["metadata"]["uid"])


def _version(pod: Pod) -> str:
    return str(pod["metadata"]["resourceVersion"])
