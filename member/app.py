"""Wires the member's API up; no logic."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from contract.signatures import load_private_key, load_public_key
from frontend.login import Login
from frontend.settings import make_site
from frontend.site import Site
from member.ban_proposals import proposals
from member.builders.choice import make_builder
from member.clients.hub import HubClient
from member.clients.hub_login import HubLogin
from member.clients.kubernetes import KubernetesError
from member.core.builds import BuildLimits
from member.core.membership import Membership, federation_name, issuer_of
from member.core.quotas import SessionLimits
from member.engines.bans import ENFORCE_EVERY_S, Bans
from member.engines.build_logs import BuildLogs
from member.engines.builds import Builds
from member.engines.capacity import Capacity
from member.engines.federations import Federations
from member.engines.health import FRESH_S, Health
from member.engines.hook import Hook
from member.engines.launch_log import LaunchLog
from member.engines.launches import Launches
from member.engines.ledger import Ledger, make_ledger
from member.engines.pressure import LOOK_EVERY_S, DiskPressure
from member.engines.reaper import Reaper
from member.engines.reporter import Reporter
from member.engines.servers import Servers
from member.joined import JoinedError
from member.joined_secret import SETTLE_EVERY_S, Keeping, keeping
from member.metrics import Metrics
from member.processes import hub_api_token
from member.settings import MemberSettings, is_loopback
from member.web.forwarding import Forwarding
from member.web.parts import Parts
from member.web.routes import add_member_routes
from member.web.visitors import Visitors
from providers.registry import Providers
from servicekit import logs, serving
from servicekit.sealing import Seal
from servicekit.tasks import Tasks

logger = logging.getLogger(__name__)

#: Seconds between two rounds of cleaning up.
_REAP_EVERY_S = 10.0
_CLEAN_EVERY_S = 60.0


class CannotStartError(RuntimeError):
    """This machine or these settings do not let the member start; the text says why."""


async def make_app(settings: MemberSettings) -> web.Application:
    """The member's API as an application, whose background work begins and ends with it.

    To be called in the event loop that will serve it.  Raises :class:`CannotStartError`.
    """
    builder = make_builder(settings)
    try:
        token = hub_api_token(settings)
        configured = _memberships(settings)
        hook = Hook(settings.launch.hook)
        await builder.start()
    except (RuntimeError, ValueError) as error:
        raise CannotStartError(str(error)) from error
    if not builder.confined and not is_loopback(settings.listen.host):
        await builder.close()
        raise CannotStartError(
            f"listen.host: {settings.listen.host} can be reached from elsewhere, and what runs of a repository would be"
            f" {builder.confinement_reason}; listen on 127.0.0.1, or make bubblewrap work"
        )
    http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    tasks, metrics = Tasks(), Metrics()
    providers = Providers(settings.providers, http)
    metrics.github_quota.set_function(lambda: math.nan if providers.github_quota is None else providers.github_quota)
    hub = HubClient(
        http,
        settings.hub.url,
        token,
        settings.hub.request_timeout,
        renewed=lambda: settings.hub.secret_now("api_token"),
    )
    health = Health(hub, builder)
    logs = _build_logs(settings)

    builds = Builds(builder, _build_limits(settings), logs, tasks=tasks, metrics=metrics)
    ledger = await _ledger(settings, health, builds, tasks)
    kept = await _keeping(settings)
    servers = Servers(
        hub,
        http,
        settings.launch,
        SessionLimits(settings.sessions.limit, settings.sessions.per_repo, settings.sessions.per_repo_higher),
        public_url=settings.hub.public_url,
        named_server_limit=settings.auth.named_server_limit_per_user,
        tasks=tasks,
        metrics=metrics,
        ledger=ledger,
    )
    launch_log = LaunchLog(settings.data_dir / "launches.jsonl", settings.public_url)
    pressure = DiskPressure(builder, settings.sessions.min_free_disk, metrics)
    launches = Launches(
        builds,
        servers,
        settings.launch,
        hook=hook,
        closed_for=lambda: pressure.reason,
        on_end=launch_log.record,
        named_servers=settings.auth_enabled and settings.auth.use_named_servers,
        tasks=tasks,
        metrics=metrics,
        ledger=ledger,
    )
    own_version, repo2docker_version = version("manybinder"), version("jupyter-repo2docker")

    def versions() -> dict[str, str]:
        return {"manybinder": own_version, "repo2docker": repo2docker_version, "hub": health.hub_version}

    capacity = Capacity(
        settings,
        hub=hub,
        health=health,
        builder=builder,
        builds=builds,
        launches=launches,
        versions=versions,
        prefixes=providers.prefixes,
        proposals=lambda: proposals(settings.data_dir),
        draining=lambda: pressure.draining,
        ledger=ledger,
    )
    own_bans, people = settings.admission.parsed_bans, settings.auth_enabled
    bans = Bans(settings.data_dir / "bans.json", hub, launches, own_bans, keep_users=people)
    federations = Federations(
        configured,
        settings.data_dir,
        interval=settings.joined.report_interval,
        leeway=settings.joined.clock_leeway,
        configure=lambda: _memberships(settings),
    )
    site = make_site(
        settings.security,
        name=settings.name,
        public_url=settings.public_url,
        version=own_version,
        face=settings.face,
    )
    parts = Parts(
        name=settings.name,
        site=site,
        providers=providers,
        launches=launches,
        health=health,
        capacity=capacity,
        bans=bans,
        logs=logs,
        visitors=Visitors(settings.listen.trusted_networks, settings.admission.rate_limit),
        registry=metrics.registry,
        api_only=settings.enable_api_only_mode,
        image_prefix=settings.image_prefix,
        federations=federations,
        ledger=ledger,
        forwarding=Forwarding(http, lambda: list(ledger.others)),
        login=_login(settings, site, http, hub) if settings.auth_enabled else None,
        versions=lambda: {
            "builder_info": dict(builder.info),
            "binderhub": f"manybinder {own_version}",
            "builder": builder.kind,
            "manybinder": own_version,
        },
    )
    app = web.Application()
    add_member_routes(app, parts)
    reaper = Reaper(hub, lambda: launches.servers, keep_users=people)

    def reporter(federation: str) -> Reporter:
        return Reporter(
            capacity,
            http,
            membership=lambda: federations.get(federation),
            metrics=metrics,
            heard=lambda notice: federations.heard(federation, notice),
            refused=federations.refused,
            ledger=ledger,
        )

    async def settle() -> None:
        try:
            await kept.settle()
        except JoinedError as error:
            logger.warning("%s", error)

    async def background(_: web.Application) -> AsyncIterator[None]:
        tasks.every("sweep launches", 1.0, launches.sweep)
        tasks.every("clear ended sessions away", _REAP_EVERY_S, reaper.sweep)
        tasks.every("look at the disk", LOOK_EVERY_S, pressure.look)
        # Who asks is then answered at once; and a Hub that hangs is known before anybody asks.
        tasks.every("check health", FRESH_S, health.checks)
        tasks.every("enforce bans", ENFORCE_EVERY_S, bans.enforce)
        tasks.every("forget old builds", _CLEAN_EVERY_S, builds.forget_old)
        tasks.every("remove old images", _CLEAN_EVERY_S, builder.clean)
        await _meet(ledger, end)
        tasks.every("settle what was joined with the other replicas", SETTLE_EVERY_S, settle)
        federations.start(tasks, reporter)
        yield
        await end()

    async def end() -> None:
        await launches.close()
        await ledger.close()
        await kept.close()
        await health.close()
        # Before the builds are cancelled: a builder may let them go on where they run.
        await builder.close()
        await tasks.close()
        await providers.close()
        launch_log.close()
        await http.close()

    async def end_launches(_: web.Application) -> None:
        # Before open streams are waited for: each of them ends with an event that says why.
        await launches.close()

    app.cleanup_ctx.append(background)
    app.on_shutdown.append(end_launches)
    return app


async def serve(settings: MemberSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises :class:`CannotStartError` or :class:`servicekit.serving.CannotListenError`.
    """
    await serving.serve(await make_app(settings), settings.listen.host, settings.listen.port)


