"""What handlers work with."""

from dataclasses import dataclass

from aiohttp import web

from frontend.site import Site
from gateway.core.ports import FleetPort, LaunchesPort, ReportsPort
from gateway.core.settings import RoutingSettings
from providers.registry import Providers


@dataclass(frozen=True, slots=True)
class Parts:
    """The gateway as its web side sees it."""

    site: Site
    providers: Providers
    fleet: FleetPort
    launches: LaunchesPort
    reports: ReportsPort
    routing: RoutingSettings


PARTS = web.AppKey("PARTS", Parts)
