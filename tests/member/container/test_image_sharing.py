"""Images at other members' registries (``registry.read_from``): used, not built; whoever is broken is passed over."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from contract.events import BuildEvent, Failure
from member.builders.base import BuildFailedError
from member.builders.container import sharing as sharing_module
from member.builders.container.client import Credentials, EngineError
from member.builders.container.sharing import Sharing
from member.registry_settings import OwnRegistrySettings
from servicekit.tasks import Tasks
from tests.fakes.oci_registry import OCI, FakeRegistry

NAME = "repo-abc123:c0ffee"


class Engine:
    """As much of an engine as moves images: by what registries really hold."""

    def __init__(self) -> None:
        self.registries: dict[str, FakeRegistry] = {}
        self.held: set[str] = set()
        self.broken = False
        self.silent = False
        """It pushes nothing, and says nothing of it."""

    async def image(self, name: str) -> Mapping[str, Any] | None:
        return {"Id": name} if name in self.held else None

    async def tag(self, image: str, name: str) -> None:
        assert image in self.held
        self.held.add(name)

    async def pull(self, name: str, _: Credentials | None) -> AsyncGenerator[str, None]:
        yield "pulling"
        if self.broken:
            raise EngineError("the engine cannot pull")
        host, _, rest = name.partition("/")
        if rest in self.registries[host].manifests:
            self.held.add(name)

    async def push(self, name: str, _: Credentials | None) -> AsyncGenerator[str, None]:
        yield "pushing"
        if self.broken:
            raise EngineError("the engine cannot push")
        if self.silent:
            return
        host, _, rest = name.partition("/")
        self.registries[host].manifests[rest] = OCI


class Site:
    """A member with a registry of its own, and two others'."""

    def __init__(
        self, own: FakeRegistry, one: FakeRegistry, two: FakeRegistry, http: aiohttp.ClientSession, tasks: Tasks
    ) -> None:
        self.own, self.one, self.two, self.engine = own, one, two, Engine()
        self.engine.registries = {registry.url.removeprefix("http://"): registry for registry in (own, one, two)}
        others = [{"url": one.url, "timeout": "60s"}, {"url": two.url, "image_prefix": "theirs-", "timeout": "60s"}]
        settings = OwnRegistrySettings.model_validate({"url": own.url, "read_from": others})
        self.prefix = f"{settings.host}/manybinder-"
        self.image = f"{self.prefix}{NAME}"
        self.told: list[BuildEvent] = []
        self.sharing = Sharing(settings, self.prefix, self.engine, http, tasks)  # type: ignore[arg-type]

    async def fetch(self) -> bool:
        async with asyncio.timeout(50):
            return await self.sharing.fetch(self.image, self._tell)

    async def push(self) -> None:
        async with asyncio.timeout(50):
            await self.sharing.push(self.image, self._tell)

    async def _tell(self, item: BuildEvent) -> None:
        self.told.append(item)

    @property
    def said(self) -> str:
        return "".join(item.message for item in self.told)


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks()
    yield made
    await made.close()


@pytest.fixture
async def site(tasks: Tasks) -> AsyncIterator[Site]:
    async with (
        FakeRegistry() as own,
        FakeRegistry() as one,
        FakeRegistry() as two,
        aiohttp.ClientSession() as http,
    ):
        yield Site(own, one, two, http, tasks)


async def test_an_image_of_another_member_is_used_and_pushed_to_ones_own_registry(site: Site) -> None:
    site.two.manifests[f"theirs-{NAME}"] = OCI
    assert await site.fetch()
    host = site.two.url.removeprefix("http://")
    assert f"The image is at {host}; pulling it" in site.said
    assert site.image in site.engine.held
    # Until our own has it, no report says that others find it here.
    assert site.sharing.registry_of(site.image) is None
    await site.sharing.push_missing([site.image])
    assert f"manybinder-{NAME}" in site.own.manifests
    assert site.sharing.registry_of(site.image) == site.own.url.removeprefix("http://")


async def test_ones_own_registry_comes_first(site: Site) -> None:
    site.own.manifests[f"manybinder-{NAME}"] = site.one.manifests[f"manybinder-{NAME}"] = OCI
    assert await site.fetch()
    assert not site.one.asked
    assert site.sharing.registry_of(site.image) == site.own.url.removeprefix("http://")


