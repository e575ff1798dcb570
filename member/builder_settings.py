"""What an operator may set of the builder: what all kinds have, and what each kind has of its own.

``builder.kind`` says which kind the section is of; keys of another kind are refused like any unknown key.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from contract.units import Duration, Size, parse_size
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


class ProcessBuilderSettings(CommonBuilderSettings):
    """uv makes the environment, bubblewrap confines it."""

    kind: Literal["process"] = "process"

    python: Literal["nearest", "exact"] = "nearest"
    """If the Python that a repository asks for is absent: take the nearest one and warn, or refuse."""

    python_downloads: bool = True
    """Whether uv may download a Python that is absent."""

    confine: Literal["auto", "required", "off"] = "auto"
    """``auto``: with bubblewrap where it works; ``required``: do not start where it does not."""

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


BuilderSettings = Annotated[
    Annotated[ProcessBuilderSettings, kind_tag("process")] | Annotated[ContainerBuilderSettings, kind_tag("container")],
    by_kind(default="process"),
]
"""The builder's section; a further kind is a further part of this union."""
