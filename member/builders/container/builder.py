"""The container builder, as the member sees it (:class:`member.builders.base.Builder`)."""

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import aiohttp
import psutil

from contract.events import BuildEvent, Failure
from contract.reports import Check
from member.builder_settings import watermark_value
from member.builders import machine
from member.builders.base import BuildFailedError, BuildRequest, BuiltImage, Resources
from member.builders.container import endpoint as endpoints
from member.builders.container import groups, repo2docker
from member.builders.container.client import EngineClient, EngineError, cannot_limit
from member.builders.container.images import Disk, Held, UsedTimes, Watermarks, held, surplus
from member.builders.container.kind import own_settings
from member.builders.container.sessions import Sessions
from member.builders.container.sharing import Sharing, check_sources
from member.builders.container.words import why
from member.builders.relay import Tell, relay
from member.confine import warden
from member.confine.confinement import Confinement, detect
from member.confine.ending import to_its_end
from member.confine.files import remove_tree, remove_tree_async
from member.confine.limits import LimitExceededError, Limits
from member.core.repo2docker_log import Repo2dockerLog
from member.settings import MemberSettings
from providers.credentials import git_credentials
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds that a list of images is told again: the engine is slow to count them.
_FRESH_S = 10.0

#: Seconds that a member waits at its start for the engine, which may be starting too.
_START_S = 60.0


