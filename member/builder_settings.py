"""What an operator may set of the builder: what all kinds have, and what each kind has of its own.

``builder.kind`` says which kind the section is of; keys of another kind are refused like any unknown key.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from contract.units import Duration, Size
from servicekit.config import Section, by_kind, kind_tag


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
    """``auto``: the first one that works here."""


BuilderSettings = Annotated[
    Annotated[ProcessBuilderSettings, kind_tag("process")] | Annotated[ContainerBuilderSettings, kind_tag("container")],
    by_kind(default="process"),
]
"""The builder's section; a further kind is a further part of this union."""