async def test_what_nobody_has_is_to_be_built(site: Site) -> None:
    assert not await site.fetch()
    assert site.one.asked["HEAD"] == site.two.asked["HEAD"] == 1
    assert not site.told


@pytest.mark.parametrize("how", ["refuses", "hangs", "is gone", "is no registry"])
async def test_a_broken_one_keeps_nobody_from_the_others_nor_from_building(site: Site, how: str) -> None:
    """The dependency on another member's registry that once took a member down (mybinder.org-deploy#3295)."""
    site.one.status = 503 if how == "refuses" else None
    site.one.plain_404 = how == "is no registry"
    # Longer than the test waits: who has the image is not waited with.
    site.one.delay_s = 3600 if how == "hangs" else 0.0
    if how == "is gone":
        await site.one.__aexit__()
    site.two.manifests[f"theirs-{NAME}"] = OCI
    assert await site.fetch()
    assert site.image in site.engine.held
    if how != "hangs":
        # It is nobody's word that the image is there, nor is it a reason not to build.
        site.two.manifests.clear()
        assert not await site.fetch()


async def test_one_that_does_not_give_what_it_has_is_passed_over(site: Site) -> None:
    site.one.manifests[f"manybinder-{NAME}"] = OCI
    site.engine.broken = True
    assert not await site.fetch()


async def test_a_hanging_one_is_waited_for_once_up_to_its_own_deadline(
    tasks: Tasks,
) -> None:
    async with FakeRegistry() as own, FakeRegistry() as other, aiohttp.ClientSession() as http:
        other.delay_s = 3600
        read_from = [{"url": other.url, "timeout": "50ms"}]
        settings = OwnRegistrySettings.model_validate({"url": own.url, "read_from": read_from})
        engine = Engine()
        engine.registries = {other.url.removeprefix("http://"): other}
        sharing = Sharing(settings, f"{settings.host}/manybinder-", engine, http, tasks)  # type: ignore[arg-type]
        for _ in range(6):
            assert not await sharing.fetch(f"{settings.host}/manybinder-{NAME}", _nobody)
        assert other.asked["HEAD"] == 1


async def test_one_that_answers_again_is_asked_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing_module, "ASK_AGAIN_S", 0.05)
    site.one.manifests[f"manybinder-{NAME}"] = OCI
    site.one.status = 503
    assert not await site.fetch()
    site.one.status = None
    async with asyncio.timeout(50):
        while not await site.fetch():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", ["broken", "silent", "registry"])
async def test_what_cannot_be_pushed_serves_here_and_is_pushed_later(site: Site, how: str) -> None:
    if how == "registry":
        site.own.status = 503
    else:
        setattr(site.engine, how, True)
    site.engine.held.add(site.image)
    await site.push()
    assert "The image could not be pushed; it serves here only, for now: " in site.said
    await site.sharing.push_missing([site.image])
    assert site.sharing.registry_of(site.image) is None
    site.own.status, site.engine.broken, site.engine.silent = None, False, False
    await site.sharing.push_missing([site.image])
    assert f"manybinder-{NAME}" in site.own.manifests
    assert site.sharing.registry_of(site.image) == site.own.url.removeprefix("http://")


async def test_a_registry_that_is_only_read_gets_nothing(tasks: Tasks) -> None:
    async with FakeRegistry() as own, aiohttp.ClientSession() as http:
        settings = OwnRegistrySettings.model_validate({"url": own.url, "push": False})
        sharing = Sharing(settings, f"{settings.host}/manybinder-", Engine(), http, tasks)  # type: ignore[arg-type]
        await sharing.push(f"{settings.host}/manybinder-{NAME}", _nobody)
        await sharing.push_missing([f"{settings.host}/manybinder-{NAME}"])
        assert not own.asked


async def test_when_ones_own_registry_is_broken_nothing_is_built_whatever_others_have(site: Site) -> None:
    """A registry's error that is read as "not found", and causes a build."""
    site.own.status = 500
    site.one.manifests[f"manybinder-{NAME}"] = OCI
    with pytest.raises(BuildFailedError, match="Nothing can be built here now") as caught:
        await site.fetch()
    assert caught.value.failure is Failure.MEMBER


async def _nobody(_: object) -> None:
    """Nobody is told."""
