"""Starts sessions as pods: KubeSpawner, with what a Binder's sessions have.

For a cluster's Hub (zero-to-jupyterhub), which gets this file, those of :mod:`member.hub` that it imports and
:mod:`member.hub.z2jh_config` through its ``hub.extraFiles``: they import what its image holds, and nothing else.
What BinderHub's spawner of this name is configured with, this one takes too.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubespawner import KubeSpawner
from traitlets import Bool, Float, Unicode

from member.hub import ended
from member.hub.binder import (
    OF_THE_HUB,
    SessionError,
    answers,
    base_url,
    check_options,
    image_command,
    session_environ,
    singleuser_environ,
)

#: Seconds between two looks at a session that starts.
_LOOK_EVERY_S = 0.5

#: So many seconds before its time to start is over, but not before half of it, who waits is told what it waits for:
#: then the Hub's own clock says no more than that it is over.
_TOLD_BEFORE_S = 5.0

#: Seconds for which a node may lack a Secret that was made just now.
_NODE_PATIENCE_S = 30.0

_MAX_WORDS = 300

_REMOVED = "The session was removed from the cluster while it started."

#: Why a container waits (the kubelet's reasons).
_WAITS_FOR_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "RegistryUnavailable",
    "SignatureValidationFailed",
    "ImageInspectError",
)
_NO_IMAGE = ("InvalidImageName", "ErrImageNeverPull")
_WAITS_FOR_NODE = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True)
class Trouble:
    """Why a session does not start: a sentence, and the seconds after which nobody hopes (``None``: to the end)."""

    message: str
    patience_s: float | None = 0.0


def trouble(pod: Mapping[str, Any], pull_timeout_s: float) -> Trouble | None:
    """What keeps a session from starting, by its pod; ``None`` where nothing does.

    Source: kubernetes.io, "Pod Lifecycle", "Node-pressure Eviction"; the kubelet's reasons.
    """
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return Trouble(_REMOVED)
    containers: list[Mapping[str, Any]] = status.get("containerStatuses") or []
    container = next((item for item in containers if item.get("name") == "notebook"), {})
    state = container.get("state") or {}
    # A container that has ended is started once more, to end again.
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    if status.get("reason"):
        return Trouble(f"The session's node gave it up ({_words(status['reason'], status.get('message'))}).")
    if ended:
        if ended.get("reason") == "OOMKilled":
            return Trouble("The session needed more memory than it may have while it started.")
        said = " ".join(str(ended.get("message") or "").split())[-_MAX_WORDS:]
        return Trouble(
            f"The session ended while it started (exit status {ended.get('exitCode')}).{said and f' {said}'}"
        )
    if waiting := state.get("waiting"):
        return _waits(str(waiting.get("reason")), waiting.get("message"), pull_timeout_s)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = _words(condition.get("message") or condition.get("reason"))
            return Trouble(f"No node of the cluster has room for the session ({said}).", None)
    return None


def _waits(reason: str, message: str | None, pull_timeout_s: float) -> Trouble:
    said = f"({_words(reason, message)})."
    if reason in _WAITS_FOR_IMAGE:
        return Trouble(f"The session's image cannot be pulled {said}", pull_timeout_s)
    if reason in _NO_IMAGE:
        return Trouble(f"The session's image cannot be used {said}")
    if reason in _WAITS_FOR_NODE:
        return Trouble(f"The session's node cannot start its container {said}", _NODE_PATIENCE_S)
    return Trouble(f"The session's node is still preparing it {said}", None)


class BinderSpawner(KubeSpawner):  # type: ignore[misc]  # it ships no types
    """One session, one pod."""

    # Traits of the base class, of which mypy knows nothing.
    extra_container_config: Any

    idle_timeout = Float(600.0, config=True, help="Seconds after which a session ends that nobody uses.")
    auth_enabled = Bool(False, config=True, help="Whether people log in, and sessions are theirs, as in BinderHub.")
    cors_allow_origin = Unicode("", config=True, help="The origin whose pages may call sessions; empty = any by token.")
    pull_timeout = Float(60.0, config=True, help="Seconds for which no node may be able to pull a session's image.")

    def get_args(self) -> list[str]:
        """Nothing: the command has all."""
        return []

    def get_env(self) -> dict[str, str]:
        """What an operator gives all sessions, and what a session is to know; of the Hub's, what is for it."""
        given: dict[str, str] = super().get_env()
        if self.auth_enabled:
            return given | _literal(singleuser_environ(self.user_options, given))
        of_the_operator = {name: value for name, value in given.items() if not name.startswith(OF_THE_HUB)}
        return of_the_operator | _literal(session_environ(self.user_options))

    def run_pre_spawn_hook(self) -> Any:
        """Do what an operator's hook does, besides what the page of ended sessions needs."""
        ended.remember(self)
        return super().run_pre_spawn_hook()

    async def start(self) -> Any:
        """Start the session, and wait until it answers.

        Raises a 400 where image or token is missing, and :class:`member.hub.binder.SessionError` once it is clear that
        the session will not start.
        """
        check_options(self.user_options)
        self.image = self.user_options["image"]
        self.cmd = image_command(
            self.port,
            base_url(self),
            idle_s=self.idle_timeout,
            allow_origin=self.cors_allow_origin,
            singleuser=self.auth_enabled,
        )
        # The last that a session has said before it ended stands in its pod's status, which the Hub may read.
        self.extra_container_config = {
            "terminationMessagePolicy": "FallbackToLogsOnError",
            **self.extra_container_config,
        }
        starting = asyncio.ensure_future(self._until_it_answers())
        watching = asyncio.ensure_future(self._until_hope_is_lost())
        try:
            await asyncio.wait((starting, watching), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                watching.result()
            return await starting
        finally:
            for task in (starting, watching):
                task.cancel()
            await asyncio.gather(starting, watching, return_exceptions=True)

    async def _until_it_answers(self) -> str:
        address = str(await super().start())
        while True:
            if await answers(f"{address}{base_url(self)}"):
                return address
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _until_hope_is_lost(self) -> None:
        """Watch what becomes of the pod; raises :class:`SessionError`."""
        end = time.monotonic() + max(self.start_timeout - _TOLD_BEFORE_S, self.start_timeout / 2)
        found: Trouble | None = None
        since, was_there = time.monotonic(), False
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            pods = self.pod_reflector.pods if self.pod_reflector else {}
            pod = pods.get(f"{self.namespace}/{self.pod_name}")
            if pod is None and was_there:
                raise SessionError(_REMOVED)
            was_there = pod is not None
            before, now = found, time.monotonic()
            found = trouble(pod, self.pull_timeout) if pod else None
            # A registry that fails does so under more than one name.
            if found is None or before is None or found.patience_s != before.patience_s:
                since = now
            if found and found.patience_s is not None and now - since >= found.patience_s:
                raise SessionError(found.message)
            # Of a pod that nobody has seen the Hub itself says so: it may be the Hub that does not see.
            if pod and now > end:
                words = found.message if found else "The session runs, and does not answer."
                raise SessionError(f"{words} It was waited for during {round(self.start_timeout)} seconds.")


def _literal(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Variables as a manifest has them: what a visitor gives stays as it is, for the kubelet fills in ``$(NAME)``."""
    return {name: value.replace("$", "$$") if isinstance(value, str) else value for name, value in environ.items()}


def _words(*parts: Any) -> str:
    text = ": ".join(" ".join(str(part).split()).rstrip(".") for part in parts if part)
    return text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…"
