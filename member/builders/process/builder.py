"""The process builder, as the member sees it (:class:`member.builders.base.Builder`)."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from importlib.metadata import version

from contract.events import BuildEvent, Failure, Phase, event
from contract.reports import Check
from member.builders import machine
from member.builders.base import BuildFailedError, BuildRequest, BuiltImage, Resources
from member.builders.process import contents, steps
from member.builders.process.bases import BaseFailedError, Bases
from member.builders.process.interpreters import Interpreters
from member.builders.process.kind import find_confinement, own_settings
from member.builders.process.log import BoundedLog
from member.builders.process.site import Site
from member.builders.process.store import ImageMeta, Partial, Store
from member.builders.relay import Tell, relay
from member.confine import layers
from member.confine.confinement import Confinement
from member.confine.ending import to_its_end
from member.confine.files import remove_tree_async
from member.confine.limits import Limits, disk_usage
from member.confine.reaper import reap_sessions
from member.core import pythons
from member.core.environment import Plan, make_plan
from member.core.refusals import RepositoryError
from member.settings import MemberSettings
from providers.credentials import git_credentials
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds for which a base environment is kept that no image needs.
_UNUSED_BASE_S = 3600.0


class ProcessBuilder:
    """See the package; ``confinement`` is what works on this machine, if that is known already."""

    kind = "process"

    def __init__(self, settings: MemberSettings, confinement: Confinement | None = None) -> None:
        self._member, self._settings = settings, own_settings(settings)
        self._singleuser = settings.auth_enabled
        self._providers = settings.providers
        self._data_dir = settings.data_dir
        self._cache = self._settings.cache_dir or settings.data_dir / "uv-cache"
        self._store = Store(settings.data_dir)
        self._interpreters = Interpreters(
            settings.data_dir / "pythons", settings.data_dir, downloads=self._settings.python_downloads
        )
        self._tasks = Tasks()
        self._confinement = confinement
        self._bases: Bases | None = None

    @property
    def confined(self) -> bool:
        """Whether what runs of a repository is kept from the member's files and from other sessions."""
        return self._ready().confined

    @property
    def confinement_reason(self) -> str:
        """How commands are confined, or why not: a sentence for the operator."""
        return self._ready().reason

    @property
    def info(self) -> Mapping[str, str]:
        """Whose rules it reads repositories by."""
        return {"repo2docker-version": version("jupyter-repo2docker")}

    async def start(self) -> None:
        """Try what works here, clear away what a crash left; raises ``RuntimeError`` with a sentence."""
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._cache.mkdir(parents=True, exist_ok=True)
            if self._confinement is None:
                self._confinement = await asyncio.to_thread(find_confinement, self._member, self._data_dir)
            await asyncio.to_thread(self._store.start)
        except OSError as error:
            raise RuntimeError(f"cannot use the data directory {self._data_dir}: {error}") from error
        await self._interpreters.find()
        self._bases = Bases(self._store, self._confinement, self._cache, singleuser=self._singleuser)
        log = logger.info if self._confinement.confined else logger.warning
        log("builds and sessions are %s", self._confinement.reason)
        self._tasks.spawn("prepare for builds", self._prepare_default())

    async def close(self) -> None:
        """End what still runs in the background."""
        await self._tasks.close()

    async def has_image(self, image: str) -> bool:
        """Whether a session can start from this image now; it then counts as just used."""
        found = await asyncio.to_thread(self._store.meta, image, self._ready().mode)
        if found is not None:
            await asyncio.to_thread(self._store.touch, image)
        return found is not None

    async def build(self, request: BuildRequest) -> AsyncGenerator[BuildEvent, None]:
        """See :meth:`member.builders.base.Builder.build`."""

        async def job(tell: Tell) -> BuildFailedError | None:
            return await self._guarded(request, tell)

        async with contextlib.aclosing(relay(self._tasks, f"build {request.image[-60:]}", job)) as events:
            async for item in events:
                yield item

    async def images(self) -> Sequence[BuiltImage]:
        """What is there, the most recently used first."""
        return await asyncio.to_thread(self._store.images)

    async def clean(self) -> None:
        """Remove old images, by size and age, and nothing that a session uses."""
        await asyncio.to_thread(reap_sessions, self._data_dir)
        kept = 0
        oldest = time.time() - self._settings.images_max_age
        for image in await self.images():
            kept += image.size_bytes
            doomed = image.used_at < oldest or kept > self._settings.images_disk
            if doomed and await asyncio.to_thread(self._store.evict, image.image):
                kept -= image.size_bytes
                logger.info("removed the image %s", image.image)
        # A base is noted as used when a build begins with it, and is needed until that build has ended.
        await asyncio.to_thread(self._store.clear_unusable, _UNUSED_BASE_S + self._settings.timeout)

    async def checks(self) -> Sequence[Check]:
        """What it needs was found when it started."""
        return (Check("Builder", True, self.confinement_reason),)

    async def resources(self) -> Resources:
        """Those of this machine."""
        return await machine.resources(self._data_dir)

    def _ready(self) -> Confinement:
        if self._confinement is None:
            raise RuntimeError("the builder was not started")
        return self._confinement

    async def _prepare_default(self) -> None:
        """What most builds will need, before the first one does."""
        await steps.prepare_bytecode(self._data_dir / "pycache")
        default = pythons.matching(pythons.DEFAULT, self._interpreters.present)
        default = default or pythons.nearest(pythons.DEFAULT, self._interpreters.present)
        if default is None or self._bases is None:
            return
        try:
            await self._bases.ensure(default)
        except BaseFailedError as error:
            logger.error("the first base environment was not made: %s", error)  # noqa: TRY400 - the sentence says all

    async def _guarded(self, request: BuildRequest, tell: Tell) -> BuildFailedError | None:
        """Build; returns an expected failure, so that only an unexpected one counts as a crash."""
        error: BuildFailedError | None = None
        try:
            await self._build(request, tell)
        except BuildFailedError as failed:
            error = failed
        except RepositoryError as failed:
            error = BuildFailedError(Failure.USER, str(failed))
        except BaseFailedError as failed:
            error = BuildFailedError(Failure.MEMBER, str(failed))
        except OSError as failed:
            logger.exception("a build failed")
            error = BuildFailedError(Failure.MEMBER, f"The member could not build: {failed.strerror or failed}.")
        except Exception:
            logger.exception("a build failed for a reason that nobody expected")
            error = BuildFailedError(Failure.MEMBER, "The member could not build; its log says why.")
        return error

    async def _build(self, request: BuildRequest, tell: Tell) -> None:
        confinement = self._ready()
        if await self.has_image(request.image):
            return
        partial = Partial(self._store.directory(request.image))
        try:
            with BoundedLog(partial.path / "build.log") as log:

                async def say(phase: Phase, text: str) -> None:
                    log.write(text)
                    await tell(event(phase, text))

                limits = Limits(self._settings.memory, self._settings.processes, self._settings.disk)
                site = Site(
                    confinement,
                    partial.path,
                    self._cache,
                    self._data_dir / "pycache",
                    limits,
                    timeout_s=self._settings.timeout,
                    say=say,
                )
                await self._fetch(site, request)
                try:
                    plan = make_plan(await steps.detect(site))
                except RecursionError as error:
                    raise RepositoryError("The repository's configuration files are nested too deeply.") from error
                await self._install(site, plan)
            await self._complete(request, partial, site, plan)
        finally:
            await to_its_end(asyncio.to_thread(partial.discard))

    async def _fetch(self, site: Site, request: BuildRequest) -> None:
        source = contents.source_of(request, self._providers)
        if source is None:
            await steps.fetch(site, request, git_credentials(request.provider, request.repo_url, self._providers))
        else:
            await contents.fetch(site, request, source)

    async def _install(self, site: Site, plan: Plan) -> None:
        async def told(line: str) -> None:
            if not line.startswith(" + "):  # the hundred packages of JupyterLab
                await site.say(Phase.BUILDING, line + "\n")

        if self._bases is None:
            raise AssertionError("the builder was started")
        for note in plan.notes:
            await site.say(Phase.BUILDING, note)
        site.python = await self._choose(site, plan)
        if not self._bases.exists(site.python):
            text = f"Making the environment that every repository with Python {site.python.text} shares\n"
            await site.say(Phase.BUILDING, text)
        base = await self._bases.ensure(site.python, told)
        site.env = await to_its_end(asyncio.to_thread(layers.make, site.confinement, site.place / "env", [base]))
        await steps.install(site, plan)
        await steps.post_build(site, plan)
        await steps.prepare_start(site, plan)
        await steps.compile_bytecode(site, plan)

    async def _choose(self, site: Site, plan: Plan) -> pythons.Python:
        """The interpreter for a plan; raises :class:`BuildFailedError` or ``RepositoryError``."""
        pythons.check_wanted(plan.python)
        found = pythons.matching(plan.python, self._interpreters.present)
        worth_asking = found is None and plan.asked and pythons.can_download(plan.python)
        if worth_asking and await self._interpreters.fetch(plan.python):
            found = pythons.matching(plan.python, self._interpreters.present)
        if found is not None:
            return found
        substitute = pythons.nearest(plan.python, self._interpreters.present)
        if substitute is None or (plan.asked and self._settings.python == "exact"):
            # Another member may have it.
            absence = pythons.absence(plan.python, self._interpreters.present)
            raise BuildFailedError(Failure.MEMBER if pythons.can_download(plan.python) else Failure.USER, absence)
        if plan.asked:
            await site.say(Phase.BUILDING, pythons.substitution(plan.python, substitute))
        return substitute

    async def _complete(self, request: BuildRequest, partial: Partial, site: Site, plan: Plan) -> None:
        if site.python is None or site.env is None or self._bases is None:
            raise AssertionError("the build came to its end")
        for path in (site.tmp, site.place / "cache", site.place / "cache.work", site.env.work):
            if path is not None:
                await remove_tree_async(path)
        meta = ImageMeta(
            image=request.image,
            repo=request.repo,
            commit=request.commit,
            mode=site.confinement.mode,
            base=self._bases.key(site.python),
            python_version=site.python.text,
            python_executable=site.python.executable,
            python_prefix=site.python.prefix,
            start=plan.start,
            size_bytes=await disk_usage([partial.path]),
        )
        with contextlib.suppress(FileNotFoundError):
            # What another version or another mode made cannot be used any more.
            if await asyncio.to_thread(self._store.meta, request.image, site.confinement.mode) is None:
                await asyncio.to_thread(self._store.evict, request.image)
        if not await to_its_end(asyncio.to_thread(partial.complete, meta)) and not await self.has_image(request.image):
            # What was to be evicted is still there.
            raise BuildFailedError(Failure.MEMBER, "A session still uses an image of this name that is out of date.")
