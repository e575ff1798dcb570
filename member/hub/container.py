"""Starts sessions as containers: DockerSpawner, with the limits of a machine that strangers use.

The engine is the one that ``DOCKER_HOST`` names, Docker or Podman.  As with BinderHub, image and token come as the
server's user options; the image is there already.
"""

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker.errors import APIError
from dockerspawner import DockerSpawner
from traitlets import Dict, Float, Integer, Unicode

from member.hub.binder import SessionEndedError, answers, base_url, check_options, image_command, session_environ

#: Seconds between two looks at a session that starts.
_LOOK_EVERY_S = 0.3

#: Of what a session has said that ended while it started.
_SHOWN_LINES, _SHOWN = 5, 400

#: Files that a session may have open, and processes of one user in all sessions, where this machine allows so many.
#: Podman's service lowers its own limit of processes to this, and can grant no more.
_MAX_FILES, _MAX_PROCESSES = 65536, 32768

#: Writes files (path and text, again and again up to ``--``) where JupyterLab then looks for extensions.  An image in
#: which that does not work runs without them.
_WITH_EXTENSION = """\
at=$(mktemp -d)
while [ "$1" != -- ]; do
  if [ -n "$at" ]; then mkdir -p "$at/${1%/*}" && printf %s "$2" >"$at/$1"; fi
  shift 2
done
shift
exec "$@" ${at:+"--LabApp.extra_labextensions_path=$at"}
"""


class ContainerSpawner(DockerSpawner):  # type: ignore[misc]  # JupyterHub ships no types
    """One session, one container, removed when it ends."""

    # Stopping one session takes seconds, which others are not to wait for.
    _executor = ThreadPoolExecutor(8, thread_name_prefix="engine")

    # Traits of the base class, of which mypy knows nothing.
    object_id: Any
    extra_host_config: Any

    idle_timeout = Float(600.0, config=True, help="Seconds after which a session ends that nobody uses.")
    allow_origin = Unicode("", config=True, help="The origin whose pages may call sessions; empty = any by token.")
    session_user = Unicode("1000", config=True, help="Who runs in the container, by number.")
    session_label = Unicode("", config=True, help="A label that all sessions of this member bear (name=value).")
    pids_limit = Integer(512, config=True, help="Processes and threads of one session.")
    max_age = Float(0.0, config=True, help="Seconds after which a session ends in any case; 0 = never.")
    lab_extension = Dict(config=True, help="Files of the extension that warns of that; {{ENDS_AT}} is put in.")

    async def check_allowed(self, image: str) -> str:
        """Any image: launches come from the member alone, which names what it has built."""
        return image

    async def get_command(self) -> list[str]:
        """JupyterLab, or what the image has; nothing secret, since every process can read an argv."""
        command = image_command(self.port, base_url(self), idle_s=self.idle_timeout, allow_origin=self.allow_origin)
        if not self.max_age:
            return command
        ends_at = str(round(time.time() + self.max_age))
        return with_extension(
            command, {path: text.replace("{{ENDS_AT}}", ends_at) for path, text in self.lab_extension.items()}
        )

    def get_env(self) -> dict[str, str]:
        """What a session is to know, and nothing of the Hub's."""
        return session_environ(self.user_options) | {"JUPYTER_IMAGE": self.image, "JUPYTER_IMAGE_SPEC": self.image}

    async def start(self) -> Any:
        """Start the session, and wait until it answers; raises a 400 where image or token is missing."""
        check_options(self.user_options)
        label, _, value = self.session_label.partition("=")
        self.extra_create_kwargs = {"user": self.session_user, "labels": {label: value} if label else {}}
        self.extra_host_config = {
            "pids_limit": self.pids_limit,
            # Swap counts too, or memory has no limit.
            "memswap_limit": self.mem_limit,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "ulimits": _ulimits(),
            **self.extra_host_config,
        }
        try:
            address = await super().start()
            await self._until_it_answers(*address)
        except BaseException:
            with contextlib.suppress(APIError):
                await asyncio.shield(self._remove_now())
            raise
        return address

    async def poll(self) -> Any:
        """As the base class says; what has ended by itself is removed."""
        status = await super().poll()
        if status is not None and self.object_id:
            with contextlib.suppress(APIError):
                await self._remove_now()
        return status

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 - the base class's signature
        """End and remove the container; Jupyter keeps nothing that a slow end would save."""
        with contextlib.suppress(APIError):
            await self.docker("stop", self.container_id, timeout=3)
        await self._remove_now()
        self.clear_state()

    async def progress(self) -> AsyncGenerator[dict[str, Any], None]:
        """What a visitor is told while the server starts."""
        yield {"progress": 50, "message": "Starting the notebook server..."}

    async def _remove_now(self) -> None:
        if self.object_id:
            identifier, self.object_id = self.object_id, ""
            await self.docker("remove_container", identifier, v=True, force=True)

    async def _until_it_answers(self, host: str, port: int) -> None:
        """Wait for Jupyter itself: the engine listens at the port long before; raises if the session ends first."""
        while True:
            container = await self.get_object()
            if container is None:
                raise SessionEndedError("unknown")
            if not container["State"]["Running"]:
                raise SessionEndedError(container["State"].get("ExitCode"), await self._last_words())
            if await answers(f"http://{host}:{port}{base_url(self)}"):
                return
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _last_words(self) -> str:
        with contextlib.suppress(APIError):
            said = await self.docker("logs", self.container_id, tail=_SHOWN_LINES)
            return " ".join(said.decode(errors="replace").split())[-_SHOWN:]
        return ""


def with_extension(command: list[str], files: Mapping[str, str]) -> list[str]:
    """A session's command that has JupyterLab load an extension, whose files come in the command itself."""
    pairs = [word for item in files.items() for word in item]
    return ["/bin/sh", "-c", _WITH_EXTENSION, "jupyter", *pairs, "--", *command]


def _ulimits() -> list[dict[str, Any]]:
    """Limits that this machine can grant: an engine's own defaults may be above what it can.

    Processes are counted by user over all sessions, so that only ``pids_limit`` limits those of one.
    """
    found = []
    wanted = (("nofile", resource.RLIMIT_NOFILE, _MAX_FILES), ("nproc", resource.RLIMIT_NPROC, _MAX_PROCESSES))
    for name, kind, most in wanted:
        _, hard = resource.getrlimit(kind)
        granted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        found.append({"Name": name, "Soft": granted, "Hard": granted})
    return found
