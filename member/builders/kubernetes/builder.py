"""The Kubernetes builder, as the member sees it (:class:`member.builders.base.Builder`)."""

import asyncio
import contextlib
import dataclasses
import datetime
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import aiohttp

from contract.events import BuildEvent, Failure
from contract.rendezvous import score
from contract.reports import Check, Usage
from contract.repos import RepoKey
from member.builders.base import BuildFailedError, BuildRequest, BuiltImage, Resources
from member.builders.kubernetes import rules
from member.builders.kubernetes.cluster import ClusterView
from member.builders.kubernetes.following import Following
from member.builders.kubernetes.kind import own_settings
from member.builders.kubernetes.pods import Pod, Pods
from member.builders.relay import Tell, relay
from member.clients.informer import Informer
from member.clients.kubernetes import Kubernetes, KubernetesError
from member.clients.registry import Registry, RegistryError
from member.clients.registry_credentials import source
from member.confine.ending import to_its_end
from member.core import pods as manifests
from member.core.pod_status import Stage, read_status
from member.settings import MemberSettings
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds for the first lists at the start, and for one answer of the API to a check.
_START_S, _CHECK_S = 30.0, 4.0

#: Seconds that a build which nobody wants any more gets to be cleared away.
_LET_GO_S = 20.0

#: Tries, and seconds between them, to see in the registry what a build says that it has pushed.
_LOOKS, _LOOK_EVERY_S = 5, 2.0

#: Seconds that a registry which has answered is taken to be well.
_REGISTRY_FRESH_S = 30.0

#: Images that are remembered as built here.
_REMEMBERED = 500


