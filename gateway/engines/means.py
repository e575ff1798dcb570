"""What launches on their way work with: the parts of the gateway, handed to each launch; nothing is done here."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.clients.kinds import Clients
from gateway.core.decision import Decision
from gateway.core.durations import Durations
from gateway.core.launch_events import FinishedLaunch
from gateway.core.retries import RetryBudget
from gateway.core.settings import LaunchSettings, RoutingSettings
from gateway.core.signing import SigningKeys
from gateway.core.tallies import Tallies
from gateway.engines.fleet import Fleet
from gateway.engines.prober import Prober
from gateway.engines.queue import LaunchQueue
from gateway.engines.quotas import Quotas
from gateway.engines.sharing import Sharing
from providers.base import RepoSpec
from providers.registry import Providers
from servicekit.tasks import Tasks


@dataclass(frozen=True)
class Means:
    """The same for all launches of a gateway."""

    fleet: Fleet
    prober: Prober
    client: Clients
    providers: Providers
    keys: SigningKeys
    public_url: str
    budget: RetryBudget
    tallies: Tallies
    tasks: Tasks
    sharing: Sharing
    queue: LaunchQueue
    quotas: Quotas
    pseudonym: Callable[[str], str]
    """Names a client for members that may not know its address."""
    refusal: Callable[[RepoSpec, str], str | None]
    """What a client is told whose launch of a repository is banned by now."""
    durations: Durations = field(default_factory=Durations)
    draw: Callable[[], float] = random.random
    wall: Callable[[], float] = time.time
    record: Callable[[FinishedLaunch], None] = lambda _: None
    """Takes each launch that has ended."""
    decided: Callable[[str, Decision], None] = lambda _launch, _decision: None
    """Takes each decision that a launch follows, with the launch's short id."""

    @property
    def settings(self) -> LaunchSettings:
        """How long a launch waits, as of now."""
        return self.fleet.settings.launch

    @property
    def routing(self) -> RoutingSettings:
        """How a member is chosen, as of now."""
        return self.fleet.settings.routing
