"""Wires the gateway up; no logic."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path

import aiohttp
from aiohttp import web

from frontend.login import Login
from frontend.settings import make_site
from gateway.clients.binderhub import BinderHubClient
from gateway.clients.guard import AddressGuard
from gateway.clients.kinds import Clients
from gateway.clients.log_file import LogFile, LogFileError
from gateway.clients.members import MemberClient
from gateway.clients.record_file import RecordFile, RecordFileError
from gateway.clients.state.connect import connect
from gateway.clients.state.protocol import Terms
from gateway.clients.state.sealing import FederationSeal, Pseudonyms
from gateway.clients.visitor_login import VisitorLogin
from gateway.core.alerts import Alerts
from gateway.core.origins import origin
from gateway.core.records import Book
from gateway.core.retries import RetryBudget
from gateway.core.settings import LaunchSettings
from gateway.core.signing import SigningKeys
from gateway.core.sticky import cookie_name
from gateway.core.tallies import Tallies
from gateway.engines.admission import Admission
from gateway.engines.archive import Archive, archive_directory
from gateway.engines.banning import LOOK_EVERY as ENFORCE_EVERY
from gateway.engines.banning import Banning
from gateway.engines.chronicle import LOOK_EVERY as WATCH_EVERY
from gateway.engines.chronicle import Chronicle
from gateway.engines.conformance import LOOK_EVERY as CHECK_EVERY
from gateway.engines.conformance import Conformance
from gateway.engines.draining import Draining
from gateway.engines.fleet import Fleet
from gateway.engines.joining import Joining
from gateway.engines.launches import Launches
from gateway.engines.log import WRITE_EVERY, Log
from gateway.engines.means import Means
from gateway.engines.policies import Policies
from gateway.engines.prober import Prober
from gateway.engines.proposals import Proposals
from gateway.engines.queue import LOOK_EVERY, LaunchQueue
from gateway.engines.quotas import PROLONG_EVERY, Quotas
from gateway.engines.records import SYNC_EVERY, Records
from gateway.engines.redirects import Redirects
from gateway.engines.registry import Registry, joined
from gateway.engines.reload import Reload
from gateway.engines.replicas import BEAT_EVERY, Replicas
from gateway.engines.reports import Reports
from gateway.engines.sharing import READ_EVERY, Sharing
from gateway.settings import GatewaySettings
from gateway.web import archive as archive_routes
from gateway.web.admin.operators import Operators
from gateway.web.parts import Parts
from gateway.web.routes import add_gateway_routes
from providers.registry import Providers
from servicekit import logs, serving
from servicekit.tasks import Tasks

#: Seconds for which the store keeps a finished launch longer than a replica does.
KEPT_LONGER = 300.0

RELOAD = web.AppKey("RELOAD", Reload)
DRAINING = web.AppKey("DRAINING", Draining)


class CannotStartError(RuntimeError):
    """This machine or these settings do not let the gateway start; the text says why."""


async def make_app(settings: GatewaySettings, path: Path | None = None) -> web.Application:
    """The gateway as an application, whose background work begins and ends with it.

    ``path`` is where its settings are read from again when ``app[RELOAD]`` is called.

    Raises :class:`CannotStartError`.  To be called in the event loop that will serve it; serve it with
    ``handler_cancellation=True``, so that a visitor's departure is noticed at once.
    """
    try:
        record_file = RecordFile(settings.data_dir / "records.sqlite3")
        known_records = record_file.load()
        log_file = LogFile(settings.data_dir / "log.sqlite3")
    except (RecordFileError, LogFileError) as error:
        raise CannotStartError(f"data_dir: {error}") from error
    # Streams last for as long as builds do, and there are many: no total, no limit.
    to_members = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    to_providers = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
    guard = AddressGuard(settings.joining)
    to_joined = aiohttp.ClientSession(
        connector=guard.connector(), timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
    )
    tasks, tallies = Tasks(), Tallies()
    members = [member.member() for member in settings.members]
    registered = joined(Book(known_records), [member.name for member in members])
    fleet = Fleet([*members, *(item.member() for item in registered.values())], settings.federation)
    alerts = Alerts(fleet.now)
    build_token_secrets = settings.build_token_secrets

    def launch_settings() -> LaunchSettings:
        return fleet.settings.launch

    client = Clients(
        {
            "manybinder": MemberClient(to_members, launch_settings),
            "binderhub": BinderHubClient(
                to_members, launch_settings, build_token_secrets, public_url=settings.public_url
            ),
        },
        guarded={"manybinder": MemberClient(to_joined, launch_settings)},
    )
    prober = Prober(fleet, client, tasks)
    providers = Providers(settings.providers, to_providers)
    directory = archive_directory(settings.archive, settings.data_dir)
    archive = Archive(directory, settings.archive.keep_days) if directory else None
    terms = Terms(keep=settings.launch.keep_finished + KEPT_LONGER)
    state = connect(settings.redis, terms)
    sharing = Sharing(state, terms, providers.parse, fleet.now)
    keys = SigningKeys(*settings.signing_keys)
    seal, pseudonym = FederationSeal(keys), Pseudonyms(keys.current)
    records = Records(record_file, known_records, state, seal, sharing.replica)
    admission = Admission(settings.admission, records, state, pseudonym)
    quotas = Quotas(state, fleet, lambda: admission.rules, pseudonym, providers.quota)
    queue = LaunchQueue(state, launch_settings, pseudonym, admission.counted_as)
    log = Log(log_file, records)
    fleet.noted = log.changed
    alerts.tell = log.alerted
    means = Means(
        fleet=fleet,
        prober=prober,
        client=client,
        providers=providers,
        keys=keys,
        public_url=settings.public_url,
        budget=RetryBudget(settings.launch, fleet.now()),
        tallies=tallies,
        tasks=tasks,
        sharing=sharing,
        queue=queue,
        quotas=quotas,
        pseudonym=pseudonym,
        refusal=admission.refusal,
        record=archive.record if archive else lambda _: None,
        decided=log.decided,
    )
    launches = Launches(means)
    redirects = Redirects(means, build_token_secrets)
    reports = Reports(fleet, settings.report_keys, tallies, alerts)
    own_version = version("manybinder")
    replicas = Replicas(
        sharing.replica,
        own_version,
        state,
        seal,
        fleet,
        reports,
        lambda: launches.running,
    )
    fleet.tell = reports.tell = replicas.tell
    chronicle = Chronicle(fleet, records, replicas)
    fleet.heard = chronicle.hear
    proposals = Proposals(records)
    reports.propose = proposals.hear
    banning = Banning(admission, launches, fleet, client, keys, settings.public_url, tasks)
    policies = Policies(records, fleet)
    registry = Registry(
        records.book,
        members,
        settings.report_keys,
        fleet=fleet,
        prober=prober,
        reports=reports,
        policies=policies,
    )
    joining = Joining(
        records=records,
        registry=registry,
        fleet=fleet,
        state=state,
        keys=keys,
        guard=guard,
        alerts=alerts,
        issuer=settings.public_url,
    )
    conformance = Conformance(
        records=records,
        registry=registry,
        fleet=fleet,
        client=client,
        providers=providers,
        session=to_joined,
        trusted=to_members,
        state=state,
        replica=sharing.replica,
        keys=keys,
        alerts=alerts,
        settings=lambda: guard.settings,
        issuer=settings.public_url,
        version=own_version,
        tasks=tasks,
        people=settings.visitors.oidc is not None,
    )
    redirecting = settings.mode == "redirect"
    site = make_site(
        settings.security_for_all_hosts,
        name=settings.name,
        public_url=settings.public_url,
        version=own_version,
        federation=True,
        about=settings.about,
        banner=settings.banner,
        face=settings.face,
        plain_launches=not redirecting,
        # In redirect mode pages follow builds at the members themselves.
        connect_origins=tuple(sorted({origin(member.url) for member in settings.members})) if redirecting else (),
        member_cookie=cookie_name(settings.public_url) if redirecting else "",
    )
    app = web.Application()
    app[archive_routes.DIRECTORY] = directory
    app[DRAINING] = Draining(launches, replicas, settings.drain.notice, settings.drain.timeout)
    operators = Operators(settings.admin, records, seal, settings.public_url, to_providers)
    parts = Parts(
        site=site,
        providers=providers,
        fleet=fleet,
        launches=launches,
        reports=reports,
        redirects=redirects,
        replicas=replicas,
        admission=admission,
        records=records,
        keys=keys,
        joining=joining,
        alerts=alerts,
        log=log,
        operators=operators,
        trusted_proxies=settings.listen.trusted_networks,
        mode=settings.mode,
        archive=archive,
        login=Login(site, VisitorLogin(settings.visitors.oidc, to_providers), seal) if settings.visitors.oidc else None,
    )
    add_gateway_routes(app, parts, settings.admin.public_url)

    async def background(_: web.Application) -> AsyncIterator[None]:
        policies.refresh()
        registry.refresh()
        prober.start()
        if archive:
            archive.start(tasks)
        tasks.every("expire reports", 1.0, fleet.tick)
        tasks.every("sweep launches", 1.0, launches.sweep)
        tasks.spawn("write launches", sharing.write_on())
        tasks.every("beat", BEAT_EVERY, replicas.beat)
        tasks.every("renew leases", terms.lease / 4, sharing.renew)
        tasks.every("follow launches", READ_EVERY, sharing.follow)
        tasks.every("share records", SYNC_EVERY, records.sync)
        tasks.every("write the log", WRITE_EVERY, log.write)
        tasks.every("enforce bans", ENFORCE_EVERY, banning.enforce)
        tasks.every("look for members to check", CHECK_EVERY, conformance.look)
        tasks.every("keep proposals", 1.0, proposals.keep)
        tasks.every("keep places under quotas", PROLONG_EVERY, quotas.prolong)
        tasks.every("look at the queue", LOOK_EVERY, queue.look)
        tasks.every("keep the history", WATCH_EVERY, chronicle.look)
        async with contextlib.AsyncExitStack() as stack:
            for close in (
                to_providers.close,
                to_members.close,
                to_joined.close,
                log.close,
                records.close,
                state.close,
                providers.close,
                chronicle.flush,
                tasks.close,
                *([archive.close] if archive else []),
                replicas.leave,
                launches.close,
            ):
                stack.push_async_callback(close)
            # No longer than the tasks run: whoever is new then is not probed any more.
            for refresh in (policies.refresh, registry.refresh):
                stack.callback(records.on_change(refresh))
            yield

    async def end_launches(_: web.Application) -> None:
        # Before open streams are waited for: each of them ends with an event that says why.
        await launches.close()

    if path is not None:
        app[RELOAD] = Reload(
            path,
            settings,
            registry,
            keys,
            guard,
            records,
            admission,
            operators.configure,
            build_token_secrets,
            tallies,
            providers,
        )
    app.cleanup_ctx.append(background)
    app.on_shutdown.append(end_launches)
    return app


async def serve(settings: GatewaySettings, path: Path) -> None:
    """Serve until SIGTERM (and the end of open streams) or SIGINT, reading the settings again on SIGHUP.

    Raises :class:`CannotStartError` or :class:`servicekit.serving.CannotListenError`.
    """
    app = await make_app(settings, path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app[RELOAD])
    listen = settings.listen
    await serving.serve(app, listen.host, listen.port, reuse_port=listen.reuse_port, drain=app[DRAINING])


def run(settings: GatewaySettings, path: Path) -> None:
    """Run the gateway as this process, until it is told to end; ``path`` is where the settings were read from.

    Raises :class:`CannotStartError` or :class:`servicekit.serving.CannotListenError`.
    """
    logs.configure(settings.log_level)
    asyncio.run(serve(settings, path))
