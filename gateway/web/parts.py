"""What handlers work with."""

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from contract.addresses import IPNetwork
from frontend.login import Login
from frontend.site import Site
from gateway.core.origins import origin
from gateway.core.ports import (
    AdmissionPort,
    AlertsPort,
    ArchiveCounts,
    FleetPort,
    JoiningPort,
    LaunchesPort,
    LogPort,
    RecordsPort,
    RedirectsPort,
    ReplicasPort,
    ReportsPort,
)
from gateway.core.signing import SigningKeys
from gateway.web.admin.operators import Operators
from providers.registry import Providers

#: ``proxy``: launches pass through this gateway; ``redirect``: visitors are sent to a member.
Mode = Literal["proxy", "redirect"]


@dataclass(frozen=True, slots=True)
class Parts:
    """The gateway as its web side sees it."""

    site: Site
    providers: Providers
    fleet: FleetPort
    launches: LaunchesPort
    reports: ReportsPort
    redirects: RedirectsPort
    replicas: ReplicasPort
    admission: AdmissionPort
    records: RecordsPort
    keys: SigningKeys
    joining: JoiningPort
    alerts: AlertsPort
    log: LogPort
    operators: Operators
    trusted_proxies: tuple[IPNetwork, ...]
    mode: Mode
    archive: ArchiveCounts | None
    login: Login | None = None
    """Visitors log in; ``None``: nobody does."""

    @property
    def admin_apart(self) -> bool:
        """Whether operators have a host of their own, where there is nothing else."""
        return origin(self.operators.public_url) != origin(self.site.public_url)

    def public_path(self, route: str) -> str:
        """Where visitors reach a route, from a page for operators."""
        return self.site.public_url + route if self.admin_apart else self.site.path(route)


PARTS = web.AppKey("PARTS", Parts)
