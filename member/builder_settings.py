"""What an operator may set of the builder: what all kinds have, and what each kind has of its own.

``builder.kind`` says which kind the section is of; keys of another kind are refused like any unknown key.
"""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from contract.units import Duration, Size, parse_size
from member.cluster_settings import (
    NAMESPACE_OR_NONE,
    ClusterSessionSettings,
    SecretKeySettings,
    TolerationSettings,
)
from servicekit.config import Section, by_kind, kind_tag


def watermark_value(text: str) -> float:
    """A percentage as a part of one, or a size in bytes."""
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else parse_size(text)


def _checked_watermark(text: str) -> str:
    try:
        value = watermark_value(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is neither a percentage nor a size (write for example 80% or 50Gi)") from error
    if not (0 < value <= 1 if text.endswith("%") else value > 0):
        raise ValueError(f"{text!r} must be above 0, and at most 100%")
    return text


#: A percentage or a size, as it stands in the file.
Watermark = Annotated[str, AfterValidator(_checked_watermark)]


#: Images of repo2docker's own that have Docker's client alone, and build by its plugin: those after 2024.
NEEDS_DOCKER = re.compile(r"((quay|docker)\.io/)?jupyterhub/repo2docker(?!:(0\.|20(1\d|2[0-4])\.))(:|@|$)")

#: The last of those that can build with Podman.
PODMAN_IMAGE = "quay.io/jupyterhub/repo2docker:2024.07.0"


class CommonBuilderSettings(Section):
    """What every kind of builder has."""

    named_by_registry: ClassVar[bool] = False
    """Whether images are an engine's, whose names begin with a registry."""

    slots: int = Field(default=1, ge=1)
    """Builds at a time; further ones wait."""

    timeout: Duration = Field(default=1800.0, gt=0)
    """For one build, in all."""

    image_prefix: str = Field(default="manybinder-", pattern=r"^[a-z0-9._/-]*$")
    """Begins the name of every image."""

    memory: Size = Field(default=4 * 2**30, gt=0)
    """Of all processes of a build together."""

    @property
    def longest_s(self) -> float:
        """Seconds that a build may take in all, its clean-up included."""
        return self.timeout + 60


class ProcessBuilderSettings(CommonBuilderSettings):
    """uv makes the environment, bubblewrap confines it."""

    kind: Literal["process"] = "process"

    python: Literal["nearest", "exact"] = "nearest"
    """If the Python that a repository asks for is absent: take the nearest one and warn, or refuse."""

    python_downloads: bool = True
    """Whether uv may download a Python that is absent."""

    confine: Literal["auto", "required", "off"] = "auto"
    """``auto``: with bubblewrap where it works; ``required``: do not start where it does not, and with ``auth_enabled``
    ``auto`` is no less."""

    processes: int = Field(default=1024, ge=16)
    """Processes and threads of one build."""

    disk: Size = Field(default=10 * 2**30, gt=0)
    """What one build may write."""

    images_disk: Size = Field(default=20 * 2**30, gt=0)
    """All images together; beyond that the least recently used ones go."""

    images_max_age: Duration = Field(default=14 * 86400.0, gt=0)
    """An image that was not used for so long goes."""

    cache_dir: Path | None = None
    """The package cache; by default within the data directory.  Members of one operator may share one."""


class ContainerBuilderSettings(CommonBuilderSettings):
    """repo2docker builds images with Docker or Podman, and DockerSpawner runs them."""

    named_by_registry: ClassVar[bool] = True

    kind: Literal["container"] = "container"

    engine: Literal["auto", "docker", "podman"] = "auto"
    """``auto``: the first one that answers; a Podman without a socket is given one by the member."""

    socket: str | None = Field(default=None, pattern=r"^unix:///.+")
    """Where the engine listens; by default ``DOCKER_HOST``, then the usual places."""

    cpu: float = Field(default=2.0, gt=0)
    """Cores of one build."""

    processes: int = Field(default=4096, ge=16)
    """Processes and threads of one user in a build."""

    disk: Size = Field(default=10 * 2**30, gt=0)
    """What a checkout may take; the image itself is bounded by the watermarks."""

    appendix: str = ""
    """Lines of a Dockerfile that end each image that repo2docker writes the Dockerfile of."""

    session_cpu: float = Field(default=1.0, gt=0)
    """Cores of one session."""

    session_user: str = Field(default="1000", pattern=r"^[0-9]+(:[0-9]+)?$")
    """Who runs in a session: user and group, by number; never root unless you say so."""

    images_high: Watermark = "80%"
    """More than that, and the least recently used images go: a percentage of the disk that is used by whomever, or a
    size that all images of this member take together."""

    images_low: Watermark = "60%"
    """Until that is reached; written as ``images_high`` is."""

    images_max_age: Duration = Field(default=14 * 86400.0, gt=0)
    """An image that was not used for so long goes."""

    @model_validator(mode="after")
    def _watermarks_fit(self) -> Self:
        high, low = self.images_high, self.images_low
        if high.endswith("%") != low.endswith("%"):
            raise ValueError("images_low: must be written as images_high is, both as percentages or both as sizes")
        if watermark_value(low) > watermark_value(high):
            raise ValueError("images_low: must not be above images_high")
        return self


class KubernetesBuilderSettings(CommonBuilderSettings):
    """repo2docker builds images in pods of a Kubernetes cluster, whose JupyterHub (zero-to-jupyterhub) runs them."""

    named_by_registry: ClassVar[bool] = True

    kind: Literal["kubernetes"] = "kubernetes"

    kubeconfig: Path | None = None
    """How to reach the cluster; by default as the service account of the pod that the member runs in."""

    namespace: str = Field(default="", pattern=NAMESPACE_OR_NONE)
    """Where build pods run; by default where the member does."""

    image: str = "quay.io/jupyterhub/repo2docker:2026.4.0"
    """The image of build pods."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When nodes pull it."""

    image_pull_secrets: tuple[str, ...] = ()
    """Secrets with which nodes pull it."""

    command: tuple[str, ...] = ()
    """Runs in the place of the image's entry point, with repo2docker's command line as its arguments."""

    engine: Literal["host", "dind", "pink", "none"] = "host"
    """Whose socket a build pod gets: Docker of the node, or that of a DaemonSet with Docker (``dind``) or Podman
    (``pink``, which needs an ``image`` that can speak to it); ``none`` where the image brings an engine of its own."""

    socket: str | None = Field(default=None, pattern=r"^/.+")
    """Where the node has that socket; by default where BinderHub's chart puts it."""

    push_secret: str = ""
    """Secret with a ``config.json`` that has the credentials for a push."""

    registry_credentials_secret: SecretKeySettings | None = None
    """Secret with credentials as repo2docker takes them: JSON with ``registry``, ``username`` and ``password``."""

    git_credentials_secret: SecretKeySettings | None = None
    """Secret with credentials as Git's credential helper takes them (``username=…\\npassword=…``)."""

    memory_request: Size = Field(default=1 * 2**30, gt=0)
    """Memory that a node must have left for a build; ``memory`` is what its pod may take."""

    cpu_request: float = Field(default=0.5, gt=0)
    """Cores that a node must have left for a build."""

    cpu: float | None = Field(default=None, gt=0)
    """Cores that a build's pod may take; by default any."""

    disk_request: Size = Field(default=1 * 2**30, gt=0)
    """Disk that a node must have left for a build."""

    disk: Size = Field(default=10 * 2**30, gt=0)
    """Disk that a build's pod may take."""

    node_selector: dict[str, str] = Field(default={})
    """Labels of the nodes for builds."""

    tolerations: tuple[TolerationSettings, ...] = ()
    """Taints that builds tolerate, besides zero-to-jupyterhub's for user nodes."""

    priority_class: str = ""
    """PriorityClass of build pods."""

    env: dict[str, str] = Field(default={})
    """Variables of build pods; nothing secret."""

    labels: dict[str, str] = Field(default={})
    """Further labels of build pods."""

    appendix: str = ""
    """Lines of a Dockerfile that end each image that repo2docker writes the Dockerfile of."""

    repo2docker_args: tuple[str, ...] = ()
    """Further arguments."""

    start_timeout: Duration = Field(default=600.0, gt=0)
    """For a build's pod to find a node and start there."""

    keep_finished: Duration = Field(default=120.0, ge=0)
    """How long a build's pod is kept that has ended."""

    max_age: Duration = Field(default=4 * 3600.0, gt=0)
    """A build pod of that age is removed, whatever it does."""

    sticky: bool = False
    """Whether builds of a repository go to the same node if they can, where layers of it are."""

    builder_pods: str = "app=binder,component=image-builder"
    """Selector of the pods of the engine's DaemonSet, among whose nodes a sticky build's is chosen."""

    capacity: Literal["cluster", "limit"] = "cluster"
    """What says how many sessions have room: the cluster's nodes and quotas (and ``sessions.limit``), or that alone."""

    sessions: ClusterSessionSettings = ClusterSessionSettings()
    """What the cluster is asked for by each session."""

    @property
    def longest_s(self) -> float:
        """Seconds that a build may take in all, the wait for a node included."""
        return self.start_timeout + self.timeout + 60

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for request, limit in (("memory_request", self.memory), ("disk_request", self.disk)):
            if getattr(self, request) > limit:
                raise ValueError(f"{request}: must not be above {request.removesuffix('_request')}")
        if self.cpu is not None and self.cpu_request > self.cpu:
            raise ValueError("cpu_request: must not be above cpu")
        if self.engine == "pink" and NEEDS_DOCKER.match(self.image):
            raise ValueError(
                f"image: {self.image} builds by Docker's buildx, which Podman (engine: pink) does not serve; give"
                f" {PODMAN_IMAGE}, or an image with repo2docker and a client of Podman"
            )
        return self


BuilderSettings = Annotated[
    Annotated[ProcessBuilderSettings, kind_tag("process")]
    | Annotated[ContainerBuilderSettings, kind_tag("container")]
    | Annotated[KubernetesBuilderSettings, kind_tag("kubernetes")],
    by_kind(default="process"),
]
"""The builder's section; a further kind is a further part of this union."""