def run(settings: MemberSettings) -> None:
    """Run the member's API as this process; raises as :func:`serve` does."""
    logs.configure(settings.log_level)
    asyncio.run(serve(settings))


async def _ledger(settings: MemberSettings, health: Health, builds: Builds, tasks: Tasks) -> Ledger:
    """Raises :class:`CannotStartError`."""
    try:
        return await make_ledger(settings, health, builds, tasks)
    except KubernetesError as error:
        raise CannotStartError(f"replicas: {error}") from error


async def _meet(ledger: Ledger, end: Callable[[], Awaitable[None]]) -> None:
    """Find the other replicas; raises :class:`CannotStartError`, after ``end``."""
    try:
        await ledger.start()
    except KubernetesError as error:
        await end()
        raise CannotStartError(f"replicas: {error}") from error


async def _keeping(settings: MemberSettings) -> Keeping:
    """Raises :class:`CannotStartError`."""
    try:
        return await keeping(settings)
    except JoinedError as error:
        raise CannotStartError(f"joined.secret: {error}") from error


def _build_limits(settings: MemberSettings) -> BuildLimits:
    return BuildLimits(
        slots=settings.builder.slots,
        per_repo=settings.builds.per_repo,
        queue=settings.builds.queue,
        timeout_s=settings.builder.longest_s,
        queue_timeout_s=settings.builds.queue_timeout,
        grace_s=settings.builds.grace,
        hold_s=settings.builds.hold,
        hold_most_s=settings.builds.hold_most,
    )


