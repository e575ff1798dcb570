"""A Kubernetes builder over the fake cluster: what several tests share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.events import BuildEvent
from member.builders.base import BuildFailedError, BuildRequest
from member.builders.kubernetes.builder import KubernetesBuilder
from member.settings import MemberSettings
from tests.fakes.kubernetes import FakeKubernetes, Kubelet, node
from tests.fakes.oci_registry import OCI, FakeRegistry
from tests.member.member_harness import build_request, until

NAMESPACE = "builds"


def settings_tree(kubeconfig: Path | None, registry_url: str, tmp_path: Path, **builder: Any) -> dict[str, Any]:
    """A member's settings, as they stand in a file."""
    return {
        "name": "member",
        "listen": {"port": 9001},
        "public_url": "http://127.0.0.1:9001/",
        "data_dir": str(tmp_path / "data"),
        "hub": {"url": "http://127.0.0.1:9002/", "public_url": "http://127.0.0.1:9002/", "api_token": "x"},
        "registry": {"url": registry_url} if registry_url else None,
        "builder": {
            "kind": "kubernetes",
            "kubeconfig": kubeconfig and str(kubeconfig),
            "namespace": NAMESPACE,
            "image_prefix": "binder/",
            "sessions": {"namespace": "hub"},
            **builder,
        },
    }


def settings(kubeconfig: Path | None, registry_url: str, tmp_path: Path, **builder: Any) -> MemberSettings:
    """A member's settings."""
    return MemberSettings.model_validate(settings_tree(kubeconfig, registry_url, tmp_path, **builder))


@dataclass
class Reader:
    """Who reads a build."""

    events: list[BuildEvent] = field(default_factory=list)
    error: BuildFailedError | None = None
    task: asyncio.Task[None] | None = None

    @property
    def log(self) -> list[str]:
        """The messages."""
        return [item.message for item in self.events]

    async def end(self, deadline_s: float = 400) -> list[str]:
        """Wait for the end."""
        assert self.task is not None
        async with asyncio.timeout(deadline_s):
            await self.task
        return self.log

    async def leave(self) -> None:
        """Leave the build."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def read(builder: KubernetesBuilder, request: BuildRequest) -> Reader:
    """Begin a build, or join it."""
    reader = Reader()

    async def read_to_the_end() -> None:
        try:
            async with contextlib.aclosing(builder.build(request)) as events:
                async for item in events:
                    reader.events.append(item)
        except BuildFailedError as error:
            reader.error = error

    reader.task = asyncio.create_task(read_to_the_end())
    return reader


@dataclass
class Cluster:
    """A fake cluster with a registry, and builders that use them; without a kubelet, tests take each step."""

    api: FakeKubernetes
    registry: FakeRegistry
    kubelet: Kubelet
    tmp_path: Path
    kubeconfig: Path
    stack: contextlib.AsyncExitStack

    async def builder(self, **builder: Any) -> KubernetesBuilder:
        """Start a builder, as a replica of the member."""
        made = KubernetesBuilder(settings(self.kubeconfig, self.registry.url, self.tmp_path, **builder))
        await made.start()
        self.stack.push_async_callback(made.close)
        return made

    def read(self, builder: KubernetesBuilder, request: BuildRequest | None = None) -> Reader:
        """Begin a build, or join it."""
        reader = read(builder, request or self.request())
        self.stack.push_async_callback(reader.leave)
        return reader

    @property
    def pods(self) -> list[dict[str, Any]]:
        """The build pods that there are."""
        return self.api.store.all("pods", NAMESPACE)

    async def pod(self, which: Callable[[dict[str, Any]], bool] = lambda _: True) -> str:
        """The name of a build pod, once there is one."""
        await until(lambda: any(which(pod) for pod in self.pods))
        return next(str(pod["metadata"]["name"]) for pod in self.pods if which(pod))

    async def running(self) -> str:
        """The same, placed and running."""
        name = await self.pod()
        self.kubelet.schedule(name, "node-1")
        self.kubelet.run(name)
        return name

    def push(self, image: str) -> None:
        """Have the registry get an image."""
        self.registry.manifests[image.partition("/")[2]] = OCI

    def request(self, name: str = "repo") -> BuildRequest:
        """What to build of a repository."""
        return build_request_for(name, self.registry.url)

    def succeed(self, name: str) -> None:
        """Have a build pod push its image, and end."""
        pod = self.api.store.get("pods", NAMESPACE, name)
        assert pod is not None
        self.push(pod["metadata"]["annotations"]["manybinder.org/image"])
        self.kubelet.finish(name)


def build_request_for(name: str, registry_url: str = "") -> BuildRequest:
    """What to build of a repository, for a registry."""
    made = build_request(name)
    host = registry_url.partition("//")[2] or "localhost"
    return BuildRequest(made.repo, made.repo_url, made.commit, made.image.replace("test-", f"{host}/binder/", 1))


@contextlib.asynccontextmanager
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Start one; all builders and readers end with it."""
    async with FakeKubernetes() as api, FakeRegistry() as registry, contextlib.AsyncExitStack() as stack:
        for namespace in (NAMESPACE, "hub"):
            api.namespace(namespace)
        api.store.put("nodes", "", node("node-1"))
        kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        yield Cluster(api, registry, Kubelet(api, NAMESPACE), tmp_path, kubeconfig, stack)
