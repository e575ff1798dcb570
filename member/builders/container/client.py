"""What the member asks of a container engine, through the API that Docker has and Podman speaks too.

Source: Docker Engine API, and docker-py, whose calls block: each runs in a thread, with a deadline of its own.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests.exceptions
from docker.errors import APIError, DockerException, NotFound

from contract.json_types import loads_object
from member.builders.container.endpoint import Endpoint

T = TypeVar("T")

#: Seconds for one question; a transfer may pause for as long.
_TIMEOUT_S = 60.0

#: Seconds for the question whether it is there.
_PING_S = 4.0


class EngineError(Exception):
    """The engine did not do what it was asked; the text is a sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """For a registry."""

    username: str
    password: str


@dataclass(frozen=True, slots=True)
class About:
    """What an engine says of itself; ``root`` is a directory on the file system that its images are on.

    ``unlimited`` is what it cannot limit; ``groups``: whether it can make a control group that is named to it.
    """

    root: Path
    systemd: bool
    unlimited: tuple[str, ...] = ()
    groups: bool = True


class EngineClient:
    """Talks to one engine."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    async def version(self) -> str:
        """The engine's version; raises :class:`EngineError`."""
        answer = await self._ask(lambda api: api.version(), timeout_s=_PING_S)
        return f"{self.endpoint.engine} {answer.get('Version', 'of an unknown version')}"

    async def about(self) -> "About":
        """Where it keeps images, and how it manages control groups; raises :class:`EngineError`."""
        info = await self._ask(lambda api: api.info())
        host = await self._ask(_podman_host) if self.endpoint.engine == "podman" else None
        root = Path(str(info.get("DockerRootDir") or "/"))
        # An engine may say a directory of another machine, or one that we may not see.
        there = await asyncio.to_thread(root.is_dir)
        systemd = info.get("CgroupDriver") == "systemd"
        # A user makes groups only by systemd, and none on version 1.
        groups = not _for_a_user(info) or (systemd and str(info.get("CgroupVersion")) != "1")
        return About(root if there else Path("/"), systemd, unlimited(info, host), groups)

    async def image(self, name: str) -> Mapping[str, Any] | None:
        """An image as the engine describes it; ``None`` if it is not there.  Raises :class:`EngineError`."""
        return await self._ask(_unless_there_is_none(lambda api: dict(api.inspect_image(name))))

    async def images(self, label: str) -> Sequence[Mapping[str, Any]]:
        """The images that bear a label."""
        return list(await self._ask(lambda api: api.images(filters={"label": label})))

    async def remove_image(self, name: str) -> bool:
        """Remove an image; ``False`` if a container uses it."""
        try:
            await self._ask(_unless_there_is_none(lambda api: api.remove_image(name)))
        except EngineError as error:
            if isinstance(error.__cause__, APIError) and error.__cause__.status_code == 409:
                return False
            raise
        return True

    async def remove_untagged(self, older_than: str) -> None:
        """Remove images without a name that are older than ``1h``, say: what builds have left that failed."""
        await self._ask(lambda api: api.prune_images(filters={"dangling": True, "until": older_than}))

    async def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        repository, _, tag = name.rpartition(":")
        await self._ask(lambda api: api.tag(image, repository, tag))

    async def containers(self, label: str, *, sizes: bool = False) -> Sequence[Mapping[str, Any]]:
        """The containers that bear a label, those that have ended too; ``SizeRw`` is what each has written."""
        return list(await self._ask(lambda api: api.containers(all=True, size=sizes, filters={"label": label})))

    async def used_images(self) -> set[str]:
        """The identifiers of images that any container has been made from."""
        return {bare(str(item.get("ImageID", ""))) for item in await self._ask(lambda api: api.containers(all=True))}

    async def remove_container(self, identifier: str) -> None:
        """End and remove a container."""
        await self._ask(_unless_there_is_none(lambda api: api.remove_container(identifier, v=True, force=True)))

    async def ensure_network(self, name: str, label: str) -> None:
        """Make a network for sessions, unless it is there: its containers are reached, and do not reach each other."""
        options = {"com.docker.network.bridge.enable_icc": "false"} if self.endpoint.engine == "docker" else {}

        def make(api: docker.APIClient) -> None:
            if not any(network["Name"] == name for network in api.networks(names=[name])):
                api.create_network(name, driver="bridge", options=options, labels={label: ""})

        await self._ask(make)

    def pull(self, name: str, credentials: Credentials | None) -> AsyncGenerator[str, None]:
        """Pull an image; yields what the engine tells.  Raises :class:`EngineError`."""
        return self._transfer(lambda api, **options: api.pull(name, **options), credentials)

    def push(self, name: str, credentials: Credentials | None) -> AsyncGenerator[str, None]:
        """Push an image; yields what the engine tells.  Raises :class:`EngineError`."""
        return self._transfer(lambda api, **options: api.push(name, **options), credentials)

    async def _transfer(
        self, start: Callable[..., Iterator[bytes]], credentials: Credentials | None
    ) -> AsyncGenerator[str, None]:
        auth = {"username": credentials.username, "password": credentials.password} if credentials else {}
        with _sentences(), contextlib.closing(self._client(_TIMEOUT_S)) as api:
            stream = await asyncio.to_thread(lambda: iter(start(api, stream=True, decode=False, auth_config=auth)))
            while (chunk := await asyncio.to_thread(next, stream, None)) is not None:
                for line in chunk.splitlines():
                    if said := _progress(line):
                        yield said

    async def _ask(self, question: Callable[[docker.APIClient], T], timeout_s: float = _TIMEOUT_S) -> T:
        def ask() -> T:
            with contextlib.closing(self._client(timeout_s)) as api:
                return question(api)

        with _sentences():
            return await asyncio.to_thread(ask)

    def _client(self, timeout_s: float) -> docker.APIClient:
        # The version is not negotiated: that would be a question before each question.
        return docker.APIClient(base_url=self.endpoint.url, timeout=timeout_s, version="1.40")