def _build_logs(settings: MemberSettings) -> BuildLogs:
    """Raises :class:`CannotStartError`."""
    logs = BuildLogs(
        settings.data_dir / "build-logs",
        settings.public_url,
        most_bytes=settings.builds.logs_disk,
        max_age_s=settings.builds.logs_max_age,
    )
    try:
        logs.start()
    except OSError as error:
        raise CannotStartError(f"cannot use the data directory {settings.data_dir}: {error}") from error
    return logs


def _login(settings: MemberSettings, site: Site, http: aiohttp.ClientSession, client: HubClient) -> Login:
    hub, auth = settings.hub, settings.auth
    provider = HubLogin(
        http,
        url=hub.url,
        public_url=hub.public_url,
        client_id=auth.client_id,
        service=auth.service,
        secret=lambda: client.token,
        timeout_s=hub.request_timeout,
    )
    # Who knows the Hub's token could make logins there as well.
    return Login(site, provider, Seal(client.token.encode(), "manybinder visitors' logins"))


def _memberships(settings: MemberSettings) -> list[Membership]:
    """The federations of the settings; raises ``ValueError`` with the setting at fault."""
    found = []
    for name, federation in settings.all_federations:
        keys: list[Ed25519PublicKey] = []
        for n, path in enumerate(federation.launch_keys_files):
            setting = f"{name}.launch_keys_files[{n}]"
            try:
                keys.append(load_public_key(path.read_text()))
            except OSError as error:
                raise ValueError(f"{setting}: cannot read {path}: {error.strerror}") from error
            except ValueError as error:
                raise ValueError(f"{setting}: {path} is {error}") from error
        try:
            report_key = load_private_key(federation.secret_now("report_key"))
        except ValueError as error:
            raise ValueError(f"{name}.report_key: {error}") from error
        issuer = issuer_of(federation.report_url)
        found.append(
            Membership(
                federation=federation_name(issuer),
                member=federation.member or settings.name,
                issuer=issuer,
                report_url=federation.report_url,
                keys=tuple(keys),
                report_key=report_key,
                share=federation.share,
                interval=federation.report_interval,
                leeway=federation.clock_leeway,
                require_launch_token=federation.require_launch_token,
            )
        )
    return found
