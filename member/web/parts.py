"""What handlers work with."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry

from frontend.site import Site
from member.core.ports import BansPort, CapacityPort, FederationsPort, HealthPort, LaunchesPort
from providers.registry import Providers


@dataclass(frozen=True, slots=True)
class Parts:
    """The member as its web side sees it.

    ``versions`` gives the answer of ``/versions``.
    """

    name: str
    site: Site
    providers: Providers
    launches: LaunchesPort
    health: HealthPort
    capacity: CapacityPort
    bans: BansPort
    registry: CollectorRegistry
    image_prefix: str
    federations: FederationsPort
    versions: Callable[[], dict[str, object]]


PARTS = web.AppKey("PARTS", Parts)