def unlimited(info: Mapping[str, Any], host: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """What an engine cannot limit, by what it answers at ``/info``; ``host`` is what ``podman info`` says of that.

    Source: Docker Engine API, ``SystemInfo``; Podman's ``/libpod/info``.  At ``/info`` Podman says what the kernel
    could.  It ignores limits where it runs for a user on control groups of version 1; on version 2 a user has the
    controllers that systemd delegates, on some systems without CPU, and a container that asks for more does not start.
    """
    none_at_all = _for_a_user(info) and str(info.get("CgroupVersion")) == "1"
    controllers = [] if none_at_all else (host or {}).get("cgroupControllers")
    known = {"memory": ("memory", "MemoryLimit"), "pids": ("processes", "PidsLimit"), "cpu": ("CPU", "CpuCfsQuota")}
    return tuple(
        word
        for controller, (word, key) in known.items()
        if info.get(key) is False or (isinstance(controllers, list) and controller not in controllers)
    )


def _for_a_user(info: Mapping[str, Any]) -> bool:
    return info.get("Rootless") is True or "name=rootless" in (info.get("SecurityOptions") or ())


def podman_lacks() -> tuple[str, ...]:
    """What this machine's Podman cannot limit, while nobody serves it; raises :class:`EngineError`."""
    try:
        said = subprocess.run(
            ["podman", "info", "--format", "json"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        ).stdout
        return unlimited({}, loads_object(said).get("host"))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise EngineError(f"podman info does not say what it can limit: {error}") from error


def cannot_limit(what: Sequence[str]) -> str:
    """A sentence for the operator."""
    lacks = " or ".join(what)
    return f"the container engine cannot limit {lacks} here: a session takes what there is, or does not start"


def bare(identifier: str) -> str:
    """An identifier without what only some engines put before it."""
    return identifier.removeprefix("sha256:")


def _podman_host(api: docker.APIClient) -> Mapping[str, Any]:
    """What ``podman info`` says of its host; nothing where it is too old to be asked."""
    response = api.get(f"{api.base_url}/v4.0.0/libpod/info", timeout=_TIMEOUT_S)
    host = response.json().get("host") if response.ok else None
    return host if isinstance(host, dict) else {}


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Turn what docker-py raises into :class:`EngineError`."""
    try:
        yield
    except APIError as error:
        said = " ".join(str(error.explanation or error).split())
        raise EngineError(f"the container engine refused: {said}") from error
    except requests.exceptions.Timeout as error:
        raise EngineError("the container engine did not answer in time") from error
    except (DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineError(f"the container engine does not answer: {error}") from error


def _unless_there_is_none(question: Callable[[docker.APIClient], T]) -> Callable[[docker.APIClient], T | None]:
    def ask(api: docker.APIClient) -> T | None:
        try:
            return question(api)
        except NotFound:
            return None

    return ask


def _progress(line: bytes) -> str:
    """What one line of a transfer tells people; raises :class:`EngineError` if it is that it failed."""
    try:
        told = loads_object(line)
    except ValueError:
        return ""
    if told.get("error"):
        raise EngineError(str(told["error"]))
    parts = [str(told[name]) for name in ("id", "status", "progress") if told.get(name)]
    return " ".join(parts) or str(told.get("stream", "")).strip()