class ContainerBuilder:
    """See the package."""

    kind = "container"
    confined = True

    def __init__(self, settings: MemberSettings) -> None:
        self._settings, self._own = settings, own_settings(settings)
        self._data_dir = settings.data_dir
        self._used = UsedTimes(settings.data_dir / "engine" / "used")
        self._tasks = Tasks()
        self._images: Sequence[Held] = ()
        self._images_at = float("-inf")
        self._engine: repo2docker.Engine | None = None
        self._client: EngineClient | None = None
        self._confinement: Confinement | None = None
        self._sharing: Sharing | None = None
        self._http: aiohttp.ClientSession | None = None
        self._systemd = False
        self._unlimited: tuple[str, ...] = ()
        self._disk = settings.data_dir

    @property
    def confinement_reason(self) -> str:
        """What confines."""
        return f"confined by {self._ready().endpoint.engine}'s containers"

    @property
    def info(self) -> Mapping[str, str]:
        """Whose rules it reads repositories by."""
        return {"repo2docker-version": version("jupyter-repo2docker")}

    async def start(self) -> None:
        """Find the engine, and clear away what a crash left; raises ``RuntimeError`` with a sentence."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        try:
            found = await self._find()
            client = EngineClient(found)
            await self._until_it_answers(client)
            about = await client.about()
            self._disk, self._systemd, self._unlimited = about.root, about.systemd, about.unlimited
            plugin = await asyncio.to_thread(repo2docker.plugin, found)
        except (OSError, EngineError) as error:
            raise RuntimeError(str(error)) from error
        if self._settings.registry is not None:
            # Before the session, which somebody would have to close.
            check_sources(self._settings.registry)
        self._confinement = await asyncio.to_thread(detect, self._data_dir, "auto")
        self._engine, self._client = repo2docker.Engine(found, plugin, about.unlimited, about.groups), client
        if self._settings.registry is not None:
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
            own = self._settings.registry
            self._sharing = Sharing(own, self._settings.image_prefix, client, self._http, self._tasks)
        if left := await asyncio.to_thread(groups.end_all, self._settings.name):
            logger.info("ended %d processes of builds that an earlier run has left", left)
        await asyncio.to_thread(_clear, self._builds_dir)
        logger.info("builds with %s at %s", await client.version(), found.url)
        logger.info("the engine does not limit what sessions write: the member looks once a minute")
        if self._unlimited:
            logger.warning(cannot_limit(self._unlimited))

    async def close(self) -> None:
        """End builds."""
        await self._tasks.close()
        if self._http is not None:
            await self._http.close()

    async def has_image(self, image: str) -> bool:
        """Whether the engine holds it; it then counts as just used."""
        try:
            found = await self._ask().image(image) is not None
        except EngineError as error:
            raise BuildFailedError(Failure.MEMBER, f"{error}.") from error
        if found:
            await asyncio.to_thread(self._used.touch, image)
        return found

    async def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """See :meth:`member.builders.base.Builder.build`."""
        if await self.has_image(request.image):
            return

        async def job(tell: Tell) -> BuildFailedError | None:
            try:
                if self._sharing is not None and await self._sharing.fetch(request.image, tell):
                    return None
            except BuildFailedError as error:
                return error
            failed = await self._repo2docker(request, tell)
            if failed is None and self._sharing is not None:
                await self._sharing.push(request.image, tell)
            return failed

        async with contextlib.aclosing(relay(self._tasks, f"build {request.image[-60:]}", job)) as events:
            async for item in events:
                yield item
        if not await self.has_image(request.image):
            raise BuildFailedError(Failure.MEMBER, "repo2docker ended well, and the engine has no image of it.")
        self._images_at = float("-inf")

    async def images(self) -> Sequence[BuiltImage]:
        """What the engine holds of ours, the most recently used first; as it was last known while it is away."""
        registry_of = self._sharing.registry_of if self._sharing else lambda _: None
        return [replace(image.built, registry=registry_of(image.built.image)) for image in await self._held()]

    async def clean(self) -> None:
        """Remove old images by watermarks and age, and what sessions have left behind; push what is not yet pushed."""
        client = self._ask()
        try:
            await self._sessions().clean()
            images = await self._held(fresh=True)
            own = self._own
            relative = own.images_high.endswith("%")
            marks = Watermarks(
                watermark_value(own.images_high), watermark_value(own.images_low), relative, own.images_max_age
            )
            usage = await asyncio.to_thread(psutil.disk_usage, str(self._disk))
            doomed = surplus(images, await client.used_images(), marks, Disk(usage.used, usage.total), time.time())
            for image in doomed:
                if await client.remove_image(image.built.image):
                    await asyncio.to_thread(self._used.forget, image.built.image)
                    logger.info("removed the image %s", image.built.image)
            if self._sharing is not None:
                await self._sharing.push_missing(one.built.image for one in images if one not in doomed)
            if doomed:
                await client.remove_untagged(older_than="1h")
        except EngineError as error:
            logger.warning("cannot clean up: %s", error)
        self._images_at = float("-inf")

    async def checks(self) -> Sequence[Check]:
        """Whether the engine answers, and the registry."""
        asked = [self._engine_check(), *([self._sharing.check()] if self._sharing else [])]
        return await asyncio.gather(*asked)

    async def resources(self) -> Resources:
        """Those of this machine, with the disk that images are on."""
        return await machine.resources(self._disk)

    async def _engine_check(self) -> Check:
        try:
            version = await self._ask().version()
            lacks = f", without limits of {' or '.join(self._unlimited)}" if self._unlimited else ""
            return Check("Builder", True, f"{version}{lacks}")
        except EngineError as error:
            return Check("Builder", False, str(error))

    @property
    def _builds_dir(self) -> Path:
        return self._data_dir / "engine" / "builds"

    def _ready(self) -> repo2docker.Engine:
        if self._engine is None:
            raise RuntimeError("the builder was not started")
        return self._engine

    def _ask(self) -> EngineClient:
        if self._client is None:
            raise RuntimeError("the builder was not started")
        return self._client

    def _sessions(self) -> Sessions:
        return Sessions(self._ask(), self._settings)

    async def _held(self, *, fresh: bool = False) -> Sequence[Held]:
        if fresh or time.monotonic() - self._images_at > _FRESH_S:
            try:
                listed = await self._ask().images(repo2docker.LABEL_REPO)
            except EngineError as error:
                if fresh:
                    raise
                logger.debug("cannot list images: %s", error)
            else:
                self._images = await asyncio.to_thread(held, listed, self._settings.image_prefix, self._used)
            self._images_at = time.monotonic()
        return self._images

    async def _find(self) -> endpoints.Endpoint:
        chosen = endpoints.read(self._data_dir) if self._settings.hub.managed else None
        if chosen is not None:
            return chosen
        return await asyncio.to_thread(endpoints.find, self._own, self._data_dir)

    async def _until_it_answers(self, client: EngineClient) -> None:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                await client.version()
            except EngineError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)
            else:
                return

    async def _repo2docker(self, request: BuildRequest, tell: Tell) -> BuildFailedError | None:
        """Run it; returns why it failed."""
        engine, confinement = self._ready(), self._confinement
        if confinement is None:
            raise AssertionError("the builder was started")
        group = groups.new_group(self._settings.name, systemd=self._systemd)
        self._builds_dir.mkdir(parents=True, exist_ok=True)
        place = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._builds_dir))
        log = Repo2dockerLog()

        async def on_line(line: str) -> None:
            await tell(log.read(line))

        try:
            own = self._own
            limits = Limits(own.memory, own.processes, own.disk, deadline_s=own.timeout)
            argv = repo2docker.arguments(request, engine, own, group)
            credentials = git_credentials(request.provider, request.repo_url, self._settings.providers)
            command = repo2docker.command(confinement, engine, place, argv, limits, credentials=credentials)
            status = await warden.run(command, on_line)
        except LimitExceededError as error:
            return BuildFailedError(Failure.USER, f"The build was ended: {error}.")
        except OSError as error:
            logger.exception("repo2docker could not be run")
            return BuildFailedError(Failure.MEMBER, f"The member could not build: {error.strerror or error}.")
        finally:
            await to_its_end(self._clear_away(group, place))
        return why(status, log, await self._trouble()) if status else None

    async def _trouble(self) -> str:
        """What is wrong with this member, so that a build that has failed may go well elsewhere."""
        try:
            await self._ask().version()
        except EngineError as error:
            return str(error)
        free = (await asyncio.to_thread(psutil.disk_usage, str(self._disk))).free
        # What a build has filled is free again by now.
        return "this member is short of disk" if free < self._settings.sessions.min_free_disk else ""

    async def _clear_away(self, group: str, place: Path) -> None:
        if ended := await asyncio.to_thread(groups.end, group):
            logger.info("ended %d processes of a build that was given up", ended)
        with contextlib.suppress(OSError):
            await remove_tree_async(place)


def _clear(directory: Path) -> None:
    for path in directory.glob("*"):
        with contextlib.suppress(OSError):
            remove_tree(path)
