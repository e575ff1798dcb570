"""Images in registries: what others have built is pulled instead of built again, what is built here is pushed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable

import aiohttp

from contract.events import Failure, Phase, event
from contract.reports import Check
from member.builders.base import BuildFailedError
from member.builders.container.client import Credentials, EngineClient, EngineError
from member.builders.relay import Tell
from member.clients.registry import Registry, RegistryError
from member.clients.registry_credentials import source
from member.registry_settings import OwnRegistrySettings
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds between questions to another member's registry that did not answer; no build waits for it meanwhile.
ASK_AGAIN_S = 30.0

#: Lines of a transfer that a visitor is told: each layer tells many.
_TOLD_EVERY = 50


class Sharing:
    """The registries of one member; :func:`check_sources` has been called.

    ``prefix`` begins the names of this member's images, the registry included.
    """

    def __init__(
        self,
        settings: OwnRegistrySettings,
        prefix: str,
        client: EngineClient,
        http: aiohttp.ClientSession,
        tasks: Tasks,
    ) -> None:
        self._settings, self._prefix, self._client, self._tasks = settings, prefix, client, tasks
        self._own = Registry(http, settings, source(settings))
        self._others = [(Registry(http, other, source(other)), other.image_prefix) for other in settings.read_from]
        self._there: set[str] = set()
        """Images of which we know that our registry has them."""
        self._silent: set[Registry] = set()
        """Others that did not answer when they were last asked."""

    def registry_of(self, image: str) -> str | None:
        """The registry that has an image of ours, as far as is known."""
        return self._own.host if image in self._there else None

    async def fetch(self, image: str, tell: Tell) -> bool:
        """Have the engine pull an image from where it is; whether it was anywhere.

        Raises :class:`BuildFailedError` if our own registry cannot say: to build then would be to build for nothing.
        """
        own = image.removeprefix(f"{self._own.host}/")
        try:
            if await self._own.exists(own):
                await self._pull(self._own, image, tell)
                self._there.add(image)
                return True
        except (RegistryError, EngineError) as error:
            raise BuildFailedError(Failure.MEMBER, f"Nothing can be built here now: {error}.") from error
        async with contextlib.aclosing(self._elsewhere(image)) as places:
            async for registry, name in places:
                try:
                    await self._pull(registry, f"{registry.host}/{name}", tell)
                    await self._client.tag(f"{registry.host}/{name}", image)
                except (RegistryError, EngineError) as error:
                    logger.warning("an image is not had from elsewhere: %s", error)
                else:
                    return True
        return False

    async def _elsewhere(self, image: str) -> AsyncGenerator[tuple[Registry, str], None]:
        """The others' registries that have an image, and its name there, as they say so.

        All are asked at once: one that is slow or broken keeps nobody from the others.
        """
        asked: dict[asyncio.Task[bool], tuple[Registry, str]] = {}
        for registry, prefix in self._others:
            if registry in self._silent:
                continue
            name = prefix + image.removeprefix(self._prefix)
            asked[asyncio.create_task(registry.exists(name), name=f"ask {registry.host}")] = registry, name
        waiting = set(asked)
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=list(asked).index):
                    if (error := task.exception()) is None and task.result():
                        yield asked[task]
                    elif isinstance(error, RegistryError):
                        logger.warning("an image is not had from elsewhere: %s", error)
                        self._ask_again(*asked[task])
                    elif error is not None:
                        raise error
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    def _ask_again(self, registry: Registry, name: str) -> None:
        """Ask what was not answered until it is, and leave the registry alone meanwhile."""

        async def until_answered() -> None:
            while registry in self._silent:
                await asyncio.sleep(ASK_AGAIN_S)
                with contextlib.suppress(RegistryError):
                    await registry.exists(name)
                    self._silent.discard(registry)

        if registry not in self._silent:
            self._silent.add(registry)
            self._tasks.spawn(f"ask {registry.host} again", until_answered())

    async def push(self, image: str, tell: Tell) -> None:
        """Push a new image; one that cannot be pushed serves here all the same, and is pushed later."""
        if not self._settings.push:
            return
        await tell(event(Phase.PUSHING, f"Pushing the image to {self._own.host}\n"))
        try:
            await self._push(image, tell)
        except (RegistryError, EngineError) as error:
            logger.warning("the image %s is not pushed: %s", image, error)
            await tell(event(Phase.PUSHING, f"The image could not be pushed; it serves here only, for now: {error}\n"))

    async def push_missing(self, images: Iterable[str]) -> None:
        """Push what our registry has not got, until something goes wrong."""
        if not self._settings.push:
            return
        try:
            for image in images:
                if image in self._there:
                    continue
                if await self._own.exists(image.removeprefix(f"{self._own.host}/")):
                    self._there.add(image)
                else:
                    await self._push(image, _nobody)
                    logger.info("pushed the image %s", image)
        except (RegistryError, EngineError) as error:
            logger.warning("images are not pushed: %s", error)

    async def check(self) -> Check:
        """Whether our registry answers."""
        try:
            await self._own.check()
        except RegistryError as error:
            return Check("Docker registry", False, str(error))
        return Check("Docker registry", True)

    async def _push(self, image: str, tell: Tell) -> None:
        credentials = await self._own.credentials()
        told = 0
        async for line in self._client.push(image, Credentials(*credentials) if credentials else None):
            if told % _TOLD_EVERY == 0:
                await tell(event(Phase.PUSHING, line + "\n"))
            told += 1
        # Some engines end the answer without a word on what went wrong.
        if not await self._own.exists(image.removeprefix(f"{self._own.host}/")):
            raise RegistryError(f"the registry {self._own.host} has not got what was pushed")
        self._there.add(image)

    async def _pull(self, registry: Registry, name: str, tell: Tell) -> None:
        await tell(event(Phase.FETCHING, f"The image is at {registry.host}; pulling it\n"))
        credentials = await registry.credentials()
        told = 0
        async for line in self._client.pull(name, Credentials(*credentials) if credentials else None):
            if told % _TOLD_EVERY == 0:
                await tell(event(Phase.FETCHING, line + "\n"))
            told += 1
        if await self._client.image(name) is None:
            raise EngineError(f"the container engine did not pull {name}")


def check_sources(settings: OwnRegistrySettings) -> None:
    """Raise ``ValueError`` where settings want a library that is missing."""
    for registry in (settings, *settings.read_from):
        source(registry)


async def _nobody(_: object) -> None:
    """Nobody is told."""