class KubernetesBuilder:
    """See the package."""

    kind = "kubernetes"
    confined = True
    confinement_reason = "in pods of the cluster"

    def __init__(self, settings: MemberSettings, *, node_requirements: tuple[Mapping[str, Any], ...] = ()) -> None:
        """``node_requirements`` are match expressions that the labels of builds' nodes have to meet."""
        self._settings = own_settings(settings)
        here = rules.own_namespace()
        self._namespace = self._settings.namespace or here
        self._sessions_namespace = self._settings.sessions.namespace or here
        self._registry_settings = settings.registry
        push = settings.registry is not None and settings.registry.push
        common = rules.build_pod_rules(self._settings, settings.name, self._namespace, push=push)
        self._rules = dataclasses.replace(common, node_requirements=node_requirements)
        self._registry: Registry | None = None
        self._tasks = Tasks()
        self._known: dict[str, BuiltImage] = {}
        self._registry_said: Check | None = None
        self._ask_registry_at = 0.0
        self._closing = False
        self._client: Kubernetes | None = None
        self._http: aiohttp.ClientSession | None = None

    @property
    def info(self) -> Mapping[str, str]:
        """What ``/versions`` says of it."""
        return {"build_image": self._settings.image}

    async def start(self) -> None:
        """Find the cluster and what runs there; raises ``RuntimeError`` with a sentence."""
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        await self._find_registry()
        try:
            self._client = await Kubernetes.connect(self._settings.kubeconfig)
            component = f"{manifests.COMPONENT}={manifests.BUILD_COMPONENT}"
            self._builds: Informer[Pod] = Informer(self._client, "pods", self._namespace, dict, labels=component)
            self._pods = Pods(self._client, self._builds, self._rules)
            self._engines: Informer[Pod] = Informer(
                self._client, "pods", self._namespace, dict, labels=self._settings.builder_pods
            )
            self._cluster: ClusterView | None = None
            self._tasks.spawn("keep up with build pods", self._builds.run())
            if self._settings.sticky:
                self._tasks.spawn("keep up with engines' pods", self._engines.run())
            if self._settings.capacity == "cluster":
                self._cluster = ClusterView(
                    self._client,
                    self._settings,
                    sessions_namespace=self._sessions_namespace,
                    builds_namespace=self._namespace,
                )
                self._cluster.start(self._tasks)
                await self._cluster.wait_synced(_START_S)
            await self._builds.wait_synced(_START_S)
        except KubernetesError as error:
            await self.close()
            raise RuntimeError(f"builder: {error}") from error
        self._remember()

    async def _find_registry(self) -> None:
        given = self._registry_settings
        if given is None or self._http is None:
            return
        if given.read_from:
            await self.close()
            raise RuntimeError("registry.read_from: the kubernetes builder reads no other member's registry")
        try:
            self._registry = Registry(self._http, given, source(given))
        except ValueError as error:
            await self.close()
            raise RuntimeError(str(error)) from error

    async def close(self) -> None:
        """End what runs in the background; builds that run now go on in the cluster."""
        self._closing = True
        await self._tasks.close()
        if self._client is not None:
            await self._client.close()
        if self._http is not None:
            await self._http.close()

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from this image now.

        Raises :class:`BuildFailedError` where the registry does not say: building anew would help nobody.
        """
        if self._registry is None:
            return image in self._known
        try:
            return await self._registry.exists(image.removeprefix(f"{self._registry.host}/"))
        except RegistryError as error:
            logger.warning("%s", error)
            raise BuildFailedError(Failure.MEMBER, f"Nothing can be built here now: {error}.") from error

    def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """See :meth:`member.builders.base.Builder.build`."""

        async def job(tell: Tell) -> BuildFailedError | None:
            try:
                await self._build(request, tell)
            except BuildFailedError as error:
                return error
            return None

        return relay(self._tasks, f"build {request.image[-60:]}", job)

    async def _build(self, request: BuildRequest, tell: Tell) -> None:
        if request.repo_url.startswith("-"):
            raise BuildFailedError(Failure.USER, "The repository's address begins like an option.")
        while True:
            try:
                pod = await self._pods.claim(request, self._best_node(request.repo))
            except asyncio.CancelledError:
                await to_its_end(self._abandon(request))
                raise
            joined_at_end = read_status(pod).stage.ended
            try:
                error = await Following(self._pods, pod, tell, self._settings.start_timeout).to_the_end()
            except BaseException:
                await to_its_end(self._let_go(pod))
                raise
            if not joined_at_end or await self._is_there(request.image, looks=1):
                break
            # Of an earlier build whose image is gone since.
            await self._discard(pod)
        if error is not None and not await self._went_well(pod, request.image):
            await self._discard_unstarted(pod)
            raise error
        if self._registry is not None and not await self._is_there(request.image, looks=_LOOKS):
            raise BuildFailedError(
                Failure.MEMBER, "This member could not build: the image that was pushed is not in the registry."
            )
        self._pods.done(pod)
        self._keep(BuiltImage(request.image, request.repo, request.commit, 0, time.time(), self._registry_host))

    async def _went_well(self, pod: Pod, image: str) -> bool:
        """Whether a build has succeeded although its pod was gone before that was seen."""
        if self._registry is None or read_status(self._builds.objects.get(self._key(pod), {})).stage is Stage.FAILED:
            return False
        with contextlib.suppress(BuildFailedError):
            return await self._is_there(image, looks=1)
        return False

    async def _is_there(self, image: str, *, looks: int) -> bool:
        if self._registry is None:
            return True
        for look in range(looks):
            if look:
                await asyncio.sleep(_LOOK_EVERY_S)
            if await self.has_image(image):
                return True
        return False

    async def _abandon(self, request: BuildRequest) -> None:
        """Let go of a pod that may have been made while its maker was cancelled."""
        with contextlib.suppress(TimeoutError, KubernetesError):
            async with asyncio.timeout(_LET_GO_S):
                if (pod := await self._pods.mine(request)) is not None:
                    await self._let_go(pod)

    async def _let_go(self, pod: Pod) -> None:
        if self._closing:
            # The member ends, or is replaced: the build goes on, and whoever wants it next joins it.
            return
        try:
            async with asyncio.timeout(_LET_GO_S):
                await self._pods.let_go(pod)
        except TimeoutError:
            logger.warning("%s was not deleted in time; the cleaner will see to it", self._pods.name(pod))

    async def _discard(self, pod: Pod) -> None:
        try:
            await self._pods.delete(pod)
        except KubernetesError as error:
            logger.warning("cannot delete %s: %s", self._pods.name(pod), error)

    async def _discard_unstarted(self, pod: Pod) -> None:
        """Delete the pod of a build that has failed, if it has not ended: it would start some day."""
        self._pods.done(pod)
        seen = self._builds.objects.get(self._key(pod))
        if seen is not None and not read_status(seen).stage.ended:
            await self._discard(pod)

    def _best_node(self, repo: RepoKey) -> str | None:
        """The node that a sticky build had best run on: the repository's among those whose engine is ready."""
        if not self._settings.sticky:
            return None
        nodes = {pod["spec"]["nodeName"] for pod in self._engines.objects.values() if _is_ready(pod)}
        return max(sorted(nodes), key=lambda node: score(1.0, repo, node), default=None)

    async def images(self) -> Sequence[BuiltImage]:
        """What was built here of late, the last one first."""
        return list(reversed(self._known.values()))

    async def clean(self) -> None:
        """Delete build pods that have ended a while ago, or are older than any build may be."""
        if self._builds.error is not None:
            return
        now = time.time()
        for pod in list(self._builds.objects.values()):
            ended = read_status(pod).stage.ended and now - _ended_at(pod, now) > self._settings.keep_finished
            if ended or now - _unix(pod["metadata"].get("creationTimestamp"), now) > self._settings.max_age:
                logger.info("build pod %s is removed", self._pods.name(pod))
                await self._discard(pod)

    async def checks(self) -> Sequence[Check]:
        """The API, the registry, and whether it is known what has room."""
        if self._closing:
            return [Check("Kubernetes API", False, "this member is ending")]
        return [
            await self._api_check(),
            *([await self._registry_check(self._registry)] if self._registry is not None else []),
            *(self._cluster.checks() if self._cluster is not None else ()),
        ]

    async def resources(self) -> Resources:
        """What the cluster has, as far as pods ask for it."""
        return Resources(Usage(), Usage(), Usage()) if self._cluster is None else self._cluster.resources()

    async def _api_check(self) -> Check:
        if (error := self._builds.trouble()) is not None:
            return Check("Kubernetes API", False, str(error))
        return Check("Kubernetes API", True, f"{len(self._builds.objects)} build pods in {self._namespace}")

    async def _registry_check(self, registry: Registry) -> Check:
        """Not asked anew each time: registries count who asks."""
        now = time.monotonic()
        if self._registry_said is None or now >= self._ask_registry_at:
            self._registry_said = await _ask(registry)
            self._ask_registry_at = now + (_REGISTRY_FRESH_S if self._registry_said.ok else 0)
        return self._registry_said

    def _remember(self) -> None:
        """What was built before this process began, as far as pods still tell."""
        for pod in self._builds.objects.values():
            told = pod["metadata"].get("annotations") or {}
            if read_status(pod).stage is Stage.SUCCEEDED and manifests.IMAGE in told:
                repo, commit = RepoKey(told.get(manifests.REPO, "")), told.get(manifests.COMMIT, "")
                self._keep(BuiltImage(told[manifests.IMAGE], repo, commit, 0, time.time(), self._registry_host))

    def _keep(self, image: BuiltImage) -> None:
        self._known.pop(image.image, None)
        self._known[image.image] = image
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    def _key(self, pod: Pod) -> str:
        return f"{self._namespace}/{self._pods.name(pod)}"

    @property
    def _registry_host(self) -> str | None:
        return self._registry.host if self._registry is not None else None


async def _ask(registry: Registry) -> Check:
    try:
        async with asyncio.timeout(_CHECK_S):
            await registry.check()
    except TimeoutError:
        return Check("Docker registry", False, f"it did not answer within {_CHECK_S:g} s")
    except RegistryError as error:
        return Check("Docker registry", False, str(error))
    return Check("Docker registry", True)


def _is_ready(pod: Pod) -> bool:
    """Whether an engine's pod has a node and works."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return bool(
        pod["spec"].get("nodeName")
        and not pod["metadata"].get("deletionTimestamp")
        and any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    )


def _ended_at(pod: Pod, default: float) -> float:
    """When its container ended (Unix time); for a pod that never ran one, when it was made."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    ends = [((item.get("state") or {}).get("terminated") or {}).get("finishedAt") for item in statuses]
    made = _unix(pod["metadata"].get("creationTimestamp"), default)
    return max([_unix(end, default) for end in ends if end], default=made)


def _unix(stamp: Any, default: float) -> float:
    try:
        return datetime.datetime.fromisoformat(str(stamp)).timestamp()
    except ValueError:
        return default
