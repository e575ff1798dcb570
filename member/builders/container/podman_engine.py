"""A repo2docker engine (``--engine manybinder-podman``) for a Podman that has no ``buildx`` as repo2docker needs it.

Source: repo2docker's documentation, "Container engines" (entry-point group ``repo2docker.engines``); podman-build(1).
Runs in repo2docker's process; pushing is the member's business.
"""

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from repo2docker.docker import DockerEngine
from repo2docker.engine import BuildError
from repo2docker.utils import execute_cmd


class PodmanEngine(DockerEngine):  # type: ignore[misc]  # repo2docker ships no types
    """Builds by ``podman build``; which Podman, the variable ``CONTAINER_HOST`` says."""

    container_cli = "podman"

    def build(
        self,
        *,
        buildargs: Mapping[str, str] | None = None,
        cache_from: Sequence[str] | None = None,
        tag: str = "",
        dockerfile: str = "",
        fileobj: BinaryIO | None = None,
        path: str = "",
        labels: Mapping[str, str] | None = None,
        platform: str | None = None,
        **_: Any,
    ) -> Iterator[str]:
        """Build an image; yields lines.  Raises ``BuildError``."""
        # Docker's format, for only that knows SHELL, which repo2docker's Dockerfiles have.
        argv = ["podman", "build", "--format", "docker", "--tag", tag]
        argv += [f"--build-arg={name}={value}" for name, value in (buildargs or {}).items()]
        argv += [f"--cache-from={image}" for image in cache_from or ()]
        argv += [f"--label={name}={value}" for name, value in (labels or {}).items()]
        argv += [f"--platform={platform}"] if platform else []
        argv += self.extra_buildx_build_args
        with ExitStack() as stack:
            if fileobj is not None:
                path = stack.enter_context(tempfile.TemporaryDirectory())
                with tarfile.open(fileobj=fileobj) as archive:
                    archive.extractall(path, filter="tar")
            argv += ["--file", str(Path(path) / dockerfile)] if dockerfile else []
            try:
                yield from execute_cmd([*argv, path], capture=True)
            except subprocess.CalledProcessError as error:
                raise BuildError(f"podman build ended with status {error.returncode}") from error
