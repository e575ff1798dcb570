"""What handlers work with."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry

from frontend.login import Login
from frontend.site import Site
from member.core.ports import (
    BansPort,
    BuildLogsPort,
    CapacityPort,
    FederationsPort,
    HealthPort,
    LaunchesPort,
    LedgerPort,
)
from member.web.forwarding import Forwarding
from member.web.visitors import Visitors
from providers.registry import Providers


@dataclass(frozen=True, slots=True)
class Parts:
    """The member as its web side sees it.

    ``versions`` gives the answer of ``/versions``.  ``api_only``: no pages are served, and who wants no session may
    have an image built.
    """

    name: str
    site: Site
    providers: Providers
    launches: LaunchesPort
    health: HealthPort
    capacity: CapacityPort
    bans: BansPort
    logs: BuildLogsPort
    visitors: Visitors
    registry: CollectorRegistry
    image_prefix: str
    federations: FederationsPort
    ledger: LedgerPort
    forwarding: Forwarding
    versions: Callable[[], dict[str, object]]
    api_only: bool = False
    login: Login | None = None


PARTS = web.AppKey("PARTS", Parts)
